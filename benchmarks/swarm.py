"""A service of a swarm beside a container of this machine: a turn, the death of its node, and a hundred of them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
from anyio import to_thread

from cc_bridge import ClaudeInstance, DockerContainer, SwarmService
from cc_bridge.engine.client import Engine
from cc_bridge.engine.services import Services
from cc_bridge.events import TextDelta, TurnResult
from cc_bridge.instances.registry import Registry
from cc_bridge.instances.swarm_place import SwarmPlace
from cc_bridge.protocol.link import Link
from tests.swarm.cluster import Cluster, Node
from tests.swarm.machine import PROGRAMS

from .figures import Sheet
from .first_token import PROMPT, Act, in_blocks, one_turn
from .stage import default_image, milli, scripted_model

TITLE = "a service of a swarm, driven over TLS from outside of it, beside a container of this machine"

#: What a command to a service may take longer until the first token than one by an attached exec here, in ms: it takes
#: the lease, which the managers write to their disks.
MOST = 20.0

#: Of a node.
DEATHS = 4

#: Services at once, and how many are made at a time.
MANY, AT_ONCE = 100, 8

#: As Swarm has it where nobody says otherwise.
HEARTBEAT = 5.0

WORKER = ("node.role==worker",)

PIPES = "DockerContainer, over pipes"
EXEC = "DockerContainer, by attached exec"
SWARM = "SwarmService, by attached exec over TLS"


class _ByExec(DockerContainer):
    """Pipes are not to be had."""

    @property
    def _has_pipes(self) -> bool:
        return False


def _record(kind: str, name: str, image: str, env: dict[str, str], **fields: Any) -> ClaudeInstance:
    like = {"kind": kind, "image": image, "network": "host", "env": env, "ephemeral": True}
    return ClaudeInstance.of(name=f"bench-{os.getpid()}-{name}", **like, **fields)


@contextmanager
def _driven(cluster: Cluster) -> Iterator[None]:
    """Who looks for an engine finds the swarm's manager."""
    with patch.dict(os.environ, cluster.environment):
        yield


def _model(cluster: Cluster) -> str:
    return f"""
import sys
from cc_bridge.testing import ScriptedModel
with ScriptedModel({cluster.gateway!r}) as model:
    print(model.url, flush=True)
    sys.stdin.read()
"""


async def run(sheet: Sheet) -> None:
    async with default_image() as image:
        if not image or os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)):
            sheet.note("no engine answers here, or no network namespaces are to be had: no swarm")
            return
        began = time.perf_counter()
        with Cluster(3, [image], heartbeat=HEARTBEAT) as cluster, scripted_model(_model(cluster)) as env:
            passed = time.perf_counter() - began
            sheet.note(
                f"three engines in namespaces of this machine, and a swarm over them, were there in {passed:.1f} s"
            )
            await _turns(sheet, cluster, image, env)
            await _deaths(sheet, cluster, image, env)
            await _many(sheet, cluster, image, env)


async def _turns(sheet: Sheet, cluster: Cluster, image: str, env: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch, "work")
        workspace.mkdir()
        Path(scratch).chmod(0o755)
        workspace.chmod(0o777)
        async with AsyncExitStack() as stack:
            turns: dict[str, Act] = {}
            for name, kind in ((PIPES, DockerContainer), (EXEC, _ByExec)):
                record = _record("docker", f"local-{len(turns)}", image, env, workspace=workspace)
                turns[name] = partial(one_turn, await stack.enter_async_context(kind(record)))
            stack.enter_context(_driven(cluster))  # from here on: the others have found their engine
            service = SwarmService(_record("swarm", "turns", image, env, workspace=None, constraints=WORKER))
            copied: list[float] = []
            turns[SWARM] = partial(_whole_turn, await stack.enter_async_context(service), copied)
            times, added = await in_blocks(turns, PIPES)
    firsts = {name: milli(times[name][0]) for name in turns}
    pipes = sheet.add(f"first token: {PIPES}", firsts[PIPES], "ms")
    by_exec = sheet.add(f"first token: {EXEC}", firsts[EXEC], "ms", pipes)
    sheet.add(f"first token: {SWARM}", firsts[SWARM], "ms", by_exec)
    beside = [there - here for there, here in zip(added[SWARM], added[EXEC], strict=True)]
    sheet.add("first token: added by the lease and the way", milli(beside), "ms", most=MOST)
    whole = sheet.add(f"end: {PIPES}", milli(times[PIPES][1]), "ms")
    sheet.add(f"end: {SWARM}", milli(times[SWARM][1]), "ms", whole)
    sheet.add("end: the same, until the conversation is copied", milli(copied), "ms", whole)


