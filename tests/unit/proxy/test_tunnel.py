"""Tunnels over real sockets of this machine, for streams that are pipes and for others."""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest

from cc_bridge.channels.fifo import Descriptor
from cc_bridge.limits import ApiLimits
from cc_bridge.proxy.terms import Guest, Refused, Upstream
from cc_bridge.proxy.tunnel import open_tunnel

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def no_login() -> Upstream:
    raise AssertionError("tunnels need no login")


def guest(*allow_hosts: str, sealed: bool = True) -> Guest:
    return Guest(
        name="g",
        placeholder="p",
        sealed=sealed,
        allow_hosts=allow_hosts,
        limits=ApiLimits(),
        login=no_login,
        note=lambda _: None,
    )


def hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


HELLO = hello("localhost")


class Ends(anyio.abc.ByteStream):
    """A stream of two descriptors. Pipes' are shown, so that they are spliced."""

    def __init__(self, reading: int, writing: int, *, shown: bool) -> None:
        self.reading, self.writing = Descriptor(reading), Descriptor(writing)
        if shown:
            self.read_fd, self.write_fd = reading, writing

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if data := await self.reading.read():
            return data
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        await self.writing.write_all(item)

    async def send_eof(self) -> None:
        self.writing.close()

    async def aclose(self) -> None:
        self.reading.close()
        self.writing.close()


@pytest.fixture(params=["spliced", "copied"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Ends, Ends]]:
    """What the tunnel has of a stream, and what the program in the container has."""
    out, back = os.pipe(), os.pipe()
    for fd in (*out, *back):
        os.set_blocking(fd, False)
    ours = Ends(out[0], back[1], shown=request.param == "spliced")
    theirs = Ends(back[0], out[1], shown=False)
    async with ours, theirs:
        yield ours, theirs


@asynccontextmanager
async def server(handle: Callable[[anyio.abc.SocketStream], Awaitable[Any]]) -> AsyncIterator[int]:
    async def serve_one(client: anyio.abc.SocketStream) -> None:
        async with client:
            await handle(client)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve_one)
        with anyio.fail_after(60):
            yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def everything(stream: anyio.abc.ByteStream) -> bytes:
    return b"".join([data async for data in stream])


async def test_bytes_half_closes_and_back_pressure(pair: tuple[Ends, Ends]) -> None:
    ours, theirs = pair
    data, got = os.urandom(3_000_000), bytearray()

    async def answers_when_all_is_there(client: anyio.abc.SocketStream) -> None:
        got.extend(await everything(client))
        await client.send(bytes(got))

    async def says() -> None:
        await theirs.send(HELLO[20:] + data)
        await theirs.send_eof()

    counted: list[int] = []
    async with server(answers_when_all_is_there) as port:
        tunnel = await open_tunnel("LocalHost.", port, guest(f"localhost:{port}=127.0.0.0/8"))
        async with anyio.create_task_group() as group:
            group.start_soon(says)
            group.start_soon(tunnel.run, ours, HELLO[:20], counted.append)
            answer = await everything(theirs)
    assert answer == got == HELLO + data
    assert tunnel.sent == tunnel.received == len(answer)
    assert sum(counted) == 2 * len(answer)


@pytest.mark.parametrize(
    ("early", "why"),
    [(hello("evil.example"), "evil.example greeted"), (b"GET / HTTP/1.1\r\n\r\n", "no TLS")],
)
async def test_nothing_goes_out_to_another_name(pair: tuple[Ends, Ends], early: bytes, why: str) -> None:
    ours, theirs = pair
    got: list[bytes] = []
    ended = anyio.Event()

    async def notes(client: anyio.abc.SocketStream) -> None:
        with pytest.raises(anyio.BrokenResourceError):  # a reset
            got.append(await client.receive())
        ended.set()

    async with server(notes) as port:
        tunnel = await open_tunnel("localhost", port, guest(f"localhost:{port}=127.0.0.1"))
        with pytest.raises(Refused, match=why) as refused:
            await tunnel.run(ours, early)
        await ended.wait()
    assert refused.value.status == 403
    assert not got
    assert await everything(theirs) == b"\x15\x03\x03\x00\x02\x02\x70"


async def test_a_server_that_breaks_off_is_no_end(pair: tuple[Ends, Ends]) -> None:
    ours, _ = pair

    async def breaks(client: anyio.abc.SocketStream) -> None:
        raw = client.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await client.aclose()

    async with server(breaks) as port:
        tunnel = await open_tunnel("localhost", port, guest(f"localhost:{port}=127.0.0.1"))
        await tunnel.run(ours, HELLO)
    assert ours.writing.fileno() != -1, "the stream was told of a proper end"


