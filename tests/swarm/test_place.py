"""An instance in a swarm: one conversation, its tools, its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, Registry, SwarmService
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


@pytest.mark.thorough
async def test_it_is_removed_and_made_again(make_service: MakeService, node_model: ScriptedModel) -> None:
    """The conversation is kept meanwhile, and put into the new one's volumes."""
    instance = make_service()
    await instance.send_command_and_wait("the first words", 60)
    await instance.remove()
    again = make_service(name=instance.name)
    assert (await again.send_command_and_wait("the second words", 60))[0]
    assert "the first words" in str(node_model.requests[-1].body["messages"])


async def test_a_program_of_another_machine_goes_on(
    make_service: MakeService,
    node_model: ScriptedModel,
    swarm_node: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has another state directory, and sees the same copies."""
    monkeypatch.setenv("CC_BRIDGE_CONVERSATIONS", str(tmp_path / "shared"))
    instance = make_service()
    await instance.send_command_and_wait("the first words", 60)
    session = (await instance.get_info())["session_id"]
    await instance.release()
    there = Registry(tmp_path / "there")
    client, env = swarm_node.manager.client, node_model.claude_env()
    other = await SwarmService.find(instance.name, client, env=env, registry=there)
    assert await other.send_command_and_wait("[[say there]] the second words", 60) == (True, "there")
    assert "the first words" in str(node_model.requests[-1].body["messages"])
    await other.stop()
    assert (await other.send_command_and_wait("the third words", 60))[0]
    assert (await other.get_info())["session_id"] == session
    await other.remove(conversation=True)
    await other.release()
    assert not list((tmp_path / "shared").iterdir())
