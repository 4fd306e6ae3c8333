"""Sealed instances in a swarm: Swarm makes no container without a network, and so it is taken away. covers: B5, B11"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, SwarmService
from cc_bridge.instances.isolation import try_isolation
from cc_bridge.protocol.command_line import ClaudeOptions
from cc_bridge.testing import ScriptedModel
from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]

KEY = "sk-ant-api03-the-real-one"


@pytest.mark.thorough
async def test_a_turn_without_a_network_and_without_a_key(
    swarm_node: Cluster,
    root: Path,
    make_record: Callable[..., ClaudeInstance],
    scripted_model: ScriptedModel,
    images: Any,
) -> None:
    """Over the attached exec; also in the next task, whose container is another. covers: B22, T6"""
    record = make_record(
        kind="swarm",
        image=images.claude,
        workspace=None,
        ephemeral=False,
        sealed=True,
        claude=ClaudeOptions(allowed_tools=("Bash",)),
        env={**scripted_model.claude_env(), "ANTHROPIC_API_KEY": KEY},
    )
    async with SwarmService(record, swarm_node.manager.client) as instance:
        prompt = '[[tool Bash {"command": "ls /sys/class/net; getent hosts example.com; echo it"}]][[say done]]'
        assert await instance.send_command_and_wait(prompt, 60) == (True, "done")
        assert scripted_model.keys == {KEY}
        outcomes = [outcome async for outcome in try_isolation(await instance.get_tools(), record)]
        # An engine can be asked for this of a service since version 25 of it; a set-user-ID program gains nothing here.
        assert [outcome.tries for outcome in outcomes if not outcome.held] in (
            [],
            ["gain them by a set-user-ID program"],
        )
        await instance.stop()
        assert await instance.send_command_and_wait("[[say again]]", 60) == (True, "again")
        found = await instance.exec(["ls", "/sys/class/net"])
        assert found.stdout.split() == [b"lo"]
        await instance.remove()
