"""What callers want of an attendant, and what it tells them."""

from __future__ import annotations

import anyio

from ..errors import BridgeError

__all__ = ["Bell", "Wants"]


class _Want:
    def __init__(self, *, claude: bool) -> None:
        self.claude = claude
        self.over = anyio.Event()
        self.error: BridgeError | None = None


class Wants:
    """Who waits for a connection, or for Claude Code."""

    def __init__(self) -> None:
        self._wants: list[_Want] = []

    def __bool__(self) -> bool:
        return bool(self._wants)

    @property
    def claude(self) -> bool:
        """Somebody waits for Claude Code."""
        return any(want.claude for want in self._wants)

    def add(self, *, claude: bool) -> _Want:
        """Somebody wants a connection, and Claude Code maybe; :meth:`wait` follows."""
        want = _Want(claude=claude)
        self._wants.append(want)
        return want

    async def wait(self, want: _Want) -> None:
        """Until it is there.

        Raises: why it cannot be.
        """
        try:
            await want.over.wait()
        finally:
            if want in self._wants:
                self._wants.remove(want)
        if want.error is not None:
            raise want.error

    def take(self) -> list[_Want]:
        """What is wanted now."""
        return list(self._wants)

    def end(self, wants: list[_Want], error: BridgeError | None) -> None:
        """These are over."""
        for want in wants:
            want.error = error
            want.over.set()
            if want in self._wants:
                self._wants.remove(want)


class _Ring:
    def __init__(self) -> None:
        self.event = anyio.Event()
        self.error: BridgeError | None = None


class Bell:
    """Rings for all who wait just then."""

    def __init__(self) -> None:
        self._next: _Ring | None = None  # made when somebody waits: a thousand bells hang there, and most of them idle

    def ring(self, error: BridgeError | None = None) -> None:
        """Something has come; or, with an error, nothing more will."""
        rung, self._next = self._next, None
        if rung is not None:
            rung.error = error
            rung.event.set()

    async def wait(self) -> None:
        """Until it rings next.

        Raises: what it has rung with.
        """
        ring = self._next = self._next or _Ring()
        await ring.event.wait()
        if ring.error is not None:
            raise ring.error
