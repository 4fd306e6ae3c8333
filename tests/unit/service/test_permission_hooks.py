"""What webhooks are told of permission requests: by a real desk and a real store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import PermissionRequest, PermissionRules
from cc_bridge.fleet.desk import Desk
from cc_bridge.fleet.permission_paths import Place
from cc_bridge.fleet.rules import Rules
from cc_bridge.instance import Allow
from cc_bridge.service import permission_hooks
from cc_bridge.service.deliveries import Deliveries
from cc_bridge.service.permission_hooks import tell_of_permissions
from cc_bridge.service.store import Outgoing, Store, StoreUnavailable

pytestmark = pytest.mark.anyio


class Told(Deliveries):
    """Deliveries that nobody makes: what is queued is looked at."""

    changed = anyio.Event()

    def wake(self) -> None:
        self.changed.set()

    async def until(self, number: int) -> list[Any]:
        """Bodies, when so many are queued; each is taken."""
        bodies: list[Any] = []
        with anyio.fail_after(60):
            while len(bodies) < number:
                self.changed = anyio.Event()
                due = await self._webhooks.due(datetime.now(UTC))
                for delivery in due:
                    bodies.append(json.loads(delivery.body))
                    await self._webhooks.delivered(delivery.id)
                if not due:
                    await self.changed.wait()
        return bodies


@asynccontextmanager
async def desk_at(path: Path) -> AsyncIterator[Desk]:
    place = Place("/shop", "/home/me", lambda path: path)
    desk = Desk(path, rules=lambda instance: Rules(PermissionRules(), place))
    yield desk
    desk.close()


@pytest.fixture
async def deliveries(tmp_path: Path) -> AsyncIterator[Told]:
    async with Store.open(f"sqlite:///{tmp_path}/service.db") as store:
        deliveries = Told(store.webhooks)
        await deliveries.begin()
        await deliveries.add("https://bot.test/", "s", events=["permission_*"])
        yield deliveries


def request(number: int = 1, **given: Any) -> PermissionRequest:
    return PermissionRequest(f"r{number}", "Bash", {"command": "ls", **given}, ())


async def test_who_holds_no_stream_is_told_what_waits_and_what_became_of_it(tmp_path: Path, deliveries: Told) -> None:
    async with desk_at(tmp_path / "desk") as desk, anyio.create_task_group() as group:
        group.start_soon(tell_of_permissions, desk, deliveries)
        await anyio.lowlevel.checkpoint()
        group.start_soon(desk.decide, "demo", "t", request())
        (asked,) = await deliveries.until(1)
        assert (asked["type"], asked["instance"], asked["turn"]) == ("permission_asked", "demo", "t")
        assert (asked["tool"], asked["input"]) == ("Bash", {"command": "ls"})
        desk.answer(asked["id"], Allow(), by="me")
        (decided,) = await deliveries.until(1)
        assert (decided["type"], decided["id"], decided["allowed"]) == ("permission_decided", asked["id"], True)
        assert decided["by"] == "me"
        scope = anyio.CancelScope()
        group.start_soon(partial(within, scope, desk, request(2)))
        (second,) = await deliveries.until(1)
        scope.cancel()
        desk.end_turn("demo", "t")
        (moot,) = await deliveries.until(1)
        assert (moot["type"], moot["id"]) == ("permission_moot", second["id"])
        desk.close()


async def within(scope: anyio.CancelScope, desk: Desk, asked: PermissionRequest) -> None:
    with scope:
        await desk.decide("demo", "t", asked)


async def test_what_waited_before_is_told_again_by_the_same_id(tmp_path: Path, deliveries: Told) -> None:
    ids = []
    for _ in range(2):
        async with desk_at(tmp_path / "desk") as desk, anyio.create_task_group() as group:
            group.start_soon(desk.decide, "demo", "t", request())
            await anyio.wait_all_tasks_blocked()
            group.start_soon(tell_of_permissions, desk, deliveries)
            ids += [asked["id"] for asked in await deliveries.until(1)]
            group.cancel_scope.cancel()
    assert ids[0] == ids[1]


async def test_a_long_input_is_left_to_be_asked_for(tmp_path: Path, deliveries: Told) -> None:
    async with desk_at(tmp_path / "desk") as desk, anyio.create_task_group() as group:
        group.start_soon(tell_of_permissions, desk, deliveries)
        group.start_soon(desk.decide, "demo", "t", request(text="x" * 100_000))
        (asked,) = await deliveries.until(1)
        assert asked["input"] is None
        group.cancel_scope.cancel()


async def test_a_database_that_is_away_is_told_when_it_is_back(
    tmp_path: Path, deliveries: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, tries = deliveries._webhooks.queue, 0

    async def queue(outgoing: list[Outgoing]) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailable("away")
        await really(outgoing)

    monkeypatch.setattr(deliveries._webhooks, "queue", queue)
    monkeypatch.setattr(permission_hooks, "_PAUSE", 0.01)
    async with desk_at(tmp_path / "desk") as desk, anyio.create_task_group() as group:
        group.start_soon(tell_of_permissions, desk, deliveries)
        group.start_soon(desk.decide, "demo", "t", request())
        assert len(await deliveries.until(1)) == 1
        group.cancel_scope.cancel()
