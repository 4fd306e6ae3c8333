"""What an operator of a swarm does by the command. covers: B11"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from cc_bridge import Registry
from cc_bridge.state import Installation
from tests.command import cc
from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm]


async def test_prune_removes_what_no_record_names_and_nobody_elses(
    swarm_node: Cluster, cluster: Cluster, make_service: Callable[..., Any]
) -> None:
    """A service, its volumes and the config; what another installation has made is not even shown."""
    instance = await make_service(ephemeral=False)
    assert await instance.send_command_and_wait("[[say one]]", 60) == (True, "one")
    await instance.release()
    api, install = swarm_node.manager.client.api, Installation.at(Registry().root).id
    others = {"cc-bridge.install": "another", "cc-bridge.instance": "x", "cc-bridge.type": "service"}
    api.create_volume("another-home", labels=others)

    def shown() -> list[tuple[str, str]]:
        rows = json.loads(cc("prune", "--volumes", "--dry-run", "--json").stdout)
        return [(row["kind"], row["name"]) for row in rows if install in row["name"] or row["kind"] == "config"]

    assert shown() == []
    shutil.rmtree(Registry().home(instance.name).path)
    service = instance.service
    (config,) = (config["Spec"]["Name"] for config in api.configs())
    expected = [("service", service), *(("volume", f"{service}-{of}") for of in ("home", "state", "workspace"))]
    assert sorted(shown()) == sorted([*expected, ("config", config)])
    done = cc("prune", "--volumes", "--force")
    assert (done.returncode, "stay" in done.stderr) == (0, False), done.stderr
    assert swarm_node.left() == [f"volume another-home on {swarm_node.manager.name}"]
    api.remove_volume("another-home")


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
