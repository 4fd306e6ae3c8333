"""Where hosts find the agent: what is taken for a connection, and what is refused, seldom said and given back.

covers: B2, C9
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge_agent.rendezvous import AlreadyServing, PipeListener, SocketListener, open_fifo
from tests.unit.agent.stepping import StepLoop


class Pipes:
    """A listener in a directory of FIFOs, and a host beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop: Any = StepLoop()
        self.accepted: list[tuple[str, int, int]] = []
        self.logged: list[tuple[str, dict[str, Any]]] = []
        os.mkfifo(directory / "listen")
        self.listener = PipeListener(self.loop, str(directory), self._accept, self._log)
        self.listen = os.open(directory / "listen", os.O_WRONLY | os.O_NONBLOCK)

    def _accept(self, name: str, read: int, write: int) -> None:
        self.accepted.append((name, read, write))

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    def make(self, name: str) -> tuple[int, int]:
        """A host's two pipes: where it reads, and where it writes."""
        os.mkfifo(self.directory / f"{name}.in")
        os.mkfifo(self.directory / f"{name}.out")
        read = os.open(self.directory / f"{name}.out", os.O_RDONLY | os.O_NONBLOCK)
        return read, os.open(self.directory / f"{name}.in", os.O_RDWR | os.O_NONBLOCK)

    def ask(self, line: bytes) -> None:
        os.write(self.listen, line)
        self.loop.step()


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Pipes]:
    made = Pipes(tmp_path)
    yield made
    os.close(made.listen)


def test_a_host_is_met_over_its_two_pipes(pipes: Pipes) -> None:
    read, write = pipes.make("one")
    pipes.ask(b"one\n")
    ((name, agent_reads, agent_writes),) = pipes.accepted
    assert name == "pipes one"
    os.write(write, b"hello")
    assert os.read(agent_reads, 100) == b"hello"
    os.write(agent_writes, b"welcome")
    assert os.read(read, 100) == b"welcome"
    with pytest.raises(BlockingIOError):
        os.read(agent_reads, 1)
    assert not os.get_inheritable(agent_reads)
    for fd in (read, write, agent_reads, agent_writes):
        os.close(fd)


def test_several_at_once_and_in_pieces(pipes: Pipes) -> None:
    ends = [fd for name in ("one", "two") for fd in pipes.make(name)]
    pipes.ask(b"on")
    assert pipes.accepted == []
    pipes.ask(b"e\ntwo\n")
    assert [name for name, _, _ in pipes.accepted] == ["pipes one", "pipes two"]
    for fd in [*ends, *(fd for _, *fds in pipes.accepted for fd in fds)]:
        os.close(fd)


def test_the_last_host_to_go_is_not_the_end(pipes: Pipes) -> None:
    os.close(pipes.listen)
    pipes.loop.step()
    pipes.listen = os.open(pipes.directory / "listen", os.O_WRONLY | os.O_NONBLOCK)
    pipes.ask(b"nobody\n")
    assert [event for event, _ in pipes.logged] == ["rendezvous_failed"]


@pytest.mark.parametrize("line", [b"../one\n", b"a b\n", b"x" * 65 + b"\n", b"\xff\n"])
def test_what_is_no_id_opens_nothing(pipes: Pipes, line: bytes) -> None:
    pipes.ask(line)
    ((event, fields),) = pipes.logged
    assert (event, fields["refused"]) == ("rendezvous_refused", 1)
    assert pipes.accepted == []


def test_a_line_without_an_end_is_refused_and_the_next_host_is_met(pipes: Pipes) -> None:
    pipes.ask(b"x" * 257)
    assert [event for event, _ in pipes.logged] == ["rendezvous_refused"]
    ends = pipes.make("one")
    pipes.ask(b"one\n")
    assert [name for name, _, _ in pipes.accepted] == ["pipes one"]
    for fd in [*ends, *pipes.accepted[0][1:]]:
        os.close(fd)


def test_a_line_may_have_256_bytes(pipes: Pipes) -> None:
    pipes.ask(b"x" * 256 + b"\n")
    ((_, fields),) = pipes.logged
    assert "not an id" in fields["reason"]


