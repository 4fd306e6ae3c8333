"""What a hostile container says to the gate, what reaches the API, and what comes back. covers: B5, T6"""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import ByteStream, SocketStream, UNIXSocketStream

from cc_bridge.channels.fifo import Descriptor
from cc_bridge.channels.named_pipe import NamedPipeChannel
from cc_bridge.limits import ApiLimits
from cc_bridge.proxy.api_client import ApiClient
from cc_bridge.proxy.gate import serve_connection
from cc_bridge.proxy.http_server import Patience
from cc_bridge.proxy.meters import Meters
from cc_bridge.proxy.terms import Entry, Guest, Refused, Upstream
from cc_bridge.proxy.way_out import PipedStream

pytestmark = pytest.mark.anyio

PLACEHOLDER = "placeholder-0123456789abcdef"
KEY = f"x-api-key: sk-{PLACEHOLDER}"
HEAD = "POST /v1/messages?beta=true HTTP/1.1\r\nHost: 127.0.0.1:3128\r\nConnection: close\r\n" + KEY + "\r\n"
KEPT = HEAD.replace("close", "keep-alive")
KEPT_WHOLE = (KEPT + "Content-Length: 2\r\n\r\n{}").encode()
WHOLE = (HEAD + "Content-Length: 2\r\n\r\n{}").encode()

START = {"type": "message_start", "message": {"model": "claude-haiku-4-5", "usage": {"input_tokens": 10}}}
DELTA = {"type": "message_delta", "usage": {"output_tokens": 4}}
STOP = {"type": "message_stop"}
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def events(*said: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in said)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


GOOD = STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(events(START, DELTA, STOP)) + b"0\r\n\r\n"


class World:
    """An upstream that says what it is told to, and what it was asked; connections to the gate, and its notes."""

    def __init__(self, limits: ApiLimits, patience: Patience) -> None:
        self.answer = GOOD
        self.hangs = False
        self.asked: list[bytes] = []
        self.hung_up = anyio.Event()
        self.notes: list[Entry] = []
        self.refused_logins: list[Upstream] = []
        self.url = ""
        self.headers: tuple[tuple[str, str], ...] = (("x-api-key", "the-real-key"),)
        self.limits, self.patience = limits, patience
        self.meters = Meters(limits)
        self.guest = Guest(
            name="g",
            placeholder=PLACEHOLDER,
            sealed=True,
            allow_hosts=(),
            limits=limits,
            login=self.login,
            note=self.notes.append,
            login_refused=self.refused_logins.append,
        )
        self.start: Callable[[ByteStream], object]

    async def login(self) -> Upstream:
        return Upstream(self.url, self.headers)

    async def upstream(self, stream: SocketStream) -> None:
        async with stream:
            asked = b""
            try:
                while not asked.endswith((b"{}", b"0\r\n\r\n")) and not (asked[:1] == b"G" and b"\r\n\r\n" in asked):
                    asked += await stream.receive()
                self.asked.append(asked)
                await stream.send(self.answer)
                if self.hangs:
                    await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                self.asked.append(asked)
                self.hung_up.set()

    async def connect(self) -> UNIXSocketStream:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.start(Served(theirs))
        return await UNIXSocketStream.from_socket(ours)

    async def say(self, data: bytes, *, end: bool = True) -> bytes:
        """What the gate answers until it closes."""
        got = b""
        with anyio.fail_after(20):
            async with await self.connect() as stream:
                await stream.send(data)
                if end:
                    await stream.send_eof()
                try:
                    while True:
                        got += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return got


class Served(ByteStream):
    """The gate's end. anyio's own stream of a socket cannot be cancelled when it has just become readable (4.16)."""

    def __init__(self, end: socket.socket) -> None:
        self._reader, self._writer = Descriptor(os.dup(end.fileno())), Descriptor(end.detach())

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if data := await self._reader.read(max_bytes):
            return data
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        await self._writer.write_all(item)

    async def send_eof(self) -> None:
        self._writer.end_writing()

    async def aclose(self) -> None:
        self._reader.close()
        self._writer.close()


