"""What befalls the machines of a swarm while an instance answers, or between two answers. covers: B11"""

from __future__ import annotations

import json

import anyio
import pytest
from anyio import to_thread

from cc_bridge import SwarmService, TextDelta, Turn, TurnResult, Verdict
from cc_bridge.testing import ScriptedModel
from tests.swarm.cluster import Cluster, Node
from tests.swarm.conftest import MakeService

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm, pytest.mark.timeout(240)]

LIMIT = 90.0

WORKER = ("node.role==worker",)

#: Seconds; Swarm's own.
SLOW_HEARTBEAT = 5.0


async def node_of(instance: SwarmService, cluster: Cluster) -> Node:
    return cluster.node((await instance.get_info())["node"])


async def until_said(turn: Turn, word: str) -> None:
    with anyio.fail_after(LIMIT):
        async for event in turn:
            if isinstance(event, TextDelta) and word in event.text:
                return
    raise AssertionError(f"{word!r} was not said")


def heard(model: ScriptedModel) -> str:
    return json.dumps(model.requests[-1].body["messages"])


@pytest.mark.thorough
@pytest.mark.parametrize("kill", [False, True])
async def test_the_engine_of_a_node_is_started_anew(
    swarm: Cluster, make_service: MakeService, node_model: ScriptedModel, kill: bool
) -> None:
    """Its containers end with it: the turn is interrupted, and the conversation goes on in the next container."""
    instance = await make_service(constraints=WORKER)
    assert await instance.send_command_and_wait("[[say noted]] the first words", LIMIT) == (True, "noted")
    node = await node_of(instance, swarm)
    turn = await instance.submit("[[say begun]] [[hang]]")
    await until_said(turn, "begun")

    await to_thread.run_sync(lambda: swarm.restart(node, kill=kill))

    with anyio.fail_after(LIMIT):
        result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "begun")
    assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
    assert "the first words" in heard(node_model)
    await to_thread.run_sync(lambda: swarm.await_back(node))  # or what it has of the instance could not be removed


@pytest.mark.thorough
async def test_a_node_is_drained(swarm: Cluster, make_service: MakeService, node_model: ScriptedModel) -> None:
    instance = await make_service(constraints=WORKER)
    assert await instance.send_command_and_wait("[[say noted]] the first words", LIMIT) == (True, "noted")
    node = await node_of(instance, swarm)

    swarm.drain(node)

    assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
    assert (await node_of(instance, swarm)).name != node.name
    assert "the first words" in heard(node_model)


@pytest.mark.thorough
async def test_a_node_is_cut_off_and_comes_back(
    swarm: Cluster, make_service: MakeService, node_model: ScriptedModel
) -> None:
    """What is answered there meanwhile goes to nobody; nothing of it is left when it is back."""
    instance = await make_service(constraints=WORKER)
    first = await instance.submit("[[say noted]] the first words")
    async for event in first:
        if isinstance(event, TurnResult):
            break  # and so does not wait for what comes after the result
    node = await node_of(instance, swarm)
    turn = await instance.submit("[[say begun]] [[delay 3]] [[say unheard]]")
    await until_said(turn, "begun")

    swarm.partition(node)

    with anyio.fail_after(LIMIT):
        result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "begun")
    assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
    assert "the first words" in heard(node_model)
    assert (await node_of(instance, swarm)).name != node.name
    swarm.heal(node)
    swarm.await_back(node)
    assert await instance.send_command_and_wait("[[say still there]]", LIMIT) == (True, "still there")


@pytest.mark.thorough
async def test_a_turn_goes_on_when_its_node_is_back_before_anybody_gives_it_up(
    swarm: Cluster, make_service: MakeService
) -> None:
    instance = await make_service(constraints=WORKER)
    await instance.start()
    node = await node_of(instance, swarm)
    turn = await instance.submit("[[say begun]] [[delay 2]] [[say , and done]]")
    await until_said(turn, "begun")

    swarm.partition(node)
    await anyio.sleep(1)  # less than what a node may be silent
    swarm.heal(node)

    with anyio.fail_after(LIMIT):
        assert (await turn.result()).text == "begun, and done"


@pytest.mark.thorough
async def test_a_node_stands_still(swarm: Cluster, make_service: MakeService, node_model: ScriptedModel) -> None:
    """Its connections stay open, and nobody answers."""
    instance = await make_service(constraints=WORKER)
    assert await instance.send_command_and_wait("[[say noted]] the first words", LIMIT) == (True, "noted")
    node = await node_of(instance, swarm)
    turn = await instance.submit("[[say begun]] [[hang]]")
    await until_said(turn, "begun")

    swarm.stop(node)

    with anyio.fail_after(LIMIT):
        result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "begun")
    assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
    assert "the first words" in heard(node_model)
    swarm.cont(node)
    await to_thread.run_sync(lambda: swarm.await_back(node))


@pytest.mark.thorough
@pytest.mark.parametrize("swarm", [SLOW_HEARTBEAT], indirect=True)  # or a busy machine's nodes are given up with it
async def test_the_manager_is_started_anew_under_a_turn(swarm: Cluster, make_service: MakeService) -> None:
    """The turn is at another node, and nobody there asks it."""
    instance = await make_service(constraints=WORKER)
    await instance.start()
    turn = await instance.submit("[[say begun]] [[delay 8]] [[say , and done]]")
    await until_said(turn, "begun")

    await to_thread.run_sync(lambda: swarm.restart(swarm.manager))

    with anyio.fail_after(LIMIT):
        assert (await turn.result()).text == "begun, and done"
    assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
