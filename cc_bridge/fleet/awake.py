"""How many instances may have a Claude Code at once, and who sleeps for whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from ..errors import BridgeError, InstanceBusy
from ..logs import Log

__all__ = ["Awake", "Seat"]

#: Seconds after which one that could not sleep, because something went on in it, is asked again.
_AGAIN = 15.0


class Seat:
    """One instance's, among those that are awake.

    Args:
        sleep: puts its Claude Code to sleep; InstanceBusy: not now.
        is_busy: a turn of it runs or waits.
    """

    def __init__(
        self, awake: Awake, name: str, sleep: Callable[[], Awaitable[None]], is_busy: Callable[[], bool]
    ) -> None:
        self.name = name
        self.sleep = sleep
        self.is_busy = is_busy
        self.rested_at = 0.0
        self.refused_at = float("-inf")
        self._awake = awake

    async def take(self, tell: Callable[[int], None]) -> None:
        """Return when its Claude Code may run. Costs nothing where it has a seat.

        Args:
            tell: called with how many others come before it, whenever that changes.
        """
        if self not in self._awake:
            await self._awake.admit(self, tell)

    def rest(self, *, awake: bool) -> None:
        """Nothing is to be done there for now; ``awake``: its Claude Code runs, as far as is known."""
        self.rested_at = anyio.current_time()
        if awake:
            self._awake.note(self)
        else:
            self._awake.leave(self)
        self._awake.look_again()


class Awake:
    """The instances that are awake, within a limit.

    Args:
        most: how many; None: no limit.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._seats: dict[Seat, None] = {}
        self._line: deque[Seat] = deque()
        self._knows_all = False
        self._changed = anyio.Event()
        self._log = Log("", "fleet")

    def __contains__(self, seat: Seat) -> bool:
        return seat in self._seats

    def __len__(self) -> int:
        return len(self._seats)

    def know_all(self) -> None:
        """Those that were awake before are noted: until then, nobody can say whether there is room."""
        self._knows_all = True
        self.look_again()

    def note(self, seat: Seat) -> None:
        """It is awake, whether or not there was room for it."""
        self._seats[seat] = None

    def leave(self, seat: Seat) -> None:
        """It is not awake any more."""
        self._seats.pop(seat, None)
        self.look_again()

    def look_again(self) -> None:
        """Something has changed for those who stand in line."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def admit(self, seat: Seat, tell: Callable[[int], None]) -> None:
        """Return when there is room for one more: the one that has rested longest sleeps for it."""
        self._line.append(seat)
        told = -1
        try:
            while True:
                ahead = self._line.index(seat)
                if ahead == 0 and await self._has_room():
                    self._seats[seat] = None
                    return
                if ahead != told:
                    told = ahead
                    tell(ahead)
                with anyio.move_on_after(_AGAIN):
                    await self._changed.wait()
        finally:
            self._line.remove(seat)
            self.look_again()

    async def _has_room(self) -> bool:
        """There is, maybe because somebody was put to sleep."""
        if self._most is not None and not self._knows_all:
            return False
        while self._most is not None and len(self._seats) >= self._most:
            now = anyio.current_time()
            idle = [other for other in self._seats if not other.is_busy() and now - other.refused_at > _AGAIN]
            if not idle:
                return False
            eldest = min(idle, key=lambda other: other.rested_at)
            try:
                await eldest.sleep()
            except InstanceBusy as error:
                self._log.info("cannot_sleep", instance_name=eldest.name, reason=error.what)
                eldest.refused_at = anyio.current_time()
            except BridgeError as error:  # it cannot be reached: nothing is known of what it takes
                self._log.warning("not_put_to_sleep", instance_name=eldest.name, reason=error.what)
                eldest.refused_at = anyio.current_time()
            else:
                if not eldest.is_busy():
                    self._seats.pop(eldest, None)
        return True
