"""A machine of a test's own, as far as it can tell: an engine in namespaces, with a cable to a switch.

It lives below a first process that ends when this program does; so it loses its power by one signal, and nothing of a
run that was killed goes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import docker

__all__ = ["LIMIT", "PROGRAMS", "Holder", "Machine", "Switch", "ip"]

#: What has to be on the search path; beside it, root.
PROGRAMS = ("dockerd", "iptables", "ip", "mount", "nsenter", "openssl", "unshare")

#: Seconds for whatever is waited for here.
LIMIT = 60.0

#: Of an engine, for TLS.
_PORT = 2376

# The first process of a machine: /run is as after a start, orphans are the kernel's to bury (an engine takes a dead
# containerd for a living one while its id is there), and the end of the input is the end of all.
_FIRST = """
set -e
read pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
echo "$1" >/proc/sys/kernel/hostname
ip link set lo up
echo "$pid"
exec "$2" -ISc 'import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); sys.stdin.read()'
"""

_SWITCH = """
set -e
read pid rest </proc/self/stat
ip link add switch type bridge
ip link set switch up
echo "$pid"
exec cat
"""


class Holder:
    """Namespaces, as long as somebody holds them.

    Args:
        script: for `sh`, the first process within: says its id, which is this machine's, and ends with its input.
        words: what the script is given.
        kinds: of `unshare`.

    Raises:
        RuntimeError: this machine makes none.
    """

    def __init__(self, script: str, words: Sequence[str], kinds: Sequence[str]) -> None:
        argv = ["unshare", *kinds, "sh", "-c", script, "sh", *words]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        self.pid = int(said) if said else 0
        self._handle = os.pidfd_open(self.pid) if said else -1
        if not said:
            self.end()
            raise RuntimeError(f"no namespaces: {' '.join(argv[: len(kinds) + 1])} failed")

    def enter(self, *kinds: str) -> list[str]:
        """The beginning of a command that is to run within."""
        return ["nsenter", f"--target={self.pid}", *(f"--{kind}" for kind in kinds), "--"]

    def end(self) -> None:
        """At once, as by the loss of power: nothing of it runs any more."""
        self._process.kill()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            select.select([self._handle], [], [], LIMIT)  # the kernel lets the first process go after all others
            os.close(self._handle)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(LIMIT)


class Switch:
    """Where the cables lead: in a network namespace of its own, so that no firewall and no route here knows of it.

    Args:
        wire: the name of this machine's own cable.
        address: of this machine there.
    """

    def __init__(self, wire: str, address: str) -> None:
        self._wire = wire
        self._holder = Holder(_SWITCH, [], ["--net"])
        try:
            self.connect("host", f"{wire} netns {os.getpid()}")
            ip([], f"address add {address}/24 dev {wire}", f"link set {wire} up")
        except BaseException:
            self.end()
            raise

    def connect(self, cable: str, end: str) -> None:
        """A cable, and its other end in the words of `ip`."""
        ip(
            self._holder.enter("net"),
            f"link add {cable} type veth peer name {end}",
            f"link set {cable} master switch up",
        )

    def pull(self, cable: str) -> None:
        """Nothing comes through it any more, and nobody is told."""
        ip(self._holder.enter("net"), f"link set {cable} nomaster")

    def take_away(self, cable: str) -> None:
        """For good; whoever hung on it is told as little."""
        ip(self._holder.enter("net"), f"link delete {cable}")

    def plug(self, cable: str) -> None:
        """After `pull`."""
        ip(self._holder.enter("net"), f"link set {cable} master switch")

    def end(self) -> None:
        """With all cables."""
        subprocess.run(["ip", "link", "delete", self._wire], check=False, stderr=subprocess.DEVNULL)
        self._holder.end()


class Machine:
    """One of them.

    Args:
        name: its host name.
        number: below 100, of its kind.
        directory: what is on its disk; made by whoever makes the machine.
        address: in the network of the switch.
        cgroup: below which its engine puts containers.
        certificates: of its engine, in Docker's names; to be made before it starts.

    Attributes:
        url: of its engine, in the network, over TLS with the certificates.
        client: Docker's own, of its engine, which does not need the network.
    """

    def __init__(
        self, name: str, number: int, directory: Path, address: str, *, cgroup: str, certificates: Path
    ) -> None:
        self.name, self.number, self.directory, self.address = name, number, directory, address
        self._cgroup, self._certificates = cgroup, certificates
        self._socket = f"unix://{directory}/node.sock"
        self.url = f"tcp://{address}:{_PORT}"
        self.cable = f"to{number}"
        self._holder: Holder | None = None
        self._engine: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._ready: socket.socket | None = None
        self._client: docker.DockerClient | None = None

    @property
    def up(self) -> bool:
        """Whether it has power; its engine may be stopped, or its cable pulled."""
        return self._holder is not None

    @property
    def socket(self) -> str:
        """The path of its engine's, which this machine sees, too."""
        return self._socket.removeprefix("unix://")

    @property
    def client(self) -> docker.DockerClient:
        if self._client is None:
            self._client = docker.DockerClient(self._socket, version="1.41", timeout=LIMIT)
        return self._client

    def boot(self, switch: Switch) -> None:
        """Without its engine."""
        self._holder = Holder(_FIRST, [self.name, sys.executable], ["--pid", "--fork", "--mount", "--uts", "--net"])
        mac = f"02:cc:b0:00:00:{self.number + 1:02x}"  # the same as before, or the others would look for the old one
        switch.connect(self.cable, f"eth0 address {mac} netns {self._holder.pid}")
        ip(self._holder.enter("net"), f"address add {self.address}/24 dev eth0", "link set eth0 up")

    def begin(self) -> None:
        """Start the engine; `until_ready` waits for it."""
        assert self._holder is not None
        told = self.directory / "ready"
        told.unlink(missing_ok=True)
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(str(told))
        config = self.directory / "daemon.json"
        config.write_text("{}")  # and not this machine's
        argv = ["dockerd", f"--config-file={config}", f"--data-root={self.directory}/data", f"--host={self._socket}"]
        argv += [f"--host={self.url}", "--tlsverify", f"--tlscacert={self._certificates}/ca.pem"]
        argv += [f"--tlscert={self._certificates}/cert.pem", f"--tlskey={self._certificates}/key.pem"]
        argv += ["--exec-root=/run/docker", "--pidfile=/run/docker.pid", "--userland-proxy=false"]
        argv += [
            "--storage-driver=overlay2",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{self._cgroup}",
        ]
        self._log = (self.directory / "dockerd.log").open("ab")
        self._engine = subprocess.Popen(
            [*self._holder.enter("pid", "mount", "uts", "net"), *argv],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, "NOTIFY_SOCKET": str(told), "HOME": str(self.directory)},
        )

    def until_ready(self) -> None:
        """The engine answers.

        Raises:
            RuntimeError: it does not; with the last lines of its log.
        """
        assert self._engine is not None
        assert self._ready is not None
        ended = os.pidfd_open(self._engine.pid)
        try:
            end = time.monotonic() + LIMIT
            while (left := end - time.monotonic()) > 0:
                found, _, _ = select.select([self._ready, ended], [], [], left)
                if self._ready in found and b"READY=1" in self._ready.recv(4096):  # as to systemd
                    return
                if ended in found:
                    break
        finally:
            os.close(ended)
        raise RuntimeError(f"an engine did not start; the end of its log:\n{self._tail(15)}")

    def tell_if_it_died(self) -> None:
        """Print the end of the log of an engine that has ended by itself."""
        if self._engine is not None and self._engine.poll() is not None:
            print(f"the engine of {self.name} has ended by itself:\n{self._tail(100)}")

    def _tail(self, lines: int) -> str:
        return "\n".join((self.directory / "dockerd.log").read_text(errors="replace").splitlines()[-lines:])

    def cut_power(self) -> None:
        """Everything on it ends at once; its disk stays. Again does nothing."""
        if self._holder is not None:
            self._holder.end()
            self._holder = None
        self._reap()

    def signal(self, name: str) -> None:
        """``STOP`` or ``CONT``, for all that runs there, in containers, too."""
        assert self._holder is not None
        assert self._engine is not None
        # -1: all of this namespace but its first process, which does nothing anyway, and the caller
        subprocess.run([*self._holder.enter("pid"), "sh", "-c", f"kill -{name} -1"], check=True)
        if name == "CONT":
            self._engine.send_signal(signal.SIGCONT)  # nsenter has stopped with its child

    def end_engine(self, name: str) -> None:
        """Send it a signal that ends it, and wait."""
        assert self._holder is not None
        script = f"kill -{name} $(cat /run/docker.pid)"
        subprocess.run([*self._holder.enter("pid", "mount"), "sh", "-c", script], check=True)
        self._reap()

    def _reap(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._engine is not None:
            if self._holder is None:
                self._engine.kill()  # what entered has ended, unless it had stopped with what it had started
            self._engine.wait(LIMIT)
            self._engine = None
        for kept in (self._log, self._ready):
            if kept is not None:
                kept.close()
        self._log = self._ready = None


def ip(within: list[str], *commands: str) -> None:
    """Commands of `ip`, in one go, in a namespace or here."""
    subprocess.run([*within, "ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
