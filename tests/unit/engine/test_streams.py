"""The engine's stream frames, however they are cut. covers: R2"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import EngineError
from cc_bridge.engine import streams as module
from cc_bridge.engine.streams import Chunk, Demultiplexer, raw_socket, read_chunks, read_until
from cc_bridge.errors import EngineUnavailable

PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=50)), max_size=10)


def framed(pieces: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in pieces)


@given(PIECES, st.lists(st.integers(0, 10**6)))
def test_any_cut(pieces: list[tuple[int, bytes]], positions: list[int]) -> None:
    data, demultiplexer = framed(pieces), Demultiplexer()
    ends = sorted({position % (len(data) + 1) for position in positions})
    found: dict[int, bytes] = {1: b"", 2: b""}
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        for stream, piece in demultiplexer.feed(data[start:end]):
            found[stream] += piece
    for stream in (1, 2):
        assert found[stream] == b"".join(data for of, data in pieces if of == stream)


@pytest.mark.parametrize("data", [b"OCI runtime", b"\x01\x01\x00\x00\x00\x00\x00\x01x", b"HTTP/1.1 200"])
def test_what_is_no_such_stream(data: bytes) -> None:
    with pytest.raises(EngineError, match="garbled"):
        list(Demultiplexer().feed(data))


@pytest.mark.parametrize("header", [b"\x03\0\0\0", b"\x02\0\0\1", b"\x02\0\1\0"])
def test_a_header_that_no_stream_has(header: bytes) -> None:
    demultiplexer = Demultiplexer()
    assert list(demultiplexer.feed(header + b"\0\0\0")) == [], "it is not whole yet"
    with pytest.raises(EngineError, match="garbled"):
        list(demultiplexer.feed(b"\1"))


def test_a_frame_without_data_is_nothing() -> None:
    assert list(Demultiplexer().feed(b"\0\0\0\0\0\0\0\0" + framed([(1, b""), (2, b"x")]))) == [Chunk(2, b"x")]


def test_with_a_terminal_there_are_no_frames() -> None:
    demultiplexer = Demultiplexer(tty=True)
    assert list(demultiplexer.feed(b"OCI")) == [Chunk(1, b"OCI")]
    assert list(demultiplexer.feed(b"")) == []


class Engine:
    """The engine's end of a stream."""

    def __init__(self) -> None:
        self.theirs, ours = socket.socketpair()
        self.theirs.setblocking(False)
        ours.setblocking(False)
        self.fd = ours.detach()

    def say(self, *pieces: tuple[int, bytes]) -> None:
        self.theirs.send(framed(list(pieces)))

    def heard(self) -> bytes:
        data = b""
        try:
            while read := self.theirs.recv(1_000_000):
                data += read
        except BlockingIOError:
            pass
        return data


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.theirs.close()
    os.close(made.fd)