class Echo:
    """A tunnel to nowhere, which says what it got."""

    sent = received = 0

    async def run(self, stream: ByteStream, early: bytes, passed: Callable[[int], None]) -> None:
        self.sent = self.received = len(early)
        await stream.send(early)
        passed(2 * len(early))
        await stream.send_eof()

    async def aclose(self) -> None:
        """Nothing to close."""


async def open_tunnel(host: str, port: int, guest: Guest) -> Echo:
    if (host, port) != ("good.example", 443):
        raise Refused(403, "permission_error", f"{host}:{port} is not allowed")
    return Echo()


@asynccontextmanager
async def world(limits: ApiLimits | None = None, **patience: float) -> AsyncIterator[World]:
    made = World(limits or ApiLimits(), Patience(**{"drain": 1.0, **patience}))
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with ApiClient() as client, listener, anyio.create_task_group() as group:
        made.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        group.start_soon(listener.serve, made.upstream)

        async def serve(stream: ByteStream) -> None:
            options = {"open_tunnel": open_tunnel, "patience": made.patience}
            await serve_connection(stream, made.guest, made.meters, client, **options)

        made.start = lambda stream: group.start_soon(serve, stream)
        yield made
        group.cancel_scope.cancel()


async def test_an_answer_comes_back_and_is_counted() -> None:
    async with world() as made:
        got = await made.say(WHOLE, end=False)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert got.endswith(b"0\r\n\r\n")
        [entry] = made.notes
        assert (entry.input_tokens, entry.output_tokens, entry.status, entry.refused) == (10, 4, 200, "")
        assert entry.usd == pytest.approx(30e-6)
        assert made.meters.as_dict()["output_tokens"] == 4


async def test_the_key_is_put_in_and_what_is_the_container_s_is_left_out() -> None:
    async with world() as made:
        more = (
            "Cookie: a=b\r\nForwarded: x\r\nX-Evil: 1\r\nAccept-Encoding: gzip\r\nanthropic-beta: oauth-1,b-2, c d\r\n"
        )
        await made.say((HEAD + more + "Authorization: Bearer x\r\nContent-Length: 2\r\n\r\n{}").encode(), end=False)
        asked = made.asked[0].lower()
        assert asked.count(b"x-api-key: the-real-key\r\n") == 1
        assert b"anthropic-beta: b-2\r\n" in asked
        assert b"accept-encoding: identity\r\n" in asked
        for word in (b"cookie", b"forwarded", b"evil", b"gzip", b"bearer", PLACEHOLDER.encode(), b"3128"):
            assert word not in asked


async def test_a_login_that_the_api_refuses_is_told_to_its_owner() -> None:
    async with world() as made:
        made.answer = b"HTTP/1.1 401 No\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        assert (await made.say(WHOLE, end=False)).startswith(b"HTTP/1.1 401 ")
        assert made.refused_logins == [await made.login()]


async def test_what_an_answer_says_of_servers_and_cookies_is_left_out() -> None:
    async with world() as made:
        made.answer = GOOD.replace(
            b"\r\n",
            b"\r\nServer: x\r\nSet-Cookie: a=b\r\nCF-Ray: 1\r\nRequest-Id: r\r\nanthropic-organization-id: o\r\n",
            1,
        )
        got = (await made.say(WHOLE, end=False)).lower()
        assert b"request-id: r\r\n" in got
        assert not [word for word in (b"server", b"cookie", b"cf-ray", b"organization") if word in got]


