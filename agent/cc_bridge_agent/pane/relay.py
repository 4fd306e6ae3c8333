"""A relay on loopback between Claude Code and the API, which reads along. It changes nothing but where a request goes.

Each connection of Claude Code's gets one of its own to the API, byte for byte; so keep-alive, time-outs and errors are
theirs. Only the head of a request is touched: ``Host``, and ``Accept-Encoding``, so that the answer can be read.
"""

import asyncio
import ssl
from typing import Any, Awaitable, Callable, Dict, List, Optional, Set
from urllib.parse import urlsplit

from .http import Head, HttpError, Messages, ServerEvents, decoded, parse_head, readdress

_CHUNK = 65536

#: Largest request that is read along, in bytes; the API refuses more than 32 MB.
_LARGEST = 40 * 1024 * 1024


class Exchange:
    """One request to the Messages API, and its answer. A subclass of the reader's overrides what it wants to know."""

    def begun(self, head: Head, body: Dict[str, Any]) -> None:
        """The request is complete."""

    def answered(self, status: int, headers: Dict[str, str]) -> None:
        """The answer's head is there."""

    def event(self, event: Dict[str, Any]) -> None:
        """A server-sent event of the answer."""

    def over(self, *, complete: bool, by_client: bool) -> None:
        """Nothing more will come. ``by_client``: Claude Code has closed the connection."""


class Relay:
    """Listens on a free port of loopback.

    Args:
        upstream: the API's base URL.
        read_along: makes an :class:`Exchange` for each request to the Messages API.
        drained: awaited after each piece of an answer, so that a slow reader slows the API down.
    """

    def __init__(
        self,
        upstream: str,
        read_along: Callable[[], Exchange],
        drained: Callable[[], Awaitable[None]],
        log: Callable[..., None],
    ) -> None:
        parts = urlsplit(upstream)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not a URL of http or https: %r" % upstream)
        self._host = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._netloc = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._read_along = read_along
        self._drained = drained
        self._log = log
        self._server: Optional[asyncio.AbstractServer] = None
        self._connections: Set["asyncio.Task[None]"] = set()

    async def start(self) -> str:
        """Listen; the base URL to give to Claude Code."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        return "http://127.0.0.1:%d" % self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and break the connections off."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up: Optional[asyncio.StreamWriter] = None
        try:
            down, up = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_CHUNK)
            await _Connection(self, reader, writer, down, up).run()
        except (OSError, HttpError, asyncio.IncompleteReadError) as error:
            self._log("relay_connection_failed", reason=repr(error))  # Claude Code tries again, and says so
        finally:
            for end in (writer, up):
                if end is not None:
                    end.close()

    def head_for(self, raw: bytes) -> bytes:
        """A request's head as it goes to the API."""
        return readdress(raw, self._netloc, self._prefix)

    def exchange_for(self, head: Head) -> Optional[Exchange]:
        """Who reads along, if the request is one for an answer of the model's."""
        path = head.start[1].split("?")[0] if len(head.start) > 1 else ""
        return self._read_along() if head.start[0] == "POST" and path.endswith("/v1/messages") else None

    async def drain(self, writer: asyncio.StreamWriter) -> None:
        """Wait until Claude Code has read enough, and until what the host was told has been taken."""
        await writer.drain()
        await self._drained()


class _Connection:
    """Both directions of one connection of Claude Code's."""

    def __init__(self, relay: Relay, reader: Any, writer: Any, down: Any, up: Any) -> None:
        self._relay = relay
        self._reader, self._writer, self._down, self._up = reader, writer, down, up
        self._answers = Messages(answers=True)
        self._exchanges: List[Optional[Exchange]] = []  # of requests whose answers are to come, oldest first
        self._complete = False  # the current answer has said its last word

    async def run(self) -> None:
        """Until either side closes."""
        asking = asyncio.ensure_future(self._ask())
        answering = asyncio.ensure_future(self._answer())
        try:
            done, _ = await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
            by_client = asking in done and answering not in done
            for exchange in self._exchanges:
                if exchange is not None:
                    exchange.over(complete=self._complete, by_client=by_client)
                self._complete = False
            for task in done:
                task.result()
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    async def _ask(self) -> None:
        requests, body, head, exchange = Messages(answers=False), bytearray(), None, None
        while True:
            data = await self._reader.read(_CHUNK)
            if not data:
                return
            for piece in requests.feed(data):
                if piece.kind == "head":
                    head = parse_head(piece.raw)
                    exchange, body = self._relay.exchange_for(head), bytearray()
                    self._answers.methods.append(head.start[0])
                    self._exchanges.append(exchange)
                    self._up.write(self._relay.head_for(piece.raw))
                    continue
                if piece.kind == "end" and exchange is not None and head is not None:
                    exchange.begun(head, decoded(bytes(body)))
                if exchange is not None and len(body) < _LARGEST:
                    body += piece.data
                self._up.write(piece.raw)
            await self._up.drain()

    async def _answer(self) -> None:
        events = ServerEvents()
        while True:
            data = await self._down.read(_CHUNK)
            if not data:
                return
            for piece in self._answers.feed(data):
                exchange = self._exchanges[0] if self._exchanges else None
                if exchange is not None:
                    self._read(exchange, piece, events)
                if piece.kind == "head":
                    events = ServerEvents()
                elif piece.kind == "end" and self._exchanges:
                    self._exchanges.pop(0)
                self._writer.write(piece.raw)
            await self._relay.drain(self._writer)

    def _read(self, exchange: Exchange, piece: Any, events: ServerEvents) -> None:
        if piece.kind == "head":
            head = parse_head(piece.raw)
            self._complete = False
            exchange.answered(int(head.start[1]) if head.start[1].isdigit() else 0, head.headers)
        elif piece.kind == "end":
            exchange.over(complete=True, by_client=False)
            self._complete = False
        else:
            for event in events.feed(piece.data):
                exchange.event(event)
                self._complete = self._complete or event.get("type") == "message_stop"
