"""A few machines of a test's own, and one swarm over their engines.

All of it is there between enter and exit. What a run leaves on disk that was killed, the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
from cc_bridge.engine.node_engines import ENGINE_LABEL
from tests.swarm import images as image_files
from tests.swarm.machine import Machine, Switch
from tests.turns import using

__all__ = ["Cluster", "Node"]


#: Seconds between a node's signs of life; Swarm's own default is 5.
HEARTBEAT = 1.0

_PREFIX = "cc-bridge-swarm-"
_CGROUPS = Path("/sys/fs/cgroup")

#: Seconds for the manager to see a node as it is.
_SEEN = 60

#: How often a node's engine is begun anew that Swarm does not have again.
_TRIES = 3

_count = itertools.count()


class Node(Machine):
    """A machine of a swarm.

    Attributes:
        id: Swarm's name for it; empty where it is in none.
    """

    id = ""


class Cluster:
    """Machines, and a swarm over them; the first is its manager.

    Args:
        nodes: how many, 1 to 9.
        images: which every node has, by names that the engine of this machine knows.
        heartbeat: seconds; a node that is silent for three of them is down.

    Attributes:
        name: of this cluster among all of this machine's.
        nodes: the machines.
        gateway: this machine's address in the cluster's network: a server on it is reached from containers.
        certificates: with which the nodes' engines are reached, for ``DOCKER_CERT_PATH``.
        directory: everything of it on disk.
    """

    def __init__(self, nodes: int, images: Sequence[str] = (), *, heartbeat: float = HEARTBEAT) -> None:
        self._images, self._heartbeat = list(images), heartbeat
        with using("swarm-files", alone=True):
            _remove_stale()
            self.name = f"swarm-{os.getpid()}-{next(_count)}"
            self.directory = Path(tempfile.gettempdir(), f"cc-bridge-{self.name}")
            self.directory.mkdir(mode=0o755)
            self._lock = (self.directory / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # the kernel opens it when this process has gone
        self._switch: Switch | None = None
        self.certificates = self.directory / "certificates"
        self.nodes: list[Node] = []
        subnet = _free_subnet()
        self.gateway = f"{subnet}.254"
        for number in range(nodes):
            directory = self.directory / str(number)
            directory.mkdir()
            name, address = f"{self.name}-{number}", f"{subnet}.{number + 1}"
            certificates = self.certificates
            self.nodes.append(Node(name, number, directory, address, cgroup=self.name, certificates=certificates))

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def _start(self) -> None:
        self._switch = Switch(f"sw{os.getpid()}.{self.name.rpartition('-')[2]}"[:15], self.gateway)
        _certify(self.certificates, [node.address for node in self.nodes])
        for node in self.nodes:
            to_copy = image_files.lend(self._images, node.directory / "data")
            node.boot(self._switch)
            node.begin()
        for node in self.nodes:
            node.until_ready()
        self._init()
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(self.join, self.nodes[1:]))
            if to_copy:
                list(threads.map(lambda node: image_files.copy(to_copy, node.client), self.nodes))
        for node in self.nodes:
            self.await_state(node, "ready")
            self.label(node, {ENGINE_LABEL: node.url})

    # The swarm

    @property
    def manager(self) -> Node:
        """The first node."""
        return self.nodes[0]

    def node(self, name: str) -> Node:
        """By its name, or Swarm's."""
        return next(node for node in self.nodes if name in (node.name, node.id))

    @property
    def environment(self) -> dict[str, str]:
        """Of a program on this machine that drives the swarm, as if the manager were elsewhere."""
        found = {"DOCKER_HOST": self.manager.url, "DOCKER_TLS_VERIFY": "1"}
        return {**found, "DOCKER_CERT_PATH": str(self.certificates)}

    def _init(self) -> None:
        client = self.manager.client
        client.swarm.init(
            advertise_addr=self.manager.address,
            listen_addr=f"{self.manager.address}:2377",
            dispatcher_heartbeat_period=int(self._heartbeat * 1e9),
        )
        self._token = client.swarm.attrs["JoinTokens"]["Worker"]
        self.manager.id = client.info()["Swarm"]["NodeID"]

    def join(self, node: Node) -> None:
        """Into the swarm, as a worker."""
        listen = f"{node.address}:2377"
        node.client.swarm.join(
            [f"{self.manager.address}:2377"], self._token, advertise_addr=node.address, listen_addr=listen
        )
        node.id = node.client.info()["Swarm"]["NodeID"]

    def leave(self, node: Node) -> None:
        """Out of the swarm, and forgotten by it; `join` takes it in again, as another and without labels."""
        node.client.swarm.leave(force=True)
        self.await_state(node, "down")
        self.manager.client.api.remove_node(node.id, force=True)
        node.id = ""

    def label(self, node: Node, labels: dict[str, str]) -> None:
        """More labels of the node; an empty one takes it away."""

        def change(spec: dict[str, Any]) -> None:
            spec["Labels"] = {key: value for key, value in {**spec.get("Labels", {}), **labels}.items() if value}

        self._update(node, change)

    def drain(self, node: Node) -> None:
        """Its tasks go elsewhere, and none comes."""
        self._update(node, lambda spec: spec.update(Availability="drain"))

    def activate(self, node: Node) -> None:
        """After `drain`."""
        self._update(node, lambda spec: spec.update(Availability="active"))

    def _update(self, node: Node, change: Callable[[dict[str, Any]], None]) -> None:
        for _ in range(10):  # again where the node has reported something meanwhile, which makes a version of its own
            found = self.manager.client.nodes.get(node.id)
            change(found.attrs["Spec"])
            try:
                found.update(found.attrs["Spec"])
                return
            except docker.errors.APIError as error:
                if "out of sequence" not in str(error):
                    raise
        raise RuntimeError(f"{node.name} could not be updated")

    def state(self, node: Node) -> str:
        """As the manager sees it: ``ready``, ``down`` or ``unknown``."""
        return str(self.manager.client.nodes.get(node.id).attrs["Status"]["State"])

    def await_state(self, node: Node, state: str) -> None:
        """Until the manager sees it so.

        Raises:
            TimeoutError: after a minute.
        """
        now = int(time.time())
        events = self.manager.client.events(filters={"type": "node"}, since=now - 1, until=now + _SEEN)
        with contextlib.closing(events):
            while self.state(node) != state:
                if next(iter(events), None) is None:
                    raise TimeoutError(f"{node.name} is not {state}")

    def await_back(self, node: Node) -> None:
        """Until the manager has it again, which had gone or was not heard of.

        Swarm gives up one that registers just when its time is over, and does not take it back although its session
        lives (moby/swarmkit#2488): then its engine is begun anew, as a person would do.

        Raises:
            TimeoutError: after several minutes.
        """
        for _ in range(_TRIES):
            with contextlib.suppress(TimeoutError):
                self.await_state(node, "ready")
                return
            self.restart(node)
        self.await_state(node, "ready")

    def running(self, service: str) -> Counter[str]:
        """How many of its tasks run, by the node's name."""
        tasks = self.manager.client.api.tasks(filters={"service": service, "desired-state": "running"})
        found = (self.node(task["NodeID"]).name for task in tasks if task["Status"]["State"] == "running")
        return Counter(found)

    # What befalls machines

    def kill(self, node: Node) -> None:
        """It loses its power: nobody hears of its connections any more, not even that they have ended."""
        assert self._switch is not None
        self._switch.take_away(node.cable)
        node.cut_power()

    def boot(self, node: Node) -> None:
        """After `kill`: with the same disk. The engine answers; whether the swarm has it, `await_state` says."""
        assert self._switch is not None
        node.boot(self._switch)
        node.begin()
        node.until_ready()

    def restart(self, node: Node, *, kill: bool = False) -> None:
        """Its engine alone: asked to end, or killed, and begun again."""
        node.end_engine("KILL" if kill else "TERM")
        node.begin()
        node.until_ready()

    def stop(self, node: Node) -> None:
        """Everything on it stands still."""
        node.signal("STOP")

    def cont(self, node: Node) -> None:
        """After `stop`."""
        node.signal("CONT")

    def partition(self, node: Node) -> None:
        """Its cable is pulled. `Node.client`, whose socket is a file of this machine's, goes on."""
        assert self._switch is not None
        self._switch.pull(node.cable)

    def heal(self, node: Node) -> None:
        """After `partition`."""
        assert self._switch is not None
        self._switch.plug(node.cable)

    # What is there, and its end

    def left(self) -> list[str]:
        """What is there of services, configs, secrets, containers and volumes, on all nodes that have power."""
        api = self.manager.client.api
        found = [f"service {service['Spec']['Name']}" for service in api.services()]
        found += [f"config {config['Spec']['Name']}" for config in api.configs()]
        found += [f"secret {secret['Spec']['Name']}" for secret in api.secrets()]
        for node in self.nodes:
            if node.up:
                there = node.client.api
                found += [f"container {found['Names']} on {node.name}" for found in there.containers(all=True)]
                found += [f"volume {found['Name']} on {node.name}" for found in there.volumes()["Volumes"] or []]
        return found

    def clear(self) -> None:
        """Removes what `left` finds."""
        api = self.manager.client.api
        for service in api.services():
            api.remove_service(service["ID"])
        for node in self.nodes:
            if node.up:
                _clear(node.client.api)
        for config in api.configs():
            api.remove_config(config["ID"])
        for secret in api.secrets():
            api.remove_secret(secret["ID"])

    def remove(self) -> None:
        """All of it. Again does nothing."""
        for node in self.nodes:
            node.tell_if_it_died()
            node.cut_power()
        if self._switch is not None:
            self._switch.end()
            self._switch = None
        _remove(self.directory)
        self._lock.close()