async def _whole_turn(instance: SwarmService, copied: list[float]) -> tuple[float, float]:
    """As `one_turn`; goes on after the result until the conversation is copied, or the next turn would wait for it."""
    began, first, end = time.perf_counter(), 0.0, 0.0
    async for event in instance.stream(PROMPT):
        if isinstance(event, TextDelta) and not first:
            first = time.perf_counter() - began
        if isinstance(event, TurnResult):
            end = time.perf_counter() - began
    copied.append(time.perf_counter() - began)
    return first, end


async def _deaths(sheet: Sheet, cluster: Cluster, image: str, env: dict[str, str]) -> None:
    placed, told, answered, ours = [], [], [], []
    with _driven(cluster):
        async with SwarmService(_record("swarm", "deaths", image, env, workspace=None, constraints=WORKER)) as instance:
            for _ in range(DEATHS):
                await one_turn(instance)
                node = cluster.node((await instance.get_info())["node"])
                turn = await instance.submit("[[say begun]] [[hang]]")
                async for event in turn:
                    if isinstance(event, TextDelta):
                        break
                clock, began = time.time(), time.perf_counter()
                cluster.kill(node)
                await turn.result()
                told.append(time.perf_counter() - began)
                await one_turn(instance)
                answered.append(time.perf_counter() - began)
                placed.append(await _placed(instance.service) - clock)
                ours.append(answered[-1] - placed[-1])
                await _revive(cluster, node)
    swarm = sheet.add("a node dies: until Swarm runs a new container", placed, "s")
    sheet.add("a node dies: until the turn is told to be interrupted", told, "s", swarm)
    sheet.add("a node dies: until the next answer", answered, "s", swarm, most=1.5)
    sheet.add("a node dies: of this, after Swarm's part", ours, "s", swarm)
    sheet.note(
        f"a node is given up after three of its heartbeats, one each {HEARTBEAT:g} s, as Swarm has it by default"
    )


async def _placed(service: str) -> float:
    """When the container of a service began to run that runs now, as its node has said."""
    engine = Engine()
    try:
        task = await Services(engine).until_running(service, 10)
        client = await engine.client()
        said = (await engine.call(client.api.inspect_task, task.id))["Status"]["Timestamp"]
        return datetime.fromisoformat(said[:26] + "+00:00").timestamp()
    finally:
        await engine.aclose()


async def _revive(cluster: Cluster, node: Node) -> None:
    await to_thread.run_sync(cluster.boot, node)
    await to_thread.run_sync(cluster.await_back, node)


async def _many(sheet: Sheet, cluster: Cluster, image: str, env: dict[str, str]) -> None:
    """Containers with their agents, without Claude Code, which would measure memory."""
    with _driven(cluster):
        engine = Engine()
        plain = await _each(partial(_plain, engine, image))
        await to_thread.run_sync(cluster.clear)
        registry = Registry()
        places = [
            SwarmPlace(_record("swarm", f"many-{number}", image, env, workspace=None), registry, engine)
            for number in range(MANY)
        ]
        ours = await _each(lambda number: _connected(places[number]))
        spread = sum(1 for node in cluster.nodes if node.client.containers.list())
        async with anyio.create_task_group() as crowd:
            for place in places:
                crowd.start_soon(_removed, place)
        await engine.aclose()
    base = sheet.add(f"{MANY} services of one container that does nothing", plain, "s")
    sheet.add(f"{MANY} instances: container, agent and a connection", ours, "s", base)
    sheet.add("engines among which they were spread", spread, "engines")


async def _each(act: Any) -> float:
    """Seconds until all are there."""
    began = time.perf_counter()
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            await act(number)

    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(one, number)
    return time.perf_counter() - began


async def _plain(engine: Engine, image: str, number: int) -> None:
    container = {"Image": image, "Command": ["sleep", "inf"], "Init": True, "Healthcheck": {"Test": ["NONE"]}}
    spec = {"Name": f"plain-{number}", "TaskTemplate": {"ContainerSpec": container, "Networks": [{"Target": "host"}]}}
    made = await Services(engine).create({**spec, "Mode": {"Replicated": {"Replicas": 1}}})
    await Services(engine).until_running(made.id, 120)


async def _connected(place: SwarmPlace) -> None:
    link = Link()
    link.greet()
    channel = await place.connect(link.data_to_send())
    await channel.aclose()


async def _removed(place: SwarmPlace) -> None:
    await place.remove()
    await place.release()
