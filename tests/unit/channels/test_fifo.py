"""One descriptor from open to close: what waits, what is torn, what is closed, and what is believed of a path.

covers: B3, C9
"""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge.channels.fifo import Descriptor, make_fifo, open_fifo

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Pipe:
    """A pipe whose end at ``ours`` is tested, and whose other end is a bare number."""

    def __init__(self, ours: str) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self.theirs, fd = (write, read) if ours == "read" else (read, write)
        self.descriptor = Descriptor(fd)

    def end(self) -> None:
        if self.theirs != -1:
            os.close(self.theirs)
        self.theirs = -1

    def drain(self) -> bytes:
        data = b""
        try:
            while chunk := os.read(self.theirs, 1_000_000):
                data += chunk
        except BlockingIOError:
            pass
        return data


@pytest.fixture
async def reading() -> AsyncIterator[Pipe]:
    pipe = Pipe("read")
    yield pipe
    pipe.end()
    pipe.descriptor.close()


@pytest.fixture
async def writing() -> AsyncIterator[Pipe]:
    pipe = Pipe("write")
    yield pipe
    pipe.end()
    pipe.descriptor.close()


@pytest.fixture
async def sockets() -> AsyncIterator[tuple[Descriptor, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    descriptor = Descriptor(ours.detach())
    yield descriptor, theirs
    theirs.close()
    descriptor.close()


# Reading


async def test_what_is_there_is_read_as_it_is(reading: Pipe) -> None:
    os.write(reading.theirs, b"one\ntwo")
    assert await reading.descriptor.read() == b"one\ntwo"


async def test_a_read_waits_for_a_byte(reading: Pipe) -> None:
    async with anyio.create_task_group() as group:
        found: list[bytes] = []

        async def read() -> None:
            found.append(await reading.descriptor.read())

        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert found == []
        os.write(reading.theirs, b"x")
    assert found == [b"x"]


async def test_the_end_is_nothing_after_all_that_was_written(reading: Pipe) -> None:
    os.write(reading.theirs, b"last")
    reading.end()
    assert [await reading.descriptor.read() for _ in range(3)] == [b"last", b"", b""]


async def test_one_read_takes_64_kib_at_most(sockets: tuple[Descriptor, socket.socket]) -> None:
    descriptor, theirs = sockets
    theirs.send(b"x" * 100_000)
    assert len(await descriptor.read()) == 65536


async def test_a_cancelled_read_has_taken_nothing(reading: Pipe) -> None:
    os.write(reading.theirs, b"x")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await reading.descriptor.read()
    assert scope.cancelled_caught
    assert await reading.descriptor.read() == b"x"


async def test_who_reads_what_is_always_there_lets_others_run(reading: Pipe) -> None:
    """A peer that is faster than its reader must not stop the program's other tasks."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        for _ in range(20):
            os.write(reading.theirs, b"x")
            await reading.descriptor.read()
        group.cancel_scope.cancel()
    assert turns >= 19


async def test_what_cannot_be_read_is_broken(tmp_path: Path) -> None:
    descriptor = Descriptor(os.open(tmp_path, os.O_RDONLY))
    with pytest.raises(anyio.BrokenResourceError) as caught:
        await descriptor.read()
    assert isinstance(caught.value.__cause__, IsADirectoryError)
    descriptor.close()


# Writing


async def test_all_is_written_however_small_the_pipe(writing: Pipe) -> None:
    data = os.urandom(1_000_000)
    found = b""
    async with anyio.create_task_group() as group:
        group.start_soon(writing.descriptor.write_all, data)
        while len(found) < len(data):
            await anyio.wait_readable(writing.theirs)
            found += writing.drain()
    assert found == data
    await writing.descriptor.write_all(b"and more")
    assert writing.drain() == b"and more"


async def test_nothing_is_written_where_there_is_nothing_to_write(writing: Pipe) -> None:
    await writing.descriptor.write_all(b"")
    assert writing.drain() == b""


async def test_a_peer_that_has_gone_breaks_it_for_good(writing: Pipe) -> None:
    writing.end()
    with pytest.raises(anyio.BrokenResourceError) as caught:
        await writing.descriptor.write_all(b"x")
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    with pytest.raises(anyio.BrokenResourceError):
        await writing.descriptor.write_all(b"")


async def test_a_cancelled_write_breaks_it(writing: Pipe) -> None:
    """Part of a frame may be out: nothing may follow it."""
    async with anyio.create_task_group() as group:
        group.start_soon(writing.descriptor.write_all, b"x" * 1_000_000)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert set(writing.drain()) == set(b"x")
    with pytest.raises(anyio.BrokenResourceError):
        await writing.descriptor.write_all(b"y")
    assert writing.drain() == b""


async def test_a_write_cancelled_before_its_first_byte_breaks_nothing(writing: Pipe) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await writing.descriptor.write_all(b"x")
    assert scope.cancelled_caught
    await writing.descriptor.write_all(b"y")
    assert writing.drain() == b"y"


async def test_who_writes_where_there_is_room_lets_others_run_now_and_then(writing: Pipe) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        for _ in range(320):
            await writing.descriptor.write_all(b"x")
        group.cancel_scope.cancel()
    assert 19 <= turns < 160, "nor does every small write cost a turn of the loop"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio shuffles its tasks
async def test_every_sixteenth_write_lets_others_run_and_so_does_one_that_waits(writing: Pipe) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async def write(count: int) -> bool:
        """Whether another task has run meanwhile."""
        before = turns
        for _ in range(count):
            await writing.descriptor.write_all(b"x")
        return turns > before

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        for _ in range(2):
            assert not await write(15)
            assert await write(1)
        assert not await write(10)
        group.start_soon(writing.descriptor.write_all, b"y" * 100_000)
        await anyio.lowlevel.checkpoint()
        await anyio.wait_readable(writing.theirs)
        while b"y" not in writing.drain():
            await anyio.lowlevel.checkpoint()
        for _ in range(20):
            writing.drain()
            await anyio.lowlevel.checkpoint()
        assert not await write(15), "counted anew after one that has waited"
        group.cancel_scope.cancel()


# Two at once


async def test_two_readers_at_once_are_a_mistake(reading: Pipe) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(reading.descriptor.read)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError, match="reading from"):
            await reading.descriptor.read()
        group.cancel_scope.cancel()


async def test_two_writers_at_once_are_a_mistake(writing: Pipe) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(writing.descriptor.write_all, b"x" * 1_000_000)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError, match="writing to"):
            await writing.descriptor.write_all(b"y")
        group.cancel_scope.cancel()


async def test_one_may_read_while_another_writes(sockets: tuple[Descriptor, socket.socket]) -> None:
    descriptor, theirs = sockets
    async with anyio.create_task_group() as group:
        group.start_soon(descriptor.read)
        await anyio.wait_all_tasks_blocked()
        await descriptor.write_all(b"hello")
        assert theirs.recv(100) == b"hello"
        theirs.send(b"answer")


# Closing


async def test_closed_by_us_is_not_broken_by_them(sockets: tuple[Descriptor, socket.socket]) -> None:
    descriptor, _ = sockets
    descriptor.close()
    assert descriptor.fileno() == -1
    for _ in range(2):
        with pytest.raises(anyio.ClosedResourceError):
            await descriptor.read()
        with pytest.raises(anyio.ClosedResourceError):
            await descriptor.write_all(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            await descriptor.write_all(b"")
        with pytest.raises(anyio.ClosedResourceError):
            await descriptor.wait_readable()
        with pytest.raises(anyio.ClosedResourceError):
            descriptor.at_end()
        with pytest.raises(anyio.ClosedResourceError):
            descriptor.end_writing()


async def test_a_closed_one_that_was_broken_before_is_closed(writing: Pipe) -> None:
    writing.end()
    with pytest.raises(anyio.BrokenResourceError):
        await writing.descriptor.write_all(b"x")
    writing.descriptor.close()
    with pytest.raises(anyio.ClosedResourceError):
        await writing.descriptor.write_all(b"x")


@pytest.mark.parametrize("direction", ["read", "write"])
async def test_closing_wakes_who_waits(direction: str) -> None:
    pipe = Pipe(direction)
    woken: list[type[BaseException]] = []

    async def wait() -> None:
        try:
            if direction == "read":
                await pipe.descriptor.read()
            else:
                await pipe.descriptor.write_all(b"x" * 1_000_000)
        except anyio.ClosedResourceError as error:
            woken.append(type(error))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            pipe.descriptor.close()
    pipe.end()
    assert woken == [anyio.ClosedResourceError]


def test_closing_needs_no_event_loop_where_nobody_has_waited() -> None:
    pipe = Pipe("write")
    fd = pipe.descriptor.fileno()
    pipe.descriptor.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    pipe.end()


def test_closing_again_does_not_close_a_stranger_s_file() -> None:
    pipe = Pipe("write")
    fd = pipe.descriptor.fileno()
    pipe.descriptor.close()
    os.dup2(pipe.theirs, fd)  # the number is in use again
    pipe.descriptor.close()
    os.fstat(fd)
    os.close(fd)
    pipe.end()


# A socket's


async def test_its_end_is_seen_without_taking_anything(sockets: tuple[Descriptor, socket.socket]) -> None:
    descriptor, theirs = sockets
    assert descriptor.at_end() is False
    theirs.send(b"x")
    assert descriptor.at_end() is False
    theirs.close()
    assert descriptor.at_end() is False, "there is something to read"
    assert await descriptor.read() == b"x"
    assert descriptor.at_end() is True
    assert await descriptor.read() == b""


async def test_who_has_hung_up_is_known_whatever_is_left(
    reading: Pipe, sockets: tuple[Descriptor, socket.socket]
) -> None:
    descriptor, theirs = sockets
    for end, write in ((reading.descriptor, partial(os.write, reading.theirs)), (descriptor, theirs.send)):
        assert not end.has_hung_up()
        write(b"x")
        assert not end.has_hung_up()
    reading.end()
    theirs.close()
    for end in (reading.descriptor, descriptor):
        assert end.has_hung_up()
        assert await end.read() == b"x"
        end.close()
        assert end.has_hung_up()


def test_a_socket_that_was_reset_is_at_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
    descriptor = Descriptor(ours.detach())
    assert descriptor.at_end() is True
    descriptor.close()


async def test_what_has_ended_its_writing_can_be_read(sockets: tuple[Descriptor, socket.socket]) -> None:
    descriptor, theirs = sockets
    descriptor.end_writing()
    assert theirs.recv(10) == b""
    theirs.send(b"answer")
    assert await descriptor.read() == b"answer"


async def test_looking_at_a_socket_costs_no_descriptor(sockets: tuple[Descriptor, socket.socket]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sockets[0].at_end()
    sockets[0].end_writing()
    assert len(os.listdir("/proc/self/fd")) == before


# Paths


def test_a_fifo_is_open_to_every_user_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        make_fifo(str(tmp_path), "fifo")
    finally:
        os.umask(old)
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "fifo").stat().st_mode & 0o777 == 0o666


def test_a_fifo_is_never_made_over_something(tmp_path: Path) -> None:
    (tmp_path / "fifo").write_text("precious")
    (tmp_path / "fifo").chmod(0o600)
    with pytest.raises(FileExistsError):
        make_fifo(str(tmp_path), "fifo")
    assert (tmp_path / "fifo").read_text() == "precious"
    assert (tmp_path / "fifo").stat().st_mode & 0o777 == 0o600


def test_that_nobody_reads_is_known_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device") as caught:
        open_fifo(str(tmp_path), "fifo", os.O_WRONLY)
    assert caught.value.errno == errno.ENXIO


def test_opening_waits_for_nobody_and_is_not_inherited(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    descriptor = open_fifo(str(tmp_path), "fifo", os.O_RDONLY)
    assert os.get_blocking(descriptor.fileno()) is False
    assert os.get_inheritable(descriptor.fileno()) is False
    descriptor.close()


@pytest.mark.parametrize(
    ("kind", "number"), [("file", errno.EINVAL), ("link", errno.ELOOP), ("directory", errno.EINVAL)]
)
def test_another_kind_of_file_is_refused_and_given_back(tmp_path: Path, kind: str, number: int) -> None:
    os.mkfifo(tmp_path / "real")
    match kind:
        case "file":
            (tmp_path / "fifo").write_text("")
        case "link":
            (tmp_path / "fifo").symlink_to("real")
        case "directory":
            (tmp_path / "fifo").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as caught:
        open_fifo(str(tmp_path), "fifo", os.O_RDONLY)
    assert caught.value.errno == number
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_pipe_s_other_end_is_met(tmp_path: Path) -> None:
    make_fifo(str(tmp_path), "fifo")
    ours: Any = open_fifo(str(tmp_path), "fifo", os.O_RDONLY)
    theirs = open_fifo(str(tmp_path), "fifo", os.O_WRONLY)
    os.write(theirs.fileno(), b"x")
    assert os.read(ours.fileno(), 10) == b"x"
    ours.close()
    theirs.close()


async def test_who_is_closed_while_waiting_takes_nothing_from_who_gets_the_same_number(reading: Pipe) -> None:
    """A connection is closed by one task, while another waits for it, and the next one is opened at once."""
    async with anyio.create_task_group() as group:
        number = reading.descriptor.fileno()

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await reading.descriptor.read()

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        reading.descriptor.close()
        later = [Pipe("read") for _ in range(3)]  # without letting the task run
        assert number not in [pipe.descriptor.fileno() for pipe in later]
        for pipe in later:
            os.write(pipe.theirs, b"for me")
        with anyio.fail_after(5):
            assert [await pipe.descriptor.read() for pipe in later] == [b"for me"] * 3
    for pipe in later:
        pipe.end()
        pipe.descriptor.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


async def test_who_forgets_it_leaves_no_end_that_somebody_waits_for() -> None:
    """As who breaks out of a generator that is never closed."""
    here, there = os.pipe()
    os.set_blocking(here, False)
    forgotten = Descriptor(there)
    reader = Descriptor(here)
    del forgotten
    gc.collect()
    assert await reader.read() == b""
    reader.close()