def _clear(api: Any) -> None:
    for container in api.containers(all=True):
        with contextlib.suppress(docker.errors.APIError):  # Swarm is quicker, or at it
            api.remove_container(container["Id"], force=True, v=True)
    for volume in api.volumes()["Volumes"] or []:
        with contextlib.suppress(docker.errors.NotFound):
            api.remove_volume(volume["Name"], force=True)


def _remove_stale() -> None:
    """What runs have left that were killed: their processes have ended with them, their files have not."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (path / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    name = directory.name.removeprefix("cc-bridge-")
    for root in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")):
        for path, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _certify(directory: Path, addresses: Sequence[str]) -> None:
    """One that certifies itself, for all engines and whoever talks to them."""
    directory.mkdir(mode=0o700)
    names = ",".join(f"IP:{address}" for address in addresses)
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    argv += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=swarm", "-addext", f"subjectAltName={names}"]
    argv += ["-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    subprocess.run(argv, check=True, cwd=directory, capture_output=True)
    shutil.copy(directory / "cert.pem", directory / "ca.pem")


def _free_subnet() -> str:
    """The first three numbers of one that nothing here uses, of those meant for measurements (RFC 2544)."""
    used = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True).stdout
    numbers = ((os.getpid() + step) % 512 for step in range(512))
    names = (f"198.{18 + number // 256}.{number % 256}" for number in numbers)
    return next(name for name in names if f" {name}." not in used)
