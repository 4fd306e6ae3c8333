"""Turns that are read over connections of their own: sent by somebody else, or set aside for a slow reader."""

from __future__ import annotations

from typing import Protocol

from ..events import PermissionRequest
from ..turn import TurnSource

__all__ = ["Follower", "Followers"]


class Follower(TurnSource, Protocol):
    """Who reads one turn."""

    @property
    def active(self) -> str | None:
        """The turn, while it has not ended."""

    @property
    def can_go_on(self) -> bool:
        """There is more to come of it."""

    def is_asked(self, request_id: str) -> bool:
        """The permission request is the turn's, and waits for a decision."""

    async def aclose(self, reason: str) -> None:
        """Give up the connection. A turn that has not ended ends as interrupted."""


class Followers:
    """All that are to be closed with their instance, and those of them who read for turns of ours."""

    def __init__(self) -> None:
        self._open: set[Follower] = set()
        self._reading: dict[str, Follower] = {}

    def add(self, follower: Follower) -> None:
        """Keep it until it has come to its end."""
        self._open = {known for known in self._open if known.can_go_on} | {follower}

    def read(self, turn_id: str, follower: Follower) -> None:
        """Keep it, and have it read for this turn."""
        self.add(follower)
        self._reading[turn_id] = follower

    def reader(self, turn_id: str) -> Follower | None:
        """Who reads for the turn; None: nobody does."""
        return self._reading.get(turn_id)

    def pop(self, turn_id: str) -> Follower | None:
        """The same, and it does so no longer."""
        return self._reading.pop(turn_id, None)

    def asked(self, request: PermissionRequest) -> Follower | None:
        """Who reads the turn that asks for this permission; None: no such request waits for a decision."""
        return next((reader for reader in self._reading.values() if reader.is_asked(request.request_id)), None)

    @property
    def active(self) -> str | None:
        """A turn that is read so and has not ended, the eldest first."""
        return next((turn_id for turn_id, reader in self._reading.items() if reader.active is not None), None)

    async def aclose(self, reason: str) -> None:
        """Close them all."""
        for follower in list(self._open):
            await follower.aclose(reason)