@pytest.mark.parametrize("lacking", ["in", "out", "reader"])
def test_a_host_that_has_given_up_costs_no_descriptor(pipes: Pipes, lacking: str) -> None:
    read, write = pipes.make("one")
    os.close(read)
    os.close(write)
    if lacking != "reader":
        os.unlink(pipes.directory / f"one.{lacking}")
    before = len(os.listdir("/proc/self/fd"))
    pipes.ask(b"one\n")
    ((event, fields),) = pipes.logged
    assert (event, fields["id"]) == ("rendezvous_failed", "one")
    assert pipes.accepted == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_million_refusals_are_said_twenty_times(pipes: Pipes) -> None:
    for _ in range(20):
        pipes.ask(b"../x\n")
    assert [fields["refused"] for _, fields in pipes.logged] == [1, 2, 4, 8, 16]


def test_it_gives_its_descriptors_back(pipes: Pipes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pipes.listener.close()
    assert pipes.loop.watched == {}
    assert len(os.listdir("/proc/self/fd")) == before - 2
    with pytest.raises(BrokenPipeError):
        os.write(pipes.listen, b"x")


def test_a_directory_that_is_moved_away_is_still_the_one(pipes: Pipes) -> None:
    """By descriptor: the mount may be covered later."""
    moved = pipes.directory.with_name("moved")
    pipes.directory.rename(moved)
    pipes.directory = moved
    ends = pipes.make("one")
    pipes.ask(b"one\n")
    assert len(pipes.accepted) == 1
    for fd in [*ends, *pipes.accepted[0][1:]]:
        os.close(fd)


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_is_no_fifo_is_not_opened(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "real")
    match kind:
        case "file":
            (tmp_path / "fifo").write_text("")
        case "link":
            (tmp_path / "fifo").symlink_to("real")
        case "directory":
            (tmp_path / "fifo").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"not a FIFO|symbolic links"):
        open_fifo(str(tmp_path / "fifo"), os.O_RDONLY)
    assert len(os.listdir("/proc/self/fd")) == before


# The socket


class Socket:
    """A listener on a socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop: Any = StepLoop()
        self.accepted: list[tuple[str, int, int]] = []
        self.listener = SocketListener(self.loop, str(path), lambda *met: self.accepted.append(met))

    def connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(self.path))
        self.loop.step()
        return made


def test_who_connects_is_met_over_one_descriptor(tmp_path: Path) -> None:
    served = Socket(tmp_path / "agent.sock")
    with served.connect() as one, served.connect():
        assert [name for name, _, _ in served.accepted] == ["socket 1", "socket 2"]
        _, read, write = served.accepted[0]
        assert read == write
        one.send(b"hello")
        assert os.read(read, 100) == b"hello"
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
    for _, fd, _ in served.accepted:
        os.close(fd)
    served.listener.close()


def test_its_directory_is_made_for_its_user_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        served = Socket(tmp_path / "run" / "agent.sock")
    finally:
        os.umask(old)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "run" / "agent.sock.lock").stat().st_mode & 0o777 == 0o600
    served.listener.close()


def test_one_at_a_time_serves_and_the_next_takes_over_what_is_left(tmp_path: Path) -> None:
    first = Socket(tmp_path / "agent.sock")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AlreadyServing):
        Socket(tmp_path / "agent.sock")
    assert len(os.listdir("/proc/self/fd")) == before
    with first.connect():
        assert len(first.accepted) == 1, "the first one still serves"
    os.close(first.accepted[0][1])
    first.listener.close()
    (tmp_path / "agent.sock").write_text("left by a killed one")
    second = Socket(tmp_path / "agent.sock")
    assert stat.S_ISSOCK((tmp_path / "agent.sock").stat().st_mode)
    second.listener.close()


def test_it_leaves_no_socket_and_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    served = Socket(tmp_path / "agent.sock")
    served.listener.close()
    assert not (tmp_path / "agent.sock").exists()
    assert served.loop.watched == {}
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agent.sock.lock").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Socket(tmp_path / "agent.sock")
    assert not (tmp_path / "elsewhere").exists()
