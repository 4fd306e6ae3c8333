"""The bed that the other tests here lie in: what befalls a machine is what befalls one of several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.types import ContainerSpec, RestartPolicy, ServiceMode, TaskTemplate

from tests.swarm.cluster import Cluster

pytestmark = [pytest.mark.docker, pytest.mark.swarm]

ROOT = Path(__file__).parents[2]


def until(there: Callable[[], bool], what: Callable[[], object]) -> None:
    """Swarm has no events for tasks: they are asked for again and again, for a minute."""
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


@pytest.fixture
def service(swarm: Cluster, images: Any) -> Iterator[str]:
    """Six tasks that do nothing."""
    spec = ContainerSpec(images.claude, command=["sleep"], args=["inf"], init=True, healthcheck={"test": ["NONE"]})
    again = RestartPolicy(condition="any", delay=100_000_000)  # nanoseconds; Swarm's default is 5 s
    template = TaskTemplate(spec, networks=["host"], restart_policy=again)
    swarm.manager.client.api.create_service(template, name="idle", mode=ServiceMode("replicated", 6))
    until(lambda: sum(swarm.running("idle").values()) == 6, lambda: swarm.running("idle"))
    yield "idle"
    swarm.clear()


@pytest.mark.thorough
def test_services_are_spread_and_placed_again_when_a_machine_dies(swarm: Cluster, service: str) -> None:
    names = [node.name for node in swarm.nodes]
    assert swarm.running(service) == Counter(names * 2)
    dead = swarm.nodes[2]

    swarm.kill(dead)

    swarm.await_state(dead, "down")
    until(lambda: swarm.running(service) == Counter(names[:2] * 3), lambda: swarm.running(service))
    swarm.boot(dead)
    swarm.await_back(dead)


@pytest.mark.thorough
def test_a_machine_that_is_cut_off_goes_on_until_its_cable_is_back(swarm: Cluster, service: str) -> None:
    alone = swarm.nodes[1]

    swarm.partition(alone)

    swarm.await_state(alone, "down")
    until(lambda: swarm.running(service)[swarm.nodes[0].name] == 3, lambda: swarm.running(service))
    assert len(alone.client.containers.list()) == 2
    swarm.heal(alone)
    swarm.await_back(alone)
    until(lambda: not alone.client.containers.list(), lambda: alone.client.containers.list())


@pytest.mark.thorough
def test_an_engine_is_killed_stops_and_is_drained_and_is_a_node_again(swarm: Cluster, service: str) -> None:
    node = swarm.nodes[2]
    swarm.restart(node, kill=True)
    until(lambda: sum(swarm.running(service).values()) == 6, lambda: swarm.running(service))

    swarm.stop(node)
    swarm.await_state(node, "down")
    swarm.cont(node)
    swarm.await_back(node)

    swarm.drain(node)
    until(lambda: not node.client.containers.list(), lambda: node.client.containers.list())
    swarm.activate(node)

    swarm.leave(node)
    swarm.join(node)
    swarm.await_back(node)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """For sockets, whose paths are bounded."""
    with tempfile.TemporaryDirectory(prefix="sw", dir="/tmp") as made:
        yield Path(made)


def test_nothing_is_left_of_a_run_that_was_killed(machines: None, short_path: Path) -> None:
    script = "from tests.swarm.cluster import *; c = Cluster(2).__enter__(); print(c.directory, flush=True); input()"
    env = {**os.environ, "TMPDIR": str(short_path), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=env, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        directory = process.stdout.readline().strip()
        assert directory.startswith(str(short_path))
        process.send_signal(signal.SIGKILL)

    links = ["ip", "-o", "link"]
    until(lambda: f"sw{process.pid}." not in subprocess.check_output(links, text=True), lambda: "its cable is there")
    until(lambda: not processes(directory), lambda: processes(directory))
    subprocess.run(
        [sys.executable, "-c", "from tests.swarm.cluster import *; Cluster(0).remove()"], env=env, check=True
    )
    assert not list(short_path.glob("cc-bridge-swarm-*"))


def processes(word: str) -> list[str]:
    found = subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines()
    return [line for line in found if word in line]
