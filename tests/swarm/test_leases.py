"""Programs of two machines and one instance of a swarm: no command twice, none lost, whoever is suspended when.

covers: B11
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from cc_bridge import ClaudeStartError, SwarmService
from cc_bridge.cluster.claim import Note
from cc_bridge.cluster.service_note import NOTE
from cc_bridge.engine.client import Engine
from cc_bridge.engine.services import Services
from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel
from tests.chaos import leased
from tests.chaos.two_programs import play
from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]

#: Seconds of a lease: Swarm takes some twenty milliseconds for each step.
TTL = 1.0

COMMANDS = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", 16))
MANY = max(COMMANDS, 1000)


@pytest.mark.long
@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(COMMANDS, marks=pytest.mark.timeout(120 + COMMANDS * 3)),
        pytest.param(MANY, marks=[pytest.mark.thorough, pytest.mark.timeout(120 + MANY * 3)]),
    ],
)
async def test_no_command_twice_and_none_lost(
    swarm_node: Cluster,
    cluster: Cluster,
    make_service: Callable[..., Any],
    node_model: ScriptedModel,
    tmp_path: Path,
    commands: int,
) -> None:
    service = await make_service(ephemeral=False)
    try:
        await service.start()
        programs = {}
        async with AsyncExitStack() as stack:
            for name in ("one", "two"):
                programs[name] = await start(service.name, name, commands // 2, node_model, tmp_path)
                stack.push_async_callback(programs[name].aclose)
            await play(programs, commands // 2, TTL, random.Random(1), node_model)
        found = await Services(Engine()).inspect(service.service)
        note = Note.read(found.labels[NOTE])
        assert (note.owner, note.next) == ("", ""), "it was given up"
        assert found.replicas == 1
    finally:
        await service.remove(conversation=True)


async def test_a_start_that_fails_at_another_machine_removes_nothing(
    swarm_node: Cluster,
    cluster: Cluster,
    make_service: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is new to one machine is not new."""

    async def fail(*_: object, **__: object) -> None:
        raise ClaudeStartError("this machine cannot")

    service = await make_service(ephemeral=False)
    try:
        assert await service.send_command_and_wait("[[say one]]", 90) == (True, "one")
        made = (await Services(Engine()).inspect(service.service)).id
        await service.sleep()
        other = await SwarmService.find(service.name, registry=Registry(tmp_path / "other"))
        monkeypatch.setattr(other._place, "launch", fail)
        with pytest.raises(ClaudeStartError):
            await (await other.submit("[[say nothing]]")).result()
        await other.release()
        assert await service.send_command_and_wait("[[say two]]", 90) == (True, "two")
        assert (await Services(Engine()).inspect(service.service)).id == made
    finally:
        await service.remove(conversation=True)


async def start(name: str, machine: str, count: int, model: ScriptedModel, tmp_path: Path) -> Process:
    """A program of a machine of its own."""
    env = {**os.environ, "CC_BRIDGE_HOME": str(tmp_path / machine), "PYTHONPATH": str(Path.cwd())}
    words = ["swarm", name, json.dumps(model.claude_env()), str(TTL), machine, str(count)]
    argv = [sys.executable, leased.__file__, *words]
    with (tmp_path / f"{machine}.log").open("wb") as log:
        return await anyio.open_process(argv, stdout=subprocess.PIPE, stderr=log, env=env)
