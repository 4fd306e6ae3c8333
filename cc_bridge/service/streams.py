"""Server-sent events: what an instance says, as it says it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from math import inf
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import BridgeError
from .problems import problem_of
from .sse import sse

__all__ = ["EventStream", "Farewell"]

#: Seconds of silence after which a comment is sent: proxies close connections on which nothing comes.
_BEAT = 15.0

#: Seconds for a client to take the end: one that does not read is not waited for.
_LAST_WORD = 1.0

#: Milliseconds after which a client connects again.
_RETRY = 1000

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx holds nothing back
}


class Farewell:
    """When what is open for somebody is to end.

    Args:
        told: set when it is, because their token was revoked or the service stops.
        ends: when their token or session expires, UTC; None: never.
    """

    def __init__(self, told: anyio.Event, ends: datetime | None = None) -> None:
        self._told = told
        self._at = inf if ends is None else anyio.current_time() + (ends - datetime.now(UTC)).total_seconds()

    async def wait(self) -> None:
        """Until then."""
        with anyio.CancelScope(deadline=self._at):
            await self._told.wait()


class EventStream(Response):
    """A response that goes on until there are no more events, its client goes away, or the service ends.

    A slow client slows the reading of the events; nothing is dropped. An error ends the stream with an event ``error``,
    whose data is the problem as other responses have it.

    Args:
        events: server-sent events, encoded; closed at the end.
        farewell: when it is to end before: clients are told to come back (``bye``).
    """

    def __init__(self, events: AsyncGenerator[bytes, None], farewell: Farewell) -> None:
        super().__init__(status_code=200, headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._farewell = farewell
        self._sent_at = 0.0
        self._sending = anyio.Lock(fast_acquire=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await self._send(send, b"retry: %d\n\n" % _RETRY)
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat, send)
            group.start_soon(self._until_gone, receive, group.cancel_scope)
            group.start_soon(self._until_farewell, send, group.cancel_scope)
            await self._pass_on(send)
            group.cancel_scope.cancel()
        with anyio.move_on_after(_LAST_WORD):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, send: Send) -> None:
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    await self._send(send, event)
        except BridgeError as error:
            await self._send(send, sse("error", problem_of(error).body))

    async def _send(self, send: Send, data: bytes) -> None:
        async with self._sending:
            message: Message = {"type": "http.response.body", "body": data, "more_body": True}
            await send(message)
            self._sent_at = anyio.current_time()

    async def _beat(self, send: Send) -> None:
        while True:
            await anyio.sleep_until(self._sent_at + _BEAT)
            if anyio.current_time() >= self._sent_at + _BEAT:
                await self._send(send, b": \n\n")

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _until_farewell(self, send: Send, scope: anyio.CancelScope) -> None:
        await self._farewell.wait()
        bye: dict[str, Any] = {"reason": "come back with the id of your last event"}
        with anyio.move_on_after(_LAST_WORD):
            await self._send(send, sse("bye", bye))
        scope.cancel()
