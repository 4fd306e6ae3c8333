"""Where the page gets what it shows: the same as the other routes give, as Python's values."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
from fastapi import Request

from ..errors import TurnNotFound
from .events_json import event_json
from .guards import identity_of, seen
from .identities import Identity
from .routes.conversations import history_of
from .routes.events import states_of
from .service import Service

__all__ = ["ServicePage"]


class ServicePage:
    """The :class:`~.page.routes.PageSource` of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def stopping(self) -> anyio.Event:
        """Set when the service ends."""
        return self._service.stopping

    async def check(self, request: Request, name: str | None) -> Identity:
        """Who asks.

        Raises:
            NotSignedIn, NotAllowed, InstanceNotFound: they may not read it.
        """
        who = await identity_of(request)
        who.need("read")
        if name is not None:
            seen(self._service, who, name)
        return who

    async def history(self, who: Identity, name: str, before: int | None, limit: int) -> Mapping[str, Any]:
        """As ``GET /v1/instances/{name}/history``."""
        return await history_of(self._service, who, name, before, limit)

    async def events(self, name: str, after: str | None) -> AsyncGenerator[Mapping[str, Any], None]:
        """What it says after an event; or from now on, and if a turn runs, from that turn's first."""
        fleet = self._service.fleet
        if after is None and (turn := fleet.state(name).turn) is not None:
            try:
                async with aclosing(fleet.feed(name, turn=turn)) as feed:
                    async for heard in feed:
                        yield event_json(heard)
                        after = str(heard.at)
            except TurnNotFound:  # it has ended just now, and the history has it
                pass
        async with aclosing(fleet.feed(name, after)) as feed:
            async for heard in feed:
                yield event_json(heard)

    async def changes(self, who: Identity) -> AsyncGenerator[Mapping[str, Any], None]:
        """What each instance does, and whenever that changes."""
        async with aclosing(states_of(self._service, who)) as states:
            async for state in states:
                yield state
