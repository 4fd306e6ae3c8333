"""Clusters for tests: one machine for the run, or three for a test that has something befall them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from cc_bridge import SwarmService
from cc_bridge.instances.bridged import InstanceOptions
from cc_bridge.testing import ScriptedModel
from tests.conftest import lacking
from tests.swarm.cluster import HEARTBEAT, Cluster
from tests.swarm.machine import PROGRAMS

_OPTIONS = set(InstanceOptions.__annotations__)


@pytest.fixture(scope="session")
def machines() -> None:
    """This machine can make machines."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        lacking("swarm", f"{missing[0]} is not installed" if missing else "only root can make network namespaces")


@pytest.fixture(scope="session")
def one_node(machines: None, images: Any) -> Iterator[Cluster]:
    """A swarm of one machine, which all tests of this process share."""
    with Cluster(1, [images.claude]) as cluster:
        yield cluster


@pytest.fixture
def swarm_node(one_node: Cluster) -> Iterator[Cluster]:
    """A swarm of one machine, with nothing in it; what a test leaves there fails it."""
    yield one_node
    _check(one_node)


@pytest.fixture
def swarm(machines: None, images: Any, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A swarm of three machines, of this test's own; what is left on those that have power fails it.

    Parameter: seconds between a node's signs of life.
    """
    with Cluster(3, [images.claude], heartbeat=getattr(request, "param", HEARTBEAT)) as cluster:
        yield cluster
        _check(cluster)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The one that the test has, which is what `Engine()` finds, over TLS."""
    name = "swarm" if "swarm" in request.fixturenames else "swarm_node"
    found: Cluster = request.getfixturevalue(name)
    for key, value in found.environment.items():
        monkeypatch.setenv(key, value)
    return found


@pytest.fixture
def node_model(request: pytest.FixtureRequest) -> Iterator[ScriptedModel]:
    """A scripted model that containers in the test's cluster reach."""
    name = "swarm" if "swarm" in request.fixturenames else "swarm_node"
    with ScriptedModel(request.getfixturevalue(name).gateway) as model:
        yield model


MakeService = Callable[..., Awaitable[SwarmService]]


@pytest.fixture
async def make_service(
    cluster: Cluster, node_model: ScriptedModel, make_record: Callable[..., Any], images: Any
) -> AsyncIterator[MakeService]:
    """Makes services in the test's cluster; removes them afterwards."""
    made: list[SwarmService] = []

    async def make(env: dict[str, str] | None = None, again: Any = None, **fields: Any) -> SwarmService:
        options = {name: fields.pop(name) for name in (*_OPTIONS, "client") if name in fields}
        env = {**node_model.claude_env(), **(env or {})}
        like = {"kind": "swarm", "image": images.claude, "network": "host", "workspace": None, "env": env, **fields}
        made.append(SwarmService(again.record if again else make_record(**like), **options))
        return made[-1]

    yield make
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as group:  # Swarm takes its time for each
            for instance in made:
                group.start_soon(instance.cleanup)


def _check(cluster: Cluster) -> None:
    left = cluster.left()
    cluster.clear()
    assert not left, f"left behind: {left}"
