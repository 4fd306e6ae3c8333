"""Taking a node out of service. covers: B11"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from cc_bridge import TextDelta, Verdict
from cc_bridge.engine.client import Engine
from cc_bridge.engine.node_engines import ENGINE_LABEL
from cc_bridge.engine.nodes import Nodes
from cc_bridge.instances.drain import Moved, drain
from tests.command import cc
from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]


@pytest.mark.thorough
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_node_is_drained_and_no_turn_is_lost(
    swarm: Cluster, cluster: Cluster, make_service: Callable[..., Any]
) -> None:
    """An idle instance goes at once, one with a turn after it; both are at another node for their next commands."""
    idle, busy = await make_service(ephemeral=False), await make_service(ephemeral=False)
    left = swarm.nodes[1]
    told: list[Moved] = []
    async with aclosing(Engine()) as engine:
        nodes = Nodes(engine)
        others = [node for node in await nodes.list() if node.id != left.id]
        for node in others:
            await nodes.update(node.id, availability="pause")
        assert await idle.send_command_and_wait("[[say one]]", 90) == (True, "one")
        turn = await busy.submit("[[say the beginning ]] [[delay 6]] [[say and the end]]")
        while not isinstance(await anext(turn), TextDelta):
            pass
        for node in others:
            await nodes.update(node.id, availability="active")
        node = await nodes.inspect(left.id)
        assert not await drain(engine, node, 0.5, told.append)
        assert {name: bool(why) for name, why in told} == {idle.name: False, busy.name: True}
        assert (await nodes.inspect(left.id)).availability == "pause"
        listed = json.loads(cc("node", "list", "--json").stdout)
        assert {node["id"]: node["instances"] for node in listed}[left.id] == [busy.name]
        async with anyio.create_task_group() as group:

            async def read() -> None:
                result = await turn.result()
                assert (result.verdict, result.text) == (Verdict.COMPLETED, "the beginning and the end")

            group.start_soon(read)
            assert await drain(engine, node, 60, told.append)
        assert (await nodes.inspect(left.id)).availability == "drain"
        for instance in (idle, busy):
            assert await instance.send_command_and_wait("[[say two]]", 90) == (True, "two")
            assert (await instance.get_info())["node"] != node.hostname
        assert cc("node", "activate", node.hostname).returncode == 0
        assert (await nodes.inspect(left.id)).availability == "active"
    for instance in (idle, busy):
        await instance.remove(conversation=True)


@pytest.mark.long
async def test_a_node_is_reached_by_ssh(
    swarm: Cluster, cluster: Cluster, ssh_server: str, make_service: Callable[..., Any]
) -> None:
    node = swarm.nodes[1]
    swarm.label(node, {ENGINE_LABEL: ssh_server + node.socket})
    instance = await make_service(constraints=(f"node.hostname=={node.name}",))
    assert await instance.send_command_and_wait("[[say from afar]]", 90) == (True, "from afar")
    assert (await instance.get_info())["node"] == node.name
    assert (await instance.exec(["cat", "/proc/sys/kernel/hostname"])).exit_code == 0
    await instance.remove(conversation=True)


@pytest.mark.thorough
@pytest.mark.long
def test_doctor_tells_a_node_that_is_there_and_that_the_managers_do_not_hear(swarm: Cluster, cluster: Cluster) -> None:
    node = swarm.nodes[1]
    swarm.label(node, {ENGINE_LABEL: f"unix://{node.socket}"})
    swarm.partition(node)
    swarm.await_state(node, "down")
    done = cc("doctor", "--swarm")
    swarm.heal(node)
    assert done.returncode == 1
    assert "it is down for the managers, but its engine answers" in done.stdout, done.stdout
    swarm.await_back(node)
