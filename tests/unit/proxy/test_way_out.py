"""The way out of an instance whose agent is hostile: it costs its own, is bounded, and ends. covers: C15"""

from __future__ import annotations

import base64
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import ByteStream

from cc_bridge.channels.base import Channel
from cc_bridge.channels.fifo import Descriptor
from cc_bridge.channels.named_pipe import NamedPipeChannel
from cc_bridge.channels.unix_socket import UnixSocketChannel
from cc_bridge.errors import AgentUnavailable
from cc_bridge.logs import Log
from cc_bridge.protocol.egress import MOST_STREAMS, WINDOW
from cc_bridge.proxy import way_out
from cc_bridge.proxy.way_out import WayOut

pytestmark = pytest.mark.anyio

HELLO = b'{"hello":1,"agent":"0.2.0","epoch":"e","session":"egress","port":1}\n'


class Hostile:
    """A place whose agent is the other end of a socket."""

    name = "hostile"

    def __init__(self, kind: str = "exec") -> None:
        self._kind = kind
        self.agent, self._ours = socket.socketpair()
        self.met = 0

    async def way_to_look(self, greeting: bytes) -> Channel:
        self._ours.setblocking(False)
        channel = UnixSocketChannel(Descriptor(self._ours.detach()))
        channel.kind = self._kind
        await channel.send(greeting)
        return channel

    async def pipes(self, greeting: bytes) -> NamedPipeChannel:
        self.met += 1
        raise AgentUnavailable("does not answer")

    async def say(self, data: bytes) -> None:
        """All of it; less where nobody reads any more."""
        with suppress(OSError):
            await anyio.to_thread.run_sync(self.agent.sendall, data, abandon_on_cancel=True)


async def hold(stream: ByteStream) -> None:
    await anyio.sleep_forever()


@asynccontextmanager
async def served(place: Hostile, handle: Callable[[ByteStream], Awaitable[None]] = hold) -> AsyncIterator[anyio.Event]:
    """The service runs within the block, or has ended by itself (the event) before it."""
    ended = anyio.Event()

    async def serve() -> None:
        await WayOut(place, Log("hostile", "container")).serve(handle)
        ended.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            await place.say(HELLO)
            yield ended
            place.agent.close()
            await ended.wait()


@pytest.mark.parametrize("kind", ["exec", "pipes"])
async def test_a_million_announcements_end_it(kind: str) -> None:
    place = Hostile(kind)
    async with served(place) as ended:
        frames = b"".join(b'{"open":%d}\n' % number for number in range(100_000))
        tracemalloc.start()
        await place.say(frames)
        await ended.wait()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 20_000_000
    assert place.met <= 2 * MOST_STREAMS


async def test_of_streams_that_open_and_end_256_are_served_at_once() -> None:
    place, at_once, most = Hostile(), 0, 0
    seen = bytearray()

    async def count(stream: ByteStream) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            await stream.receive()
        finally:
            at_once -= 1

    async with served(place, count) as ended:
        for start in range(0, 10_000, 400):
            numbers = range(start, start + 400)
            await place.say(b"".join(b'{"open":%d}\n' % number for number in numbers))
            while b'"accept":%d}' % (start + 200) not in seen:
                seen += await anyio.to_thread.run_sync(place.agent.recv, 65536)
            await place.say(b"".join(b'{"stream":%d,"reset":true}\n' % number for number in numbers))
        while at_once:
            await anyio.lowlevel.checkpoint()
        assert not ended.is_set()
    assert 200 < most <= MOST_STREAMS


async def test_tiny_pieces_take_no_more_memory_than_their_bytes_and_beyond_the_credit_all_ends() -> None:
    place = Hostile()
    async with served(place) as ended:
        await place.say(b'{"open":1}\n')
        assert b"accept" in await accepted(place)
        frame = b'{"stream":1,"data":"eA=="}\n'
        tracemalloc.start()
        await place.say(frame * 20_000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 4_000_000
        assert not ended.is_set()
        piece = base64.b64encode(bytes(65536)).decode()
        await place.say(b'{"stream":1,"data":"%b"}\n' % piece.encode() * (WINDOW // 65536))
        await ended.wait()


async def accepted(place: Hostile) -> bytes:
    said = b""
    while b"accept" not in said:
        said += await anyio.to_thread.run_sync(place.agent.recv, 65536)
    return said


async def test_who_never_reads_is_written_to_within_bounds_and_then_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way_out, "_SEND_LIMIT", 0.3)
    place, sent = Hostile(), 0

    async def talk(stream: ByteStream) -> None:
        nonlocal sent
        while True:
            await stream.send(bytes(65536))
            sent += 65536

    async with served(place, talk) as ended:
        await place.say(b"".join(b'{"open":%d}\n' % number for number in range(100)))
        await ended.wait()
    assert sent < 8_000_000


async def test_pipes_that_cannot_be_had_cost_a_connection_each() -> None:
    place = Hostile("pipes")
    async with served(place) as ended:
        await place.say(b'{"open":1}\n{"open":2}\n')
        said = b""
        while said.count(b"refuse") < 2:
            said += await anyio.to_thread.run_sync(place.agent.recv, 65536)
        assert not ended.is_set()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b'{"error":"egress","message":"none"}\n', "none"),
        (b'{"hello":1}\n', "no way out"),
        (b"GET /\n", "not JSON"),
        (b"", "went away"),
    ],
)
async def test_an_agent_that_gives_no_way_out(said: bytes, why: str) -> None:
    place = Hostile()
    await place.say(said)
    place.agent.shutdown(socket.SHUT_WR)
    with place.agent, pytest.raises(AgentUnavailable, match=why):
        await WayOut(place, Log("hostile", "container")).serve(hold)