@pytest.mark.anyio
class TestReading:
    async def collect(self, engine: Engine, early: bytes = b"", **options: Any) -> list[Chunk]:
        with anyio.fail_after(20):
            return [chunk async for chunk in read_chunks(engine.fd, early, Demultiplexer(), **options)]

    async def test_what_came_early_goes_first_and_all_is_read_to_the_end(self, engine: Engine) -> None:
        engine.say((2, b"b"), (1, b"x" * 100_000))
        engine.theirs.close()
        chunks = await self.collect(engine, framed([(1, b"a")]))
        assert chunks[:2] == [Chunk(1, b"a"), Chunk(2, b"b")]
        assert b"".join(data for _, data in chunks[2:]) == b"x" * 100_000

    async def test_nothing_is_read_before_it_is_wanted(self, engine: Engine) -> None:
        engine.say((1, b"one"))
        chunks = read_chunks(engine.fd, framed([(1, b"early")]), Demultiplexer())
        assert await anext(chunks) == Chunk(1, b"early")
        assert len(os.read(engine.fd, 100)) == 11, "it is still in the socket"
        await chunks.aclose()

    async def test_input_is_sent_while_output_is_read_and_then_its_end(self, engine: Engine) -> None:
        heard, data = bytearray(), os.urandom(2_000_000)

        async def other_side() -> None:
            while len(heard) < len(data):
                await anyio.wait_readable(engine.theirs)
                heard.extend(engine.heard())
                engine.say((1, b"."))
            await anyio.wait_readable(engine.theirs)
            assert engine.theirs.recv(1) == b"", "the end of its input"
            engine.say((1, b"end"))
            engine.theirs.shutdown(socket.SHUT_WR)

        async with anyio.create_task_group() as group:
            group.start_soon(other_side)
            chunks = await self.collect(engine, stdin=data)
        assert bytes(heard) == data
        assert b"".join(data for _, data in chunks).strip(b".") == b"end"

    async def test_no_input_at_all_is_not_an_empty_one(self, engine: Engine) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.collect, engine)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(BlockingIOError):
                engine.theirs.recv(1)
            group.cancel_scope.cancel()

    async def test_an_empty_input_is_its_end(self, engine: Engine) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: self.collect(engine, stdin=b""))
            with anyio.fail_after(20):
                await anyio.wait_readable(engine.theirs)
            assert engine.theirs.recv(1) == b""
            group.cancel_scope.cancel()

    async def test_who_has_closed_its_input_is_read_to_its_end(self, engine: Engine) -> None:
        engine.theirs.shutdown(socket.SHUT_RD)
        engine.say((1, b"a"))
        engine.theirs.shutdown(socket.SHUT_WR)
        assert await self.collect(engine, stdin=b"x" * 1_000_000) == [Chunk(1, b"a")]

    async def test_a_connection_that_breaks(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        ours.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with pytest.raises(EngineUnavailable, match="broke: Connection reset"):
            _ = [chunk async for chunk in read_chunks(ours.fileno(), b"", Demultiplexer())]
        ours.close()

    async def test_a_log_is_read_until_what_is_awaited(self, engine: Engine) -> None:
        engine.say((1, b"one "), (2, b"ready\xff"), (1, b" more"))
        assert await read_until(engine.fd, framed([(1, b"early ")]), ["never", "ready"], 20) == (
            "ready",
            "early one ready\ufffd more",
        )

    async def test_what_came_early_may_be_it(self, engine: Engine) -> None:
        assert await read_until(engine.fd, framed([(1, b"ready")]), ["ready"], 20) == ("ready", "ready")

    async def test_what_is_awaited_may_be_cut(self, engine: Engine) -> None:
        async with anyio.create_task_group() as group:

            async def later() -> None:
                await anyio.wait_all_tasks_blocked()
                engine.say((1, b"dy"))

            engine.say((1, b"rea"))
            group.start_soon(later)
            assert (await read_until(engine.fd, b"", ["ready"], 20))[0] == "ready"

    async def test_a_log_that_ends_or_takes_too_long(self, engine: Engine) -> None:
        engine.say((1, b"some"))
        assert await read_until(engine.fd, framed([(1, b"early ")]), ["ready"], 0) == (None, "early ")
        engine.theirs.close()
        assert await read_until(engine.fd, b"", ["ready"], 20) == (None, "some")

    async def test_of_a_long_log_the_end_is_kept(self, engine: Engine) -> None:
        assert module._KEPT == 16384
        engine.say((1, b"a" * 100), (1, b"b" * 16380), (2, b"last"))
        engine.theirs.close()
        assert await read_until(engine.fd, b"", ["ready"], 20) == (None, "b" * 16380 + "last")


class Response:
    """What the SDK answers: a response around a connection, of which it may have read too much."""

    def __init__(self, connection: Any, early: bytes | None = None) -> None:
        self._sock = connection
        self._response = self
        self.closed = False
        self._early = early
        if early is not None:
            self.raw = self._fp = self.fp = self

    def peek(self) -> bytes:
        assert self._early is not None
        return self._early

    def close(self) -> None:
        self.closed = True
        self._sock.close()


class TestRawSocket:
    def test_it_outlives_the_response_and_does_not_block(self) -> None:
        theirs, ours = socket.socketpair()
        response = Response(ours, b"early")
        fd, early = raw_socket(response)
        assert (early, response.closed, os.get_blocking(fd)) == (b"early", True, False)
        os.write(fd, b"x")
        assert theirs.recv(1) == b"x"
        os.close(fd)
        theirs.close()

    def test_where_nothing_came_early(self) -> None:
        theirs, ours = socket.socketpair()
        fd, early = raw_socket(Response(ours))
        assert early == b""
        os.close(fd)
        theirs.close()

    def test_a_connection_of_another_kind_is_named(self) -> None:
        with pytest.raises(EngineError, match="of type Channel"):
            raw_socket(type("Channel", (), {})())
