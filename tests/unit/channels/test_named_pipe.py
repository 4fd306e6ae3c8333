"""The rendezvous from the host's side: what lies in the directory is not believed. covers: C9, B2, B3"""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio
import pytest

from cc_bridge.channels.fifo import Descriptor, open_fifo
from cc_bridge.channels.named_pipe import NamedPipeChannel, NobodyListens, prepare_directory
from cc_bridge.errors import AgentUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pipes(tmp_path: Path) -> Path:
    prepare_directory(str(tmp_path / "pipes"))
    return tmp_path / "pipes"


async def test_nobody_listens_is_known_at_once(pipes: Path) -> None:
    with anyio.fail_after(1), pytest.raises(NobodyListens):
        await NamedPipeChannel.connect(str(pipes), b"hello\n")
    assert os.listdir(pipes) == ["listen"]


async def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable, match="No such file"):
        await NamedPipeChannel.connect(str(tmp_path / "nowhere"), b"hello\n")


@pytest.mark.parametrize("kind", ["file", "link", "link to a fifo", "directory"])
async def test_something_else_in_the_place_of_a_pipe(pipes: Path, tmp_path: Path, kind: str) -> None:
    listen = pipes / "listen"
    listen.unlink()
    match kind:
        case "file":
            listen.write_text("precious")
        case "link":
            (tmp_path / "precious").write_text("precious")
            listen.symlink_to(tmp_path / "precious")
        case "link to a fifo":
            os.mkfifo(tmp_path / "fifo")
            reader = os.open(tmp_path / "fifo", os.O_RDWR)
            listen.symlink_to(tmp_path / "fifo")
        case "directory":
            listen.mkdir()
    with pytest.raises(AgentUnavailable, match="cannot be used"):
        await NamedPipeChannel.connect(str(pipes), b"hello\n")
    if kind == "file":
        assert listen.read_text() == "precious"
    if kind == "link":
        assert (tmp_path / "precious").read_text() == "precious"
    if kind == "link to a fifo":
        os.close(reader)


async def test_an_agent_that_does_not_answer(pipes: Path) -> None:
    listener = os.open(pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    try:
        with pytest.raises(AgentUnavailable, match="did not answer"):
            await NamedPipeChannel.connect(str(pipes), b"hello\n", limit=0.05)
        with anyio.move_on_after(0.05):
            await NamedPipeChannel.connect(str(pipes), b"hello\n")
        assert os.listdir(pipes) == ["listen"], "a rendezvous that failed has left its names"
    finally:
        os.close(listener)


async def test_an_agent_that_ends_during_the_rendezvous_is_known_at_once(pipes: Path) -> None:
    listener = os.open(pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    async with anyio.create_task_group() as group:

        async def end_when_asked() -> None:
            await anyio.wait_readable(listener)
            os.close(listener)

        group.start_soon(end_when_asked)
        with anyio.fail_after(2), pytest.raises(NobodyListens, match="ended during"):
            await NamedPipeChannel.connect(str(pipes), b"hello\n")
    assert os.listdir(pipes) == ["listen"]


async def test_what_a_killed_host_has_left_is_swept(pipes: Path) -> None:
    os.mkfifo(pipes / "old.in")
    os.mkfifo(pipes / "old.out")
    os.mkfifo(pipes / "new.in")
    long_ago = time.time() - 3600
    os.utime(pipes / "old.in", (long_ago, long_ago))
    with pytest.raises(NobodyListens):
        await NamedPipeChannel.connect(str(pipes), b"")
    assert sorted(os.listdir(pipes)) == ["listen", "new.in"]


def test_the_directory_may_be_prepared_again(pipes: Path) -> None:
    before = (pipes / "listen").stat().st_ino
    prepare_directory(str(pipes))
    assert (pipes / "listen").stat().st_ino == before
    assert (pipes / "listen").stat().st_mode & 0o777 == 0o666


def test_a_directory_whose_listen_is_no_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "listen").write_text("")
    with pytest.raises(OSError, match="not a FIFO"):
        prepare_directory(str(tmp_path))


async def test_a_cancelled_write_breaks_the_descriptor(tmp_path: Path) -> None:
    """Part of a frame may be out: nothing may follow it."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = open_fifo(str(tmp_path), "fifo", os.O_WRONLY)
    with anyio.move_on_after(0.05):
        await writer.write_all(b"x" * 1_000_000)
    with pytest.raises(anyio.BrokenResourceError):
        await writer.write_all(b"y")
    writer.close()
    os.close(reader)


async def test_a_write_cancelled_before_its_first_byte_breaks_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    descriptor = Descriptor(write)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await descriptor.write_all(b"x")
    await descriptor.write_all(b"y")
    assert os.read(read, 10) == b"y"
    descriptor.close()
    os.close(read)


async def test_descriptors_are_given_back(pipes: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(NobodyListens):
            await NamedPipeChannel.connect(str(pipes), b"")
    listener = os.open(pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    for _ in range(3):
        with pytest.raises(AgentUnavailable):
            await NamedPipeChannel.connect(str(pipes), b"", limit=0.01)
    os.close(listener)
    assert len(os.listdir("/proc/self/fd")) == before
