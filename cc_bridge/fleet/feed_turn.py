"""A turn of an instance in a fleet, for one reader of it."""

from __future__ import annotations

from typing import Protocol

from ..errors import BridgeError
from ..events import Event, PermissionRequest, TurnResult
from .reader import FeedReader, Speaker

__all__ = ["FeedTurn"]


class Speaks(Speaker, Protocol):
    """Whose turn it is."""

    async def decide(self, request: PermissionRequest) -> None:
        """Wait for what the instance's own ``on_permission`` decides."""

    async def interrupt_turn(self, turn_id: str) -> None:
        """End the turn and wait until it is over."""

    async def abandon(self, turn_id: str) -> None:
        """The same, if it can be reached."""

    def pop_error(self, turn_id: str) -> BridgeError | None:
        """What has kept the turn from being sent."""


class FeedTurn:
    """Where a turn's events come from: what its instance says, as far as it is of this turn."""

    def __init__(self, instance: Speaks, reader: FeedReader) -> None:
        self._instance = instance
        self._reader = reader

    @property
    def instance_name(self) -> str:
        """For error messages."""
        return self._instance.instance_name

    async def wait_for_events(self, turn_id: str) -> list[Event]:
        """At least one event; none only where nothing more comes."""
        heard = await self._reader.read()
        if any(isinstance(item.event, TurnResult) for item in heard):
            await self._reader.aclose()
            if error := self._instance.pop_error(turn_id):
                raise error
        return [item.event for item in heard]

    async def decide(self, request: PermissionRequest) -> None:
        """See :class:`Speaks`."""
        await self._instance.decide(request)

    async def interrupt_turn(self, turn_id: str) -> None:
        """See :class:`Speaks`."""
        await self._instance.interrupt_turn(turn_id)

    async def abandon(self, turn_id: str) -> None:
        """Interrupt it, wait until it is over, and read it no longer."""
        await self._reader.aclose()
        await self._instance.abandon(turn_id)

    async def leave(self) -> None:
        """Read it no longer; it goes on."""
        await self._reader.aclose()