BODY = "Content-Length: 2\r\n\r\n{}"
REFUSED = {
    "both lengths": (HEAD + "Transfer-Encoding: chunked\r\n" + BODY, 400),
    "two lengths": (HEAD + "Content-Length: 2\r\n" + BODY, 400),
    "a length that is none": (HEAD + "Content-Length: +2\r\n\r\n{}", 400),
    "a length in a list": (HEAD + "Content-Length: 2, 2\r\n\r\n{}", 400),
    "another coding": (HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "a coding more": (HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a folded line": (HEAD + "X-A: b\r\n c: d\r\n" + BODY, 400),
    "a blank before the colon": (HEAD + "Content-Length : 2\r\n\r\n{}", 400),
    "a lone line feed": (HEAD + "X-A: b\nX-B: c\r\n" + BODY, 400),
    "a lone carriage return": (HEAD + "X-A: b\rX-B: c\r\n" + BODY, 400),
    "a zero byte": (HEAD + "X-A: b\0\r\n" + BODY, 400),
    "line feeds only": ("GET / HTTP/1.1\nHost: localhost\n\n", 400),
    "no host": ("POST /v1/messages HTTP/1.1\r\n" + BODY, 400),
    "two hosts": (HEAD + "Host: localhost\r\n" + BODY, 400),
    "another host": (HEAD.replace("127.0.0.1", "evil.example") + BODY, 403),
    "a host that begins well": (HEAD.replace("127.0.0.1", "127.0.0.1.evil.example") + BODY, 403),
    "a whole address": (HEAD.replace("/v1", "http://evil.example/v1") + BODY, 403),
    "an encoded path": (HEAD.replace("/v1/", "/v1/%2e%2e/") + BODY, 403),
    "an encoded slash": (HEAD.replace("/v1/", "/v1%2f") + BODY, 403),
    "two slashes": (HEAD.replace("/v1", "//v1") + BODY, 403),
    "a parameter": (HEAD.replace("messages", "messages;a") + BODY, 403),
    "a fragment": (HEAD.replace("?beta=true", "#a") + BODY, 403),
    "another query": (HEAD.replace("?beta=true", "?beta=true&a=b") + BODY, 403),
    "another part": (HEAD.replace("messages", "files") + BODY, 403),
    "another method": (HEAD.replace("POST", "DELETE") + BODY, 403),
    "no key": (HEAD.replace(KEY, "X-A: b") + BODY, 401),
    "another key": (HEAD.replace("0123", "0124") + BODY, 401),
    "an upgrade": (HEAD + "Connection: Upgrade\r\nUpgrade: h2c\r\n" + BODY, 400),
    "a trailer": (HEAD + "Trailer: x\r\n" + BODY, 400),
    "another expectation": (HEAD + "Expect: money\r\n" + BODY, 417),
    "an old version": (HEAD.replace("HTTP/1.1", "HTTP/1.0") + BODY, 505),
    "no HTTP": ("\x16\x03\x01\x02\r\n\r\n", 400),
    "a long head": (HEAD + "X-A: " + "b" * 40_000, 431),
    "many headers": (HEAD + "X-A: b\r\n" * 101 + "\r\n", 431),
    "a long path": (HEAD.replace("messages", "m" * 3000) + BODY, 414),
    "a large body": (HEAD + "Content-Length: 99999999\r\n\r\n", 413),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused_never_reaches_the_api_and_is_noted(what: str) -> None:
    said, status = REFUSED[what]
    async with world() as made:
        got = await made.say(said.encode("latin-1"))
        assert got.startswith(b"HTTP/1.1 %d " % status), got
        assert json.loads(got.partition(b"\r\n\r\n")[2])["type"] == "error"
        assert not made.asked
        [entry] = made.notes
        assert entry.status == status
        assert entry.refused


async def test_a_second_request_before_the_answer_is_no_answer_and_noted() -> None:
    async with world() as made:
        made.hangs, made.answer = True, b""
        assert b"200" not in await made.say(KEPT_WHOLE + KEPT_WHOLE, end=False)
        assert "second request" in made.notes[0].refused


async def test_one_after_the_other_on_one_connection() -> None:
    async with world() as made, await made.connect() as stream:
        for _ in range(3):
            got = b""
            await stream.send(KEPT_WHOLE)
            with anyio.fail_after(20):
                while not got.endswith(b"0\r\n\r\n"):
                    got += await stream.receive()
        assert len(made.asked) == 3


async def test_who_is_refused_may_try_again_on_the_same_connection() -> None:
    async with world() as made:
        got = await made.say((KEPT.replace("messages", "files") + BODY).encode())
        assert b"Connection: keep-alive" in got


@pytest.mark.parametrize(
    ("said", "limit"), [(HEAD.encode(), "head"), ((HEAD + "Content-Length: 9\r\n\r\n{").encode(), "silence")]
)
async def test_who_is_slow_is_refused(said: bytes, limit: str) -> None:
    async with world(**{limit: 0.05}) as made:
        assert (await made.say(said, end=False)).startswith(b"HTTP/1.1 408 ")
        assert "too long" in made.notes[0].refused


async def test_the_container_hangs_up_and_the_api_is_not_listened_to_any_longer() -> None:
    async with world() as made:
        made.hangs, made.answer = True, STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(events(START))
        async with await made.connect() as stream:
            await stream.send(WHOLE)
            with anyio.fail_after(20):
                assert await stream.receive()
        with anyio.fail_after(20):
            await made.hung_up.wait()


async def test_who_hangs_up_before_the_answer_begins_has_used_what_was_asked() -> None:
    async with world(ApiLimits(tokens_per_day=30)) as made:
        made.hangs, made.answer = True, b"HTTP/1.1 "
        body = b" " * 98 + b"{}"
        async with await made.connect() as stream:
            await stream.send(WHOLE.replace(b"Content-Length: 2\r\n\r\n{}", b"Content-Length: 100\r\n\r\n" + body))
            while not made.asked:
                await anyio.lowlevel.checkpoint()
        with anyio.fail_after(20):
            await made.hung_up.wait()
        assert b"limit of 30 tokens" in await made.say(WHOLE)


async def test_a_kept_connection_has_the_login_and_the_limits_of_now() -> None:
    async with world() as made, piped(made) as stream:
        for key, limits in (("first", ApiLimits()), ("second", ApiLimits(requests_per_minute=1))):

            async def login(key: str = key) -> Upstream:
                return Upstream(made.url, (("x-api-key", key),))

            made.guest.login = login
            made.meters.limits = limits
            await stream.send(KEPT_WHOLE)
            got = b""
            with anyio.fail_after(20):
                while not got.endswith(b"0\r\n\r\n"):
                    got += await stream.receive()
        assert [key in asked for key, asked in zip((b"first", b"second"), made.asked, strict=True)] == [True, True]
        await stream.send(KEPT_WHOLE)
        with anyio.fail_after(20):
            assert b" 429 " in await stream.receive()


def piped(made: World) -> PipedStream:
    """A connection, as agents have them. anyio's own cannot wait right after a wait that was cancelled (4.16)."""
    ends = [Descriptor(end) for _ in range(2) for end in os.pipe2(os.O_NONBLOCK)]
    made.start(PipedStream(NamedPipeChannel(ends[0], ends[3])))
    return PipedStream(NamedPipeChannel(ends[2], ends[1]))


async def test_who_asks_again_as_soon_as_all_of_an_answer_is_there_is_answered() -> None:
    async with world() as made, piped(made) as stream:
        made.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        for _ in range(50):
            await stream.send(KEPT_WHOLE)
            got = b""
            with anyio.fail_after(20):
                while not got.endswith(b"\r\n\r\n{}"):
                    got += await stream.receive()
    assert not [entry for entry in made.notes if entry.refused]
    assert len(made.notes) >= 49  # a request is noted after its answer


UNFINISHED = {
    "in a chunk": STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(events(START, DELTA))[:-9],
    "between chunks": STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(events(START)),
    "with an end that is none": STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(events(START)) + b"0\r\n\r\n",
    "without a length": STREAM + b"\r\n" + events(START),
    "before its length": STREAM + b"Content-Length: 9999\r\n\r\n" + events(START, DELTA, STOP),
}


@pytest.mark.parametrize("how", UNFINISHED)
async def test_an_answer_that_was_cut_is_never_complete(how: str) -> None:
    async with world() as made:
        made.answer = UNFINISHED[how]
        got = await made.say(WHOLE, end=False)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert not got.endswith(b"0\r\n\r\n")
        assert made.notes[0].refused
        assert made.notes[0].input_tokens == 10


def break_off(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def broken(answer: httpx.Response) -> AsyncIterator[bytes]:
        yield b"{"
        raise error

    monkeypatch.setattr(httpx.Response, "aiter_raw", broken)


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


async def test_an_answer_whose_encryption_breaks_is_never_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(monkeypatch, ssl.SSLError("bad record"))
    async with world() as made:
        made.answer = CHUNKED
        got = await made.say(WHOLE, end=False)
        assert b"{" in got
        assert not got.endswith(b"0\r\n\r\n")
        assert "SSLError" in made.notes[0].refused


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 307 X\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
        GOOD.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1),
    ],
)
async def test_an_api_that_answers_nonsense_is_a_bad_gateway(answer: bytes) -> None:
    async with world() as made:
        made.answer = answer
        got = await made.say(WHOLE, end=False)
        assert got.startswith(b"HTTP/1.1 502 ")
        assert b"evil" not in got


async def test_an_api_that_is_down_is_a_bad_gateway() -> None:
    async with world() as made:
        made.login = lambda: _down()  # type: ignore[method-assign]
        made.url = "http://127.0.0.1:1"
        assert (await made.say(WHOLE, end=False)).startswith(b"HTTP/1.1 502 ")


async def _down() -> Upstream:
    return Upstream("http://127.0.0.1:1", ())


async def test_limits_of_a_minute_and_a_day() -> None:
    async with world(ApiLimits(requests_per_minute=2, tokens_per_day=20)) as made:
        assert b" 200 " in await made.say(WHOLE, end=False)
        assert b" 200 " in await made.say(WHOLE, end=False)
        got = await made.say(WHOLE, end=False)
        assert got.startswith(b"HTTP/1.1 402 ")
        assert b"limit of 20 tokens" in got
        assert b"\r\nX-Should-Retry: false\r\n" in got


async def test_a_body_in_chunks_and_one_that_is_waited_for() -> None:
    async with world() as made:
        said = HEAD + "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        got = await made.say(said.encode(), end=False)
        assert got.startswith(b"HTTP/1.1 100 ")
        assert b"HTTP/1.1 200 " in got
        assert b"{}" in made.asked[0]


async def test_a_greeting_is_answered_here() -> None:
    async with world() as made:
        got = await made.say(b"HEAD / HTTP/1.1\r\nHost: localhost:3128\r\nConnection: close\r\n\r\n", end=False)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert not made.asked


async def test_a_tunnel_is_counted_and_a_day_s_bytes_end_it() -> None:
    said = b"CONNECT good.example:443 HTTP/1.0\r\n\r\nhello"
    async with world(ApiLimits(bytes_per_day=9)) as made:
        assert (await made.say(said)).endswith(b"\r\n\r\nhello")
        assert (await made.say(said)).startswith(b"HTTP/1.1 402 ")
        first = made.notes[0]
        assert (first.method, first.host, first.sent, first.status) == ("CONNECT", "good.example:443", 5, 200)
        assert "limit of 9 bytes" in first.refused


@pytest.mark.parametrize(
    ("target", "status"),
    [("evil.example:443", 403), ("good.example", 400), ("good.example:99999", 400), ("[::g]:1", 400)],
)
async def test_a_tunnel_that_is_refused_says_why_in_its_first_line(target: str, status: int) -> None:
    async with world() as made:
        got = await made.say(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert made.notes[0].refused.encode() in got.partition(b"\r\n")[0]