async def test_an_urgent_byte_stops_nothing(pair: tuple[Ends, Ends]) -> None:
    """It cannot be spliced, and is lost; what comes behind it is read."""
    ours, theirs = pair

    async def urges(client: anyio.abc.SocketStream) -> None:
        await client.receive()
        with socket.socket(fileno=os.dup(client.extra(anyio.abc.SocketAttribute.raw_socket).fileno())) as raw:
            for data, flags in ((b"ab", 0), (b"!", socket.MSG_OOB), (b"cd", 0)):
                raw.send(data, flags)
        await client.send_eof()
        assert await everything(client) == b""

    async with server(urges) as port:
        tunnel = await open_tunnel("localhost", port, guest(f"localhost:{port}=127.0.0.1"))
        async with anyio.create_task_group() as group:
            group.start_soon(tunnel.run, ours, HELLO)
            assert await everything(theirs) == b"abcd"
            await theirs.aclose()


async def test_much_passes_and_gets_room(pair: tuple[Ends, Ends]) -> None:
    ours, theirs = pair
    data = bytes(10_000_000)

    async def answers(client: anyio.abc.SocketStream) -> None:
        await client.receive()
        await client.send(data)

    async with server(answers) as port:
        tunnel = await open_tunnel("localhost", port, guest(f"localhost:{port}=127.0.0.1"))
        async with anyio.create_task_group() as group:
            group.start_soon(tunnel.run, ours, HELLO)
            assert await everything(theirs) == data
            if hasattr(ours, "read_fd"):
                assert fcntl.fcntl(theirs.reading.fileno(), fcntl.F_GETPIPE_SZ) == 2**20
            await theirs.aclose()


async def test_a_limit_ends_a_tunnel(pair: tuple[Ends, Ends]) -> None:
    ours, _ = pair

    def passed(_: int) -> None:
        raise Refused(429, "rate_limit_error", "enough")

    async def reads(client: anyio.abc.SocketStream) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await everything(client)

    async with server(reads) as port:
        tunnel = await open_tunnel("localhost", port, guest(f"localhost:{port}=127.0.0.1"))
        with pytest.raises(Refused, match="enough"):
            await tunnel.run(ours, HELLO, passed)


async def test_a_refusal_names_the_option() -> None:
    with pytest.raises(Refused) as refused:
        await open_tunnel("evil.example", 443, guest("good.example", "*.evil.example"))
    assert refused.value.message == "evil.example:443 is not allowed: cc-bridge ... --allow-host evil.example:443"


async def test_what_is_allowed_may_change() -> None:
    one = guest("localhost:1=127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Refused, match="not allowed"):
            await open_tunnel("localhost", port, one)
        one.allow_hosts = (f"localhost:{port}=127.0.0.1",)
        await (await open_tunnel("localhost", port, one)).aclose()
        one.allow_hosts = ()
        with pytest.raises(Refused, match="not allowed"):
            await open_tunnel("localhost", port, one)


@pytest.mark.parametrize(
    ("host", "rule", "status", "why"),
    [
        ("localhost", "localhost:9", 403, "no public address: cc-bridge ... --allow-host localhost:9=ADDRESS"),
        ("localhost", "localhost:9=10.0.0.0/8", 403, "no public address"),
        ("127.0.0.1", "localhost:9", 400, "not given by its address"),
        ("a b\r\n", "localhost:9", 400, "letters, digits"),
    ],
)
async def test_what_is_not_connected_to(host: str, rule: str, status: int, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        await open_tunnel(host, 9, guest(rule))
    assert refused.value.status == status
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()


async def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Refused, match="Connection refused") as refused:
        await open_tunnel("localhost", port, guest(f"localhost:{port}=127.0.0.1"))
    assert refused.value.status == 502


async def test_hosts_that_are_changed_count_from_the_next_tunnel_on() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    changed = guest(f"localhost:{port}=127.0.0.1")
    async with listener:
        await (await open_tunnel("localhost", port, changed)).aclose()
        changed.allow_hosts = ()
        with pytest.raises(Refused, match="not allowed"):
            await open_tunnel("localhost", port, changed)


async def test_who_is_not_sealed_has_no_tunnels() -> None:
    with pytest.raises(Refused, match="not sealed"):
        await open_tunnel("localhost", 443, guest("localhost", sealed=False))
