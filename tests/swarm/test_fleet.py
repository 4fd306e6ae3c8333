"""A fleet whose instances are a swarm's. covers: B11"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import ClaudeInstance, Waiting
from cc_bridge.fleet import Fleet, Template
from cc_bridge.instances.factory import instance_of
from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel
from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]


@pytest.mark.long
@pytest.mark.thorough
async def test_who_sleeps_gives_back_what_its_node_has_reserved(
    cluster: Cluster, node_model: ScriptedModel, images: Any, state_root: Path
) -> None:
    """A node with room for one: a spare is taken, a command to another scales it to 0, and it goes on later."""
    memory = int(cluster.manager.client.info()["MemTotal"]) * 2 // 3
    fields = {"kind": "swarm", "image": images.claude, "env": node_model.claude_env(), "network": "host"}
    templates = {"chat": Template({**fields, "reserve_memory": memory}, spares=1)}
    registry = Registry(state_root)
    async with Fleet(registry=registry, most_awake=1, templates=templates) as fleet:
        with anyio.fail_after(120):
            while not fleet.spares["chat"]:
                await anyio.sleep(0.05)
            one = await fleet.make_from("chat", "swarm-one")
            assert await one.send_command_and_wait("[[say one]] the first words", 60) == (True, "one")
            other = await fleet.make_from("chat", "swarm-other")
            assert await other.send_command_and_wait("[[say other]]", 25) == (True, "other")
            assert (await one.get_info())["status"] == "stopped"
            assert await one.send_command_and_wait("[[say two]]", 60) == (True, "two")
            assert "the first words" in str(node_model.requests[-1].body["messages"])
        for name in fleet.names():
            await fleet.remove(name, conversation=True)
    for name in registry.names():  # a spare that was begun
        await instance_of(registry.load(name)).remove(conversation=True)


@pytest.mark.long
@pytest.mark.thorough
async def test_where_no_node_has_room_another_one_sleeps(
    cluster: Cluster, node_model: ScriptedModel, images: Any, state_root: Path
) -> None:
    """Nobody has said how many may be awake: Swarm says that it is full."""
    memory = int(cluster.manager.client.info()["MemTotal"]) * 2 // 3
    fields = {"kind": "swarm", "image": images.claude, "env": node_model.claude_env(), "network": "host"}
    names = ("swarm-one", "swarm-other")
    async with Fleet(registry=Registry(state_root)) as fleet:
        one, other = (fleet.adopt(ClaudeInstance.of(name=name, reserve_memory=memory, **fields)) for name in names)
        with anyio.fail_after(120):
            assert await one.send_command_and_wait("[[say one]]", 60) == (True, "one")
            assert await other.send_command_and_wait("[[say other]]", 25) == (True, "other")
            assert (await one.get_info())["status"] == "stopped"
            busy = await other.submit("[[say begun]] [[delay 8]] [[say ended]]")
            await anext(busy)
            waits = await one.submit("[[say at last]]")
            assert await anext(waits) == Waiting(1)
            assert (await busy.result()).text == "begunended"
            assert (await waits.result()).text == "at last"
        for name in names:
            await fleet.remove(name, conversation=True)


@pytest.mark.long
@pytest.mark.thorough
async def test_spares_are_spread_over_the_nodes(
    swarm: Cluster, cluster: Cluster, node_model: ScriptedModel, images: Any, state_root: Path
) -> None:
    fields = {"kind": "swarm", "image": images.claude, "env": node_model.claude_env(), "network": "host"}
    registry = Registry(state_root)
    async with Fleet(registry=registry, templates={"chat": Template(fields, spares=3)}) as fleet:
        with anyio.fail_after(120):
            while fleet.spares["chat"] < 3:
                await anyio.sleep(0.05)
        where = [(await instance_of(registry.load(name)).get_info())["node"] for name in registry.names()]
    assert sorted(where) == sorted(node.name for node in swarm.nodes)
    for name in registry.names():
        await instance_of(registry.load(name)).remove(conversation=True)
