"""What an operator of a swarm does by the command. covers: B11"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import Registry, TurnResult
from cc_bridge.engine.client import Engine
from cc_bridge.engine.nodes import Nodes
from cc_bridge.errors import PlacementFailed
from cc_bridge.instances.drain import Moved, drain
from cc_bridge.instances.service_plan import SEALED_NETWORK
from cc_bridge.state import Installation
from cc_bridge.testing import ScriptedModel
from tests.command import cc
from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]


async def test_prune_removes_what_no_record_names_and_nobody_elses(
    swarm_node: Cluster, cluster: Cluster, make_service: Callable[..., Any]
) -> None:
    """A service, its volumes, config and network; what another installation has made is not even shown."""
    instance = await make_service(ephemeral=False, network="none")
    await instance.start()
    await instance.release()
    api, install = swarm_node.manager.client.api, Installation.at(Registry().root).id
    shared = ("config", "network")
    others = {"cc-bridge.install": "another", "cc-bridge.instance": "x", "cc-bridge.type": "service"}
    api.create_volume("another-home", labels=others)

    def shown() -> list[tuple[str, str]]:
        rows = json.loads(cc("prune", "--volumes", "--dry-run", "--json").stdout)
        return [(row["kind"], row["name"]) for row in rows if install in row["name"] or row["kind"] in shared]

    assert shown() == []
    shutil.rmtree(Registry().home(instance.name).path)
    service = instance.service
    (config,) = (config["Spec"]["Name"] for config in api.configs())
    expected = [("service", service), *(("volume", f"{service}-{of}") for of in ("home", "state", "workspace"))]
    assert sorted(shown()) == sorted([*expected, ("config", config), ("network", SEALED_NETWORK)])
    done = cc("prune", "--volumes", "--force")
    assert (done.returncode, "stay" in done.stderr) == (0, False), done.stderr
    assert not api.networks(names=[SEALED_NETWORK])
    assert swarm_node.left() == [f"volume another-home on {swarm_node.manager.name}"]
    api.remove_volume("another-home")


@pytest.mark.thorough
async def test_a_node_is_drained_by_another_machine(
    swarm_node: Cluster,
    cluster: Cluster,
    make_service: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which has one of the same name. The other's stays until its copies are seen, and no ended turn is lost."""
    told: list[Moved] = []
    monkeypatch.setenv("CC_BRIDGE_CONVERSATIONS", str(tmp_path / "shared"))
    theirs = await make_service(ephemeral=False, registry=Registry(tmp_path / "there"))
    monkeypatch.delenv("CC_BRIDGE_CONVERSATIONS")
    name = theirs.name
    mine = await make_service(ephemeral=False, name=name)
    engine = Engine()
    node = await Nodes(engine).inspect(swarm_node.manager.id)
    try:
        assert await theirs.send_command_and_wait("[[say one]]", 60) == (True, "one")
        async for event in await theirs.submit("[[say the last words]]"):
            if isinstance(event, TurnResult):
                break  # and so does not wait for the copy
        await theirs.release()
        assert await mine.send_command_and_wait("[[say mine]]", 60) == (True, "mine")
        await mine.release()

        assert not await drain(engine, node, 60, told.append)
        moved, stayed = sorted(told)
        assert moved == (name, "")
        assert "CC_BRIDGE_CONVERSATIONS" in stayed.why
        assert set(swarm_node.running(mine.service)) == set()
        assert set(swarm_node.running(theirs.service)) == {swarm_node.manager.name}

        monkeypatch.setenv("CC_BRIDGE_CONVERSATIONS", str(tmp_path / "shared"))
        assert await drain(engine, node, 60, told.append)
        assert told[2:] == [(name, "")]
        _, conversation = await theirs.open_conversation()
        with conversation:
            assert b"the last words" in conversation.read()
    finally:
        swarm_node.activate(swarm_node.manager)
        for item in (mine, theirs):
            await item.remove(conversation=True)
        await engine.aclose()


