"""The service that a record asks for. covers: B11, M2"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance
from cc_bridge.errors import InvalidInput
from cc_bridge.instances.container_agent import MAIN, STATE
from cc_bridge.instances.container_plan import ContainerPlan
from cc_bridge.instances.registry import Home
from cc_bridge.instances.service_plan import RECORD, SEALED_NETWORK, ServicePlan, record_in, service_name
from cc_bridge.logs import Log
from cc_bridge.names import name_for


def plan_of(tmp_path: Path, **fields: Any) -> ServicePlan:
    record = ClaudeInstance.of(name="demo", kind="swarm", image="i", user="1234", **fields)
    like = ContainerPlan(record, "cc-bridge-demo-x", Home(tmp_path), "x", None, Log("demo", "swarm"))
    return ServicePlan(record, "cc-bridge-demo-x", like)


def spec_of(tmp_path: Path, **fields: Any) -> dict[str, Any]:
    return plan_of(tmp_path, **fields).spec("sha256:1", ("id", "agent"), no_new_privileges=True)


def mounts_of(spec: dict[str, Any]) -> dict[str, Any]:
    return {mount["Target"]: mount for mount in spec["TaskTemplate"]["ContainerSpec"]["Mounts"]}


def test_nothing_secret_is_in_it(tmp_path: Path) -> None:
    claude = {"mcp_config": ('{"token": "hush"}',), "extra": ("--header", "hush"), "model": "opus"}
    spec = spec_of(tmp_path, env={"ANTHROPIC_API_KEY": "hush"}, key="outside", key_command="print-it", claude=claude)
    assert "hush" not in json.dumps(spec)
    assert record_in(spec["Labels"], "s", {}).claude.model == "opus"
    assert "print-it" not in json.dumps(spec)


@pytest.mark.parametrize(
    "name", ["a.b", "n" * 63, "n" * 45, name_for("Somebody with a long name, in a chat of many words")]
)
def test_swarm_takes_its_name(name: str) -> None:
    made = service_name(name, "12345678")
    assert re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", made)
    assert made != service_name(name[:-1] + "x", "12345678")
    assert service_name("demo", "12345678") == "cc-bridge-demo-12345678"


def test_it_is_hardened(tmp_path: Path) -> None:
    container = spec_of(tmp_path)["TaskTemplate"]["ContainerSpec"]
    assert container["CapabilityDrop"] == ["ALL"]
    assert container["ReadOnly"]
    assert container["User"] == "1234"
    assert container["Privileges"] == {"NoNewPrivileges": True}


def test_an_older_engine_is_not_asked_for_what_it_does_not_know(tmp_path: Path) -> None:
    spec = plan_of(tmp_path).spec("i", ("id", "agent"), no_new_privileges=False)
    assert "Privileges" not in spec["TaskTemplate"]["ContainerSpec"]


def test_limits_reservations_and_placement(tmp_path: Path) -> None:
    task = spec_of(
        tmp_path,
        memory=2**30,
        cpus=1.5,
        pids=99,
        reserve_memory=2**29,
        reserve_cpus=0.5,
        constraints=("node.labels.disk==ssd",),
        spread=("node.labels.rack",),
    )["TaskTemplate"]
    assert task["Resources"] == {
        "Limits": {"MemoryBytes": 2**30, "NanoCPUs": 1_500_000_000, "Pids": 99},
        "Reservations": {"MemoryBytes": 2**29, "NanoCPUs": 500_000_000},
    }
    assert task["Placement"] == {
        "Constraints": ["node.labels.disk==ssd"],
        "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.rack"}}],
    }


@pytest.mark.parametrize(
    ("fields", "networks"),
    [
        ({}, []),
        ({"network": "host"}, ["host"]),
        ({"network": "mine"}, ["mine"]),
        ({"network": "none"}, [SEALED_NETWORK]),
        ({"sealed": True}, [SEALED_NETWORK]),
    ],
)
def test_networks(tmp_path: Path, fields: dict[str, Any], networks: list[str]) -> None:
    spec = spec_of(tmp_path, **fields)
    assert [network["Target"] for network in spec["TaskTemplate"]["Networks"]] == networks
    # Else the engine would ask its own name servers for whoever is in that network.
    assert ("DNSConfig" in spec["TaskTemplate"]["ContainerSpec"]) == (networks == [SEALED_NETWORK])


def test_volumes_of_its_own_and_of_a_driver(tmp_path: Path) -> None:
    found = mounts_of(spec_of(tmp_path, volume_driver="local", volume_options={"device": ":/exports/{volume}"}))
    assert {target for target, mount in found.items() if mount["Type"] == "volume"} == {
        "/home/cc-bridge",
        "/var/lib/cc-bridge",
        "/workspace",
    }
    home = found["/home/cc-bridge"]
    assert home["VolumeOptions"]["DriverConfig"] == {
        "Name": "local",
        "Options": {"device": ":/exports/cc-bridge-demo-x-home"},
    }
    assert home["VolumeOptions"]["Labels"]["cc-bridge.instance"] == "demo"


def test_a_workspace_that_stays(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workspace_volume="theirs", read_only_workspace=True)
    assert "theirs" not in plan.volumes
    workspace = mounts_of(plan.spec("i", ("id", "agent"), no_new_privileges=True))["/workspace"]
    assert (workspace["Source"], workspace["ReadOnly"]) == ("theirs", True)
    assert "Labels" not in workspace["VolumeOptions"]


def test_a_directory_that_all_nodes_have(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workspace="/srv/work", mounts=["/srv/data:/data:ro"])
    found = mounts_of(plan.spec("i", ("id", "agent"), no_new_privileges=True))
    assert found["/workspace"] == {"Type": "bind", "Source": "/srv/work", "Target": "/workspace", "ReadOnly": False}
    assert found["/data"]["ReadOnly"]
    assert len(plan.volumes) == len(plan.owned) == 2


def test_another_machines_program_reads_the_record_in_the_labels(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, env={"A": "b"}, project="p", constraints=("node.role==worker",))
    labels = plan.spec("i", ("id", "agent"), no_new_privileges=True)["Labels"]
    found = record_in(labels, "cc-bridge-demo-x", {"A": "c"})
    assert found.differences(plan.record) == ["env", "service"]


#: In the agent's place: its children, its input, and what else is open in it.
WHAT_IT_HAS = """import os, sys
children = open("/proc/thread-self/children").read()
print([children, sys.stdin.read(), *filter(os.path.exists, map("/proc/self/fd/{}".format, range(3, 20)))])"""

SHELLS = [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]]


@pytest.fixture(params=SHELLS, ids=" ".join)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a container's main process, in a session of its own, in one of the shells that images have."""
    shell = shutil.which(request.param[0])
    if shell is None:
        pytest.skip(f"{request.param[0]} is not installed")
    made: list[subprocess.Popen[bytes]] = []

    def start(seconds: int) -> subprocess.Popen[bytes]:
        command = spec_of(tmp_path)["TaskTemplate"]["ContainerSpec"]["Command"]
        script = command[2].replace("sleep 600", f"sleep {seconds}").replace(STATE, str(tmp_path))
        script = script.replace(MAIN, f"exec {sys.executable} -IS -c '{WHAT_IT_HAS}'")
        assert f"sleep {seconds}" in script
        argv, pipe = [shell, *request.param[1:], *command[1:2], script], subprocess.PIPE
        env = {**os.environ, "HOME": str(tmp_path)}
        made.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env, start_new_session=True))
        return made[-1]

    yield start
    for process in made:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


Start = Callable[[int], "subprocess.Popen[bytes]"]


def test_a_container_that_is_let_go_has_nothing_left_of_its_wait(start: Start) -> None:
    """Neither what it was told nor who waited."""
    process = start(600)
    assert process.communicate(b"go\ngo\n", 60) == (b"['', '']\n", b'{"event": "waiting"}\n')
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_container_that_nobody_lets_go_ends_in_order(start: Start) -> None:
    """Else one that Swarm has placed anew by itself would wait for ever. With 0, it is not started again."""
    process = start(0)
    assert process.wait(60) == 0
    assert process.stdin is not None
    poller = select.poll()
    poller.register(process.stdin, select.POLLERR)
    assert poller.poll(60_000), "nobody reads any more"
    assert process.stderr is not None
    assert b"not_let_go" in process.stderr.read()


def test_a_container_whose_input_has_ended_fails(start: Start) -> None:
    process = start(600)
    process.communicate(b"", 60)
    assert process.returncode == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "../x", "kind": "swarm"}', "null"])
def test_labels_without_a_record(text: str) -> None:
    with pytest.raises(InvalidInput, match="no record"):
        record_in({RECORD: text}, "theirs", {})
