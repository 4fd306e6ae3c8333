"""A conversation of a swarm's outlives the machine that had it. covers: B11"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, TextDelta, TurnResult, Verdict, Waiting
from cc_bridge.fleet import Fleet
from cc_bridge.instances.conversation_copy import ConversationCopy
from cc_bridge.instances.swarm_service import SwarmService
from cc_bridge.testing import ScriptedModel
from tests.swarm.cluster import Cluster, Node

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]

LIMIT = 90.0


@pytest.fixture
async def instance(
    swarm: Cluster,
    make_record: Callable[..., ClaudeInstance],
    node_model: ScriptedModel,
    images: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[SwarmService]:
    """On one of two workers."""
    monkeypatch.setenv("DOCKER_CERT_PATH", str(swarm.certificates))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    where: Any = {"constraints": ("node.role==worker",), "workspace": None}
    record = make_record(kind="swarm", image=images.claude, ephemeral=False, env=node_model.claude_env(), **where)
    made = SwarmService(record, swarm.manager.client)
    yield made
    await made.remove(conversation=True)
    await made.cleanup()


async def tell(instance: SwarmService, text: str) -> None:
    ok, said = await instance.send_command_and_wait(text, LIMIT)
    assert ok, said


async def node_of(instance: SwarmService, swarm: Cluster) -> Node:
    name = (await instance.get_info())["node"]
    return swarm.node(name)


def heard(model: ScriptedModel) -> str:
    return json.dumps(model.requests[-1].body["messages"])


@pytest.mark.thorough
@pytest.mark.timeout(300)
async def test_it_goes_on_where_its_node_has_lost_its_power(
    instance: SwarmService, swarm: Cluster, node_model: ScriptedModel
) -> None:
    """Also back at the first node, whose disk has what was said when it died, and nothing of what was said since."""
    await tell(instance, "the first words")
    first = await node_of(instance, swarm)
    turn = await instance.submit("[[say well]] [[hang]]")
    async for event in turn:
        if isinstance(event, TextDelta):
            break
    waiting = await instance.submit("words that waited")
    async for event in waiting:
        if isinstance(event, Waiting):
            break
    swarm.kill(first)
    result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "well")
    assert (await waiting.result()).verdict is Verdict.INTERRUPTED
    await tell(instance, "the second words")
    assert "the first words" in heard(node_model)
    second = await node_of(instance, swarm)
    assert second.name != first.name

    swarm.boot(first)
    swarm.await_back(first)
    swarm.kill(second)
    await tell(instance, "the third words")
    assert (await node_of(instance, swarm)).name == first.name
    assert "the second words" in heard(node_model)
    assert "[[hang]]" not in heard(node_model), "the turn that was cut off is what the dead machine's disk had"
    await tell(instance, "the fourth words")
    assert "that waited" not in heard(node_model), "it was in that machine's journal"
    swarm.boot(second)
    swarm.await_back(second)


@pytest.mark.parametrize("in_fleet", [False, True])
async def test_a_turn_is_interrupted_where_its_container_ends_before_the_copy(
    swarm_node: Cluster,
    cluster: Cluster,
    make_service: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    in_fleet: bool,
) -> None:
    """It was said, and where it goes on nobody knows of it."""
    async with Fleet() if in_fleet else nullcontext() as fleet:
        instance = await make_service()
        await tell_one_that_is_not_copied(fleet.adopt(instance.record) if fleet else instance, swarm_node, monkeypatch)
        await instance.remove(conversation=True)


async def tell_one_that_is_not_copied(
    instance: SwarmService, swarm_node: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = instance._swarm._copy

    async def killed(execs: Any, container: str, *about: Any) -> bool:
        swarm_node.manager.client.containers.get(container).kill()
        return bool(await ConversationCopy.copy(copy, execs, container, *about))

    with monkeypatch.context() as patch:
        patch.setattr(copy, "copy", killed)
        result = [event async for event in await instance.submit("[[say one]]")][-1]
        assert isinstance(result, TurnResult)
        assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "one")
        assert "before the conversation was copied" in result.error
    assert await instance.send_command_and_wait("[[say two]]", 60) == (True, "two")
