"""An instance in a swarm: one conversation, its tools, its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, SwarmService
from cc_bridge.testing import ScriptedModel
from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]

MakeService = Callable[..., SwarmService]


@pytest.fixture
async def make_service(
    swarm_node: Cluster, make_record: Callable[..., ClaudeInstance], node_model: ScriptedModel, images: Any
) -> AsyncIterator[MakeService]:
    made: list[SwarmService] = []

    def make(**fields: Any) -> SwarmService:
        fields = {"image": images.claude, "workspace": None, "ephemeral": False, **fields}
        record = make_record(kind="swarm", env=node_model.claude_env(), **fields)
        made.append(SwarmService(record, swarm_node.manager.client))
        return made[-1]

    yield make
    for instance in made:
        await instance.remove(conversation=True)
        await instance.cleanup()


async def test_a_conversation(make_service: MakeService) -> None:
    """In a container with volumes of its own, by exec; it outlives its task, and leaves nothing."""
    instance = make_service()
    assert await instance.send_command_and_wait("[[say from a node]] the first words", 60) == (True, "from a node")
    info = await instance.get_info()
    assert (info["channel"], info["status"]) == ("exec", "running")
    assert await instance.is_running()
