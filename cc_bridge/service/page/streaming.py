"""The page's one stream: what a conversation says, what changes elsewhere, and a beat each second."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from math import isfinite
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...errors import BridgeError, PositionGone
from ..streams import Farewell
from .live import Live

__all__ = ["PageStream"]

#: Seconds. Who hears nothing for three of them knows that it is cut off; a cut network tells nobody.
_BEAT = 1.0

#: Seconds from one drawing of a text that grows to the next: at least, at most, and as a multiple of what one took.
_PAUSE_LEAST, _PAUSE_MOST, _PAUSE_FACTOR = 0.02, 0.25, 6.0

#: Seconds of drawing after which others have their turn.
_TURN = 0.01

#: Events that are read ahead of a slow reader, and those that are drawn at once.
_AHEAD = 100

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]

_Item = tuple[str, Mapping[str, Any]]


class PageStream(Response):
    """A stream of server-sent events.

    An ``id:`` stands where no turn is going on: who asks again after it gets a turn that it has seen half from the
    turn's beginning.

    Args:
        changes: what happens to other instances.
        events: what this conversation says; None: none is open.
        stopping: when the stream is to end.
    """

    def __init__(
        self,
        *,
        changes: AsyncGenerator[Mapping[str, Any], None],
        events: AsyncGenerator[Mapping[str, Any], None] | None,
        stopping: Farewell,
    ) -> None:
        super().__init__()
        self._stopping = stopping
        self._sources = {"changes": changes, **({"events": events} if events is not None else {})}
        self._live = Live()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the reader has gone, or a source has ended."""
        give, take = anyio.create_memory_object_stream[_Item](_AHEAD)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            group.start_soon(self._until_stopping, group.cancel_scope)
            for name, source in self._sources.items():
                group.start_soon(_read, name, source, give.clone())
            give.close()
            with take:
                await self._write(take, send)
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_stopping(self, scope: anyio.CancelScope) -> None:
        await self._stopping.wait()
        scope.cancel()

    async def _write(self, take: MemoryObjectReceiveStream[_Item], send: Send) -> None:
        await _send(send, [({"type": "hello"}, None)])
        while True:
            item: _Item | None = None
            with anyio.move_on_after(_BEAT):
                try:
                    item = await take.receive()
                except anyio.EndOfStream:
                    return
            if item is None:
                await _send(send, [({"type": "beat"}, None)])
                continue
            pause = await self._take([item, *_waiting(take)], send)
            if not self._live.is_between and take.statistics().current_buffer_used < _AHEAD // 2:
                await anyio.sleep(pause)  # back-off: what comes meanwhile is drawn at once

    async def _take(self, items: list[_Item], send: Send) -> float:
        """Pass on what was said; returns the seconds until there may be the next."""
        for name, said in items:
            kind = said.get("type")
            if name == "changes" or kind in ("gone", "failed"):
                await _send(send, [(said, None)])
                continue
            if kind != "text_delta":  # it may end a text, which is drawn piece by piece before
                await self._draw(send)
            shown = list(self._live.hear(said))
            at = str(said["at"]) if self._live.is_between and said.get("at") else None
            if shown:
                await _send(send, [*((one, None) for one in shown[:-1]), (shown[-1], at)])
        began = monotonic()
        await self._draw(send)
        return min(max(_PAUSE_LEAST, _PAUSE_FACTOR * (monotonic() - began)), _PAUSE_MOST)

    async def _draw(self, send: Send) -> None:
        pieces: list[tuple[Mapping[str, Any], str | None]] = []
        sent = monotonic()
        for piece in self._live.draw():
            pieces.append((piece, None))
            if monotonic() - sent > _TURN:
                await _send(send, pieces)
                await anyio.lowlevel.checkpoint()
                pieces, sent = [], monotonic()
        await _send(send, pieces)


async def _read(
    name: str, source: AsyncGenerator[Mapping[str, Any], None], give: MemoryObjectSendStream[_Item]
) -> None:
    """Pass on what a source says, as fast as it is taken."""
    async with give:
        try:
            async with aclosing(source):
                async for said in source:
                    await give.send((name, said))
        except PositionGone:
            await give.send((name, {"type": "gone"}))
        except BridgeError as error:
            await give.send((name, {"type": "failed", "error": str(error)}))
        except anyio.BrokenResourceError:
            return


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _waiting(take: MemoryObjectReceiveStream[_Item]) -> list[_Item]:
    found: list[_Item] = []
    while len(found) < _AHEAD:
        try:
            found.append(take.receive_nowait())
        except (anyio.WouldBlock, anyio.EndOfStream):
            break
    return found


async def _send(send: Send, said: list[tuple[Mapping[str, Any], str | None]]) -> None:
    body = "".join(_event(one, at) for one, at in said)
    if body:
        await send({"type": "http.response.body", "body": body.encode("utf-8", "replace"), "more_body": True})


def _event(said: Mapping[str, Any], at: str | None) -> str:
    """One line of data: JSON has no line breaks of its own."""
    try:
        line = json.dumps(said, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        line = json.dumps(_finite(said), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"id: {at}\ndata: {line}\n\n" if at else f"data: {line}\n\n"


def _finite(value: Any) -> Any:
    """Without the numbers that JSON does not have: a browser reads no line with one."""
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
