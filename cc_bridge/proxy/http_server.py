"""One connection of a container's, as HTTP: strict, with limits on sizes and times, and one request after the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import h11
from anyio.abc import ByteStream

from .request_head import LARGEST_BODY, LARGEST_HEAD, Head, find_end, read_head
from .terms import Refused

__all__ = ["HttpServer", "HungUp", "Patience"]

_CHUNK = 64 * 1024

#: Bytes of a refused request that are read, so that its sender, who may read nothing before it has sent all, sees why.
_MOST_DRAINED = LARGEST_BODY

#: Refusals that are the same a moment later. Claude Code with an API key asks again for minutes after a 401.
_FINAL = (401, 402, 403)


class HungUp(Exception):
    """The container's end is gone, or was too slow: nobody is there to be answered."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long who is in the container may take, in seconds.

    Attributes:
        idle: between requests.
        head: from a request's first byte to the end of its head.
        silence: between two pieces of a body.
        body: for a whole body.
        reading: to take a piece of an answer. An instance may be paused for some time.
        drain: to send the rest of a request that was refused.
    """

    idle: float = 300.0
    head: float = 30.0
    silence: float = 60.0
    body: float = 600.0
    reading: float = 600.0
    drain: float = 10.0


class HttpServer:
    """The server's side of one connection. For each request: ``next_head``, then ``body`` or none, then an answer."""

    def __init__(self, stream: ByteStream, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience
        self._rest = self._head = b""  # what was read and not looked at; the head of an answer, not sent yet
        self._http = h11.Connection(h11.SERVER)
        self.sent = self.received = 0
        self.status = 0

    async def next_head(self) -> Head | None:
        """The next request; None: the container has closed, or was idle for too long.

        Raises:
            Refused: it is malformed, or too slow.
            HungUp: it ended in the middle of one.
        """
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self.sent, self.received, self.status = 0, 0, 0
        if not self._rest:
            with anyio.move_on_after(self._patience.idle):
                self._rest = await self._receive(at_end=b"")
            if not self._rest:
                return None
        head = bytearray(self._rest)
        try:
            with anyio.fail_after(self._patience.head):
                while (end := find_end(head)) < 0:
                    head += await self._receive()
        except TimeoutError:
            raise _slow("its head") from None
        self._rest = bytes(head[end:])
        return read_head(bytes(head[:end]))

    def expect_body(self, head: Head) -> None:
        """The request is one that is answered here: read its body by h11, which knows how it is framed.

        Raises:
            Refused: h11 finds a mistake.
        """
        lines = [f"{head.method} {head.target} HTTP/{head.version}", *(f"{n}: {v}" for n, v in head.headers)]
        try:
            self._http.receive_data("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
            self._http.next_event()
        except h11.RemoteProtocolError as problem:
            raise Refused(
                problem.error_status_hint, "invalid_request_error", f"the request is refused: {problem}"
            ) from None
        if self._rest:
            self._http.receive_data(self._rest)
            self._rest = b""

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body, as it comes; at most 64 MiB.

        Raises:
            Refused: it is malformed, too large, or too slow.
            HungUp: the container's end has gone before its end.
        """
        if self._http.they_are_waiting_for_100_continue:
            await self._write(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        end = anyio.current_time() + self._patience.body
        while (event := self._next_event()) is not h11.EndOfMessage:
            if event is h11.NEED_DATA:
                # No scope of cancellation is open when a piece is yielded: who reads them may be in another.
                left = min(self._patience.silence, end - anyio.current_time())
                try:
                    with anyio.fail_after(left):
                        data = await self._receive()
                except TimeoutError:
                    raise _slow("its body") from None
                self._http.receive_data(data)
            elif isinstance(event, bytes):
                yield event

    def _next_event(self) -> bytes | type:
        """A piece of the request's body, ``h11.NEED_DATA``, or ``h11.EndOfMessage``."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as problem:
            raise Refused(400, "invalid_request_error", f"the request's body is refused: {problem}") from None
        if isinstance(event, h11.Data):
            self.received += len(event.data)
            if self.received > LARGEST_BODY:
                raise Refused(413, "request_too_large", f"the request's body has more than {LARGEST_BODY} bytes")
            return bytes(event.data)
        return h11.NEED_DATA if event is h11.NEED_DATA else h11.EndOfMessage

    async def watch(self) -> str:
        """Wait until the container hangs up, or has sent what it may not send yet; returns which, in words.

        Call it when a request has been read. What comes later is the next request's, which may know sooner than this
        end that it has all of the answer; no more than a piece of it is taken.
        """
        if self._http.trailing_data[0]:
            return "a second request came before the first was answered"
        self._rest = await self._receive(at_end=b"")
        if self._rest:
            await anyio.sleep_forever()
        return ""

    def begin_answer(self, status: int, headers: list[tuple[str, str]]) -> None:
        """An answer's head, sent with what follows; without a ``content-length`` the body is sent in chunks."""
        self.status = status
        reason = b"OK" if status == 200 else b""
        self._head = self._http.send(h11.Response(status_code=status, headers=headers, reason=reason)) or b""

    async def send(self, data: bytes) -> None:
        """Send a piece of an answer's body; an empty one sends the head."""
        await self._write(h11.Data(data=data))
        self.sent += len(data)

    async def end_answer(self) -> None:
        """The answer is complete."""
        await self._write(h11.EndOfMessage())

    async def may_go_on(self) -> bool:
        """Whether another request may follow an answer; reads what is left of the one that was answered."""
        return self._http.our_state is h11.DONE and await self._drain()

    async def refuse(self, refused: Refused, head: Head | None) -> bool:
        """Answer with an error, in the API's own form. Returns whether another request may follow."""
        body = json.dumps({"type": "error", "error": {"type": refused.kind, "message": refused.message}}).encode()
        tunnel = head is not None and head.method == "CONNECT"
        # Programs that ask for a tunnel show the first line, and no more.
        reason = "".join(c for c in refused.message if " " <= c <= "~")[:300] if tunnel else "Refused"
        self.status = refused.status
        known = self._http.their_state in (h11.SEND_BODY, h11.DONE)
        waiting = self._http.they_are_waiting_for_100_continue
        wanted = head is not None and head.get("connection").lower() != "close"
        goes_on = known and wanted and not waiting
        lines = [
            f"HTTP/1.1 {refused.status} {reason}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: " + ("keep-alive" if goes_on else "close"),
        ]
        if refused.status in _FINAL:
            lines.append("X-Should-Retry: false")
        answer = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
        if head is None or head.method != "HEAD":
            answer += body
        await self._send_raw(answer)
        return goes_on and await self._drain()

    async def _drain(self) -> bool:
        """Read what is left of a request that was refused; whether its end was found."""
        if self._http.their_state is h11.DONE:
            return not self._http.trailing_data[0]
        with anyio.move_on_after(self._patience.drain):
            try:
                async for _ in self.body():
                    pass
            except (Refused, HungUp):
                return False
            return not self._http.trailing_data[0]
        return False

    def take_over(self) -> bytes:
        """The connection becomes a tunnel: what was read too early."""
        early, self._rest = self._rest, b""
        return early

    async def accept_tunnel(self) -> None:
        """Say that the tunnel stands."""
        self.status = 200
        await self._send_raw(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def close(self, *, cut: bool) -> None:
        """End the connection: cut in the middle of an answer, so that nobody takes it for complete; else in order."""
        with anyio.move_on_after(self._patience.drain, shield=True):
            try:
                if not cut:
                    await self._stream.send_eof()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # it has gone already, which is what is wanted
        with anyio.move_on_after(self._patience.drain, shield=True):
            await self._stream.aclose()

    async def _receive(self, at_end: bytes | None = None) -> bytes:
        try:
            return await self._stream.receive(_CHUNK)
        except anyio.EndOfStream:
            if at_end is None:
                raise HungUp("the container's end hung up in the middle of a request") from None
            return at_end
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise HungUp("the container's end is gone") from None

    async def _write(self, event: h11.Event) -> None:
        data = self._head + (self._http.send(event) or b"")
        self._head = b""
        if data:
            await self._send_raw(data)

    async def _send_raw(self, data: bytes) -> None:
        try:
            with anyio.fail_after(self._patience.reading):
                await self._stream.send(data)
        except TimeoutError:
            raise HungUp("the container's end does not read") from None
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise HungUp("the container's end is gone") from None


def _slow(what: str) -> Refused:
    return Refused(408, "timeout_error", f"the request is refused: {what} takes too long")