def test_doctor_says_what_is_wrong_with_a_node(swarm_node: Cluster, cluster: Cluster) -> None:
    """A machine of one node is in order; one that has been paused is told, with what to do."""
    done = cc("doctor", "--swarm", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    name = f"node {swarm_node.manager.name}"
    assert (done.returncode, list(checks)) == (0, ["manager", "agent", name])
    assert "the manager's own, in " in checks[name]["found"]
    assert checks["manager"]["state"] == checks["agent"]["state"] == "ok"
    swarm_node.drain(swarm_node.manager)
    try:
        assert f"cc-bridge node activate {swarm_node.manager.name}" in cc("doctor", "--swarm").stdout
    finally:
        swarm_node.activate(swarm_node.manager)


def test_doctor_without_a_swarm() -> None:
    done = cc("doctor", "--swarm")
    assert done.returncode == 1
    assert "no manager of a swarm" in done.stdout
    assert "docker swarm init" in done.stdout


@pytest.fixture
def make_image(swarm_node: Cluster, images: Any) -> Iterator[Callable[[str, str], str]]:
    """Makes an image for the node: a name, and what is other than in the one that all have."""
    api, made = swarm_node.manager.client.api, []

    def make(name: str, change: str) -> str:
        scratch = api.create_container(images.claude, ["true"])
        api.commit(scratch, name, "1", changes=change)
        api.remove_container(scratch)
        made.append(f"{name}:1")
        return made[-1]

    yield make
    for image in made:
        api.remove_image(image, force=True)


@pytest.mark.long
async def test_an_image_is_renewed_and_the_conversation_goes_on(
    make_image: Callable[[str, str], str],
    cluster: Cluster,
    make_service: Callable[..., Any],
    node_model: ScriptedModel,
) -> None:
    """By another program than the one that drives it, which goes on with it."""
    instance, image = await make_service(ephemeral=False), make_image("test-next", "ENV NEXT=1")
    try:
        assert await instance.send_command_and_wait("[[say one]] the first words", 60) == (True, "one")
        done = cc("update", "--image", image, instance.name)
        assert (done.returncode, done.stdout) == (0, f"{instance.name}\n"), done.stderr
        assert await instance.send_command_and_wait("[[say two]] the second words", 60) == (True, "two")
        assert "the first words" in str(node_model.requests[-1].body["messages"])
        assert (await instance.exec(["printenv", "NEXT"])).stdout == b"1\n"
        assert Registry().load(instance.name).image == image
    finally:
        await instance.remove(conversation=True)


@pytest.mark.long
@pytest.mark.thorough
async def test_an_image_in_which_nothing_runs_is_taken_back(
    make_image: Callable[[str, str], str], cluster: Cluster, make_service: Callable[..., Any]
) -> None:
    """The next one has not begun."""
    instance, other = await make_service(ephemeral=False), await make_service(ephemeral=False)
    before, image = instance.record.image, make_image("test-broken", "ENV PATH=/nowhere")
    try:
        assert await instance.send_command_and_wait("[[say one]]", 60) == (True, "one")
        await other.start()
        done = cc("update", instance.name, other.name, "--image", image)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert f"0 done, {instance.name} has failed, 1 not begun" in done.stderr
        assert [Registry().load(item.name).image for item in (instance, other)] == [before, before]
        assert await instance.send_command_and_wait("[[say two]]", 60) == (True, "two")
    finally:
        for item in (instance, other):
            await item.remove(conversation=True)


async def test_a_project_has_so_many_in_the_whole_swarm(swarm_node: Cluster, make_service: Callable[..., Any]) -> None:
    limit = {"project": f"web-{os.getpid()}", "most_in_project": 1, "ephemeral": False}
    one, other = await make_service(**limit), await make_service(**limit)
    try:
        await one.start()
        with pytest.raises(PlacementFailed, match=f"may have 1 in this swarm, and has {one.name}"):
            await other.start()
        await one.stop()
        assert await other.send_command_and_wait("[[say one]]", 60) == (True, "one")
        assert not await one.is_running()
    finally:
        for instance in (one, other):
            await instance.remove(conversation=True)
