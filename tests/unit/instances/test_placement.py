"""What is asked of Swarm where others ask it for something else at the same moment. covers: B11"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from cc_bridge.engine.labels import LABEL
from cc_bridge.engine.node_engines import NodeEngines
from cc_bridge.engine.services import ServiceInfo, Services, TaskInfo
from cc_bridge.errors import EngineUnavailable, PlacementFailed, SwarmConflict
from cc_bridge.instances.placement import Placement
from cc_bridge.logs import Log

pytestmark = pytest.mark.anyio


def task(name: str, *, runs: bool) -> TaskInfo:
    state, desired = ("running", "running") if runs else ("complete", "shutdown")
    return TaskInfo(name, "id", "n", state, desired, "", f"c-{name}", None if runs else 0, "2026")


class FakeServices(Services):
    """One service at a manager; ``meanwhile`` is what another program does while the tasks are looked at."""

    def __init__(self, *tasks: TaskInfo, replicas: int = 1) -> None:
        self.service = ServiceInfo("id", "s", 7, replicas, {}, "i", "", {})
        self.found = list(tasks)
        self.forced = 0
        self.meanwhile: Callable[[], None] | None = None
        self.fails: PlacementFailed | None = None
        self.others: list[ServiceInfo] = []

    def change(self, **fields: Any) -> None:
        self.service = self.service.replace(version=self.service.version + 1, **fields)

    async def inspect(self, name: str) -> ServiceInfo:
        return self.service

    async def labelled(self, labels: Mapping[str, str]) -> list[ServiceInfo]:
        assert labels == {f"{LABEL}.type": "service", f"{LABEL}.project": "web"}
        return [self.service, *self.others]

    async def tasks(self, service: str) -> list[TaskInfo]:
        found = list(self.found)
        if self.meanwhile is not None:
            self.meanwhile()
        return found

    async def update(self, service: ServiceInfo, **fields: Any) -> ServiceInfo:
        if service.version != self.service.version:
            raise SwarmConflict("somebody else has changed it at the same moment")
        self.forced += fields.pop("force", False)
        self.change(**fields)
        return self.service

    async def until_running(self, service: str, limit: float, *, full_limit: float = 0.0) -> TaskInfo:
        assert self.fails is not None
        raise self.fails


def placement_of(services: FakeServices, **limit: Any) -> Placement:
    placement = Placement(
        cast("NodeEngines", type("Nodes", (), {"manager": None})), "s", "ann", "", Log("ann", "swarm"), **limit
    )
    placement._services = services
    return placement


async def test_one_that_has_ended_is_run_anew() -> None:
    services = FakeServices(task("old", runs=False))
    ending = await placement_of(services).want(services.service, "")
    assert ending is not None
    assert services.forced == 1


async def test_what_another_program_has_started_meanwhile_is_left() -> None:
    """It was seen as it had ended; to run it anew now would end the turn that the other's task has by now."""
    services = FakeServices(task("old", runs=False))

    def started() -> None:
        services.meanwhile = None
        services.found.insert(0, task("new", runs=True))
        services.change()

    services.meanwhile = started
    await placement_of(services).want(services.service, "")
    assert services.forced == 0


async def test_who_is_stopped_meanwhile_is_started() -> None:
    services = FakeServices(task("old", runs=False))

    def stopped() -> None:
        services.meanwhile = None
        services.change(replicas=0)

    services.meanwhile = stopped
    await placement_of(services).want(services.service, "")
    assert (services.service.replicas, services.forced) == (1, 0)


async def test_a_service_that_others_change_again_and_again_is_given_up() -> None:
    services = FakeServices(task("old", runs=False))
    services.meanwhile = services.change
    with pytest.raises(SwarmConflict):
        await placement_of(services).want(services.service, "")


@pytest.mark.parametrize("pending", [True, False], ids=["pending", "failed"])
async def test_what_finds_no_node_is_not_tried_for_ever(pending: bool) -> None:
    """Else it came up some time later, for nobody."""
    services = FakeServices()
    services.fails = PlacementFailed("no room", pending=pending, full=pending)
    with pytest.raises(PlacementFailed) as caught:
        await placement_of(services).until_running(1, full_limit=1, is_new=False)
    assert (caught.value.pending, caught.value.full) == (pending, pending)
    assert services.service.replicas == 0


def other(name: str, replicas: int) -> ServiceInfo:
    return ServiceInfo(name, name, 7, replicas, {}, "i", "", {})


@pytest.mark.parametrize("running", [1, 2])
async def test_a_project_has_no_more_than_it_may(running: int) -> None:
    services = FakeServices(replicas=0)
    services.others = [other("a", 1), other("b", running - 1), other("c", 0)]
    placement = placement_of(services, project="web", most=2)
    if running == 1:
        await placement.want(services.service, "")
    else:
        with pytest.raises(PlacementFailed, match="web may have 2 in this swarm, and has a, b"):
            await placement.want(services.service, "")
    assert services.service.replicas == 2 - running


async def test_who_begins_at_the_same_moment_as_another_one_takes_it_back() -> None:
    services = FakeServices(replicas=0)
    services.others = [other("a", 0)]
    update = services.update

    async def both(service: ServiceInfo, **fields: Any) -> ServiceInfo:
        services.others = [other("a", 1)]
        return await update(service, **fields)

    services.update = both  # type: ignore[method-assign]
    with pytest.raises(PlacementFailed, match="web may have 1 in this swarm, and has a"):
        await placement_of(services, project="web", most=1).want(services.service, "")
    assert services.service.replicas == 0


async def test_what_cannot_be_taken_back_is_told_by_the_log_and_the_limit_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    services = FakeServices(replicas=0)
    update = services.update

    async def once(service: ServiceInfo, **fields: Any) -> ServiceInfo:
        if fields["replicas"] == 0:
            raise EngineUnavailable("the manager has gone")
        services.others = [other("a", 1)]
        return await update(service, **fields)

    services.update = once  # type: ignore[method-assign]
    with pytest.raises(PlacementFailed, match="web may have 1 in this swarm, and has a"):
        await placement_of(services, project="web", most=1).want(services.service, "")
    assert "the manager has gone" in caplog.text


async def test_of_those_who_begin_at_once_as_many_run_as_may() -> None:
    all_of_them = [FakeServices(replicas=0) for _ in range(3)]
    begun = []

    async def begin(services: FakeServices, name: str) -> None:
        services.service = services.service.replace(name=name, id=name)
        update = services.update

        async def slow(service: ServiceInfo, **fields: Any) -> ServiceInfo:
            await checkpoint()
            return await update(service, **fields)

        async def labelled(labels: Mapping[str, str]) -> list[ServiceInfo]:
            await checkpoint()
            return [other.service for other in all_of_them]

        services.update, services.labelled = slow, labelled  # type: ignore[method-assign]
        with suppress(PlacementFailed):
            await placement_of(services, project="web", most=2).want(services.service, "")
            begun.append(name)

    async with anyio.create_task_group() as group:
        for number, services in enumerate(all_of_them):
            group.start_soon(begin, services, f"s-{number}")
    assert len(begun) == 2
    assert sum(services.service.replicas for services in all_of_them) == 2
