"""What the page reads, from the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import Request

from ...errors import BridgeError, TurnNotFound
from ..events_json import event_json
from ..guards import identity_of, seen
from ..identities import Identity
from ..routes.conversations import history_of
from ..service import Service
from ..streams import Farewell

__all__ = ["ServiceSource"]


class ServiceSource:
    """As :class:`.routes.PageSource` has it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def farewell(self, who: Identity) -> Farewell:
        """When their streams are to end."""
        return self._service.farewell(who)

    async def check(self, request: Request, name: str | None) -> Identity:
        """Who asks, if they may read this."""
        who = await identity_of(request)
        who.need("read")
        if name is not None:
            seen(self._service, who, name)
        return who

    async def history(self, who: Identity, name: str, before: int | None, limit: int) -> Mapping[str, Any]:
        """A part of the conversation."""
        return await history_of(self._service, who, name, before, limit)

    async def events(self, name: str, after: str | None) -> AsyncGenerator[Mapping[str, Any], None]:
        """What an instance says: after a position, or of the turn that it has and from then on."""
        turn = None if after else self._turn(name)
        if turn is not None:
            try:
                async with aclosing(self._service.fleet.feed(name, turn=turn)) as feed:
                    async for heard in feed:
                        after = str(heard.at)
                        yield event_json(heard)
            except TurnNotFound:  # over already, and read by somebody: the history has it
                pass
        async with aclosing(self._service.fleet.feed(name, after)) as feed:
            async for heard in feed:
                yield event_json(heard)

    def _turn(self, name: str) -> str | None:
        """The one that an instance has. A fleet that has just begun may not know it yet, and the inbox does."""
        if turn := self._service.fleet.state(name).turn:
            return turn
        begun = (command for command in self._service.inbox.waiting(name) if command.state != "stored")
        return next((command.id for command in begun), None)

    async def changes(self, who: Identity) -> AsyncGenerator[Mapping[str, Any], None]:
        """The state of each instance whenever it changes, as ``GET /v1/events`` has it."""
        board = self._service.board
        async for name in board.watch():
            try:
                shown = board.shown(name)
            except BridgeError:
                yield {"type": "removed", "name": name}
                continue
            if who.sees(name, shown["project"]):
                yield {"type": "instance", **shown}
