"""Which instances may have a Claude Code at once, within a number and within memory, and who sleeps for whom."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from ..errors import BridgeError, InstanceBusy
from ..logs import Log

__all__ = ["Awake", "Seat"]

#: Seconds after which one that could not sleep, because something went on in it, is asked again.
_AGAIN = 15.0

#: Seconds that an instance has rested before it sleeps for a spare: a conversation in full flow does not.
_SETTLED = 60.0

#: Bytes of an idle Claude Code, until one has been measured here.
_TYPICAL = 245 * 1024 * 1024


async def _unknown() -> int | None:
    return None


class Seat:
    """One instance's, among those that are awake.

    Args:
        sleep: puts its Claude Code to sleep, or removes it where it is a spare; InstanceBusy: not now.
        is_busy: a turn of it runs or waits.
        measure: bytes that it uses now; None: nobody can say.
        is_spare: nobody has it yet: it waits for room that nobody else needs, and goes when others need its own.

    Attributes:
        memory: bytes that it used when it was measured last; None: it was not, or nobody could say.
    """

    def __init__(
        self,
        awake: Awake,
        name: str,
        sleep: Callable[[], Awaitable[None]],
        is_busy: Callable[[], bool],
        measure: Callable[[], Awaitable[int | None]] = _unknown,
        *,
        is_spare: bool = False,
    ) -> None:
        self.name = name
        self.sleep = sleep
        self.is_busy = is_busy
        self.measure = measure
        self.is_spare = is_spare
        self.memory: int | None = None
        self.rested_at = 0.0
        self.refused_at = -math.inf
        self.calls = 0
        self.refused_calls = 0
        self._awake = awake
        self._given_up = False

    @property
    def is_awake(self) -> bool:
        """Its Claude Code runs, as far as is known."""
        return self in self._awake

    async def take(self, tell: Callable[[int], None]) -> None:
        """Return when its Claude Code may run. Costs nothing where it has a seat.

        Cancelled, it leaves the line, and nobody is behind it for that.

        Args:
            tell: called with how many others come before it, whenever that changes.
        """
        self.calls += 1
        if self in self._awake:
            return
        if self.is_spare:
            await self._awake.admit_spare(self)
        else:
            await self._awake.admit(self, tell)

    async def make_room(self) -> bool:
        """There is no room where it is to run, whatever is known here: put another one to sleep; False: none can be."""
        return await self._awake.make_room_for(self)

    def rest(self, *, awake: bool) -> None:
        """Nothing is to be done there for now; ``awake``: its Claude Code runs, as far as is known."""
        if self._given_up:
            return
        self.rested_at = anyio.current_time()
        if self.calls != self.refused_calls:  # something has ended since it could not sleep
            self.refused_at = -math.inf
        if awake:
            self._awake.note(self)
        else:
            self._awake.leave(self)
        self._awake.look_again()

    def give_to(self, other: Seat) -> None:
        """The Claude Code is another object's from now on, and this one says nothing of it any more."""
        self._given_up = True
        other.memory, other.rested_at = self.memory, anyio.current_time()
        if self in self._awake:
            self._awake.note(other)
            self._awake.leave(self)


class Awake:
    """The instances that are awake, within a limit.

    Args:
        most: how many; None: no limit.
        memory: bytes that they may use together; None: no limit. One alone may use more, or it could never run.
        knows_all: False: :meth:`know_all` will be called when those that are awake already were noted.
    """

    def __init__(self, most: int | None, memory: int | None = None, *, knows_all: bool = True) -> None:
        self._most = most
        self._memory = memory
        self._seats: dict[Seat, None] = {}
        self._line: deque[Seat] = deque()
        self._knows_all = knows_all
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

    @property
    def limits_memory(self) -> bool:
        """Their size has to be known."""
        return self._memory is not None

    @property
    def memory_used(self) -> int:
        """The same as :attr:`memory`; 0 where it is not limited, and so not measured."""
        return self.memory if self._memory is not None else 0

    @property
    def memory(self) -> int:
        """Bytes that all use; for one that was not measured yet, as many as the largest of the others."""
        largest = self._largest
        return sum(seat.memory or largest for seat in self._seats)

    def note(self, seat: Seat) -> None:
        """It is awake, whether or not there was room for it."""
        self._seats[seat] = None

    def leave(self, seat: Seat) -> None:
        """It is not awake any more."""
        self._seats.pop(seat, None)
        self.look_again()

    def look_again(self) -> None:
        """Something has changed for those who wait."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def measure(self, seat: Seat) -> None:
        """A turn of it has ended: measure it, and let others sleep where all use too much by now."""
        if self._memory is None or seat not in self._seats:
            return
        await _measure(seat)
        if self._line:
            self.look_again()  # who is first makes room
        else:
            await self._make_room(None)

    async def admit(self, seat: Seat, tell: Callable[[int], None]) -> None:
        """Return when there is room for one more: the one that has rested longest sleeps for it."""
        while seat in self._line:  # another task of the instance's waits for the same seat
            tell(self._line.index(seat))
            await self._changed.wait()
        if seat in self._seats:
            return
        self._line.append(seat)
        told = -1
        try:
            while True:
                changed = self._changed  # what changes while there is no room yet is looked at, too
                ahead = self._line.index(seat)
                if ahead == 0:
                    await self._measure_all()
                    if await self._make_room(seat):
                        self._seats[seat], seat.rested_at = None, anyio.current_time()  # it has just begun
                        return
                if ahead != told:
                    told = ahead
                    tell(ahead)
                with anyio.move_on_after(_AGAIN):
                    await changed.wait()
        finally:
            self._line.remove(seat)
            self.look_again()

    async def make_room_for(self, seat: Seat) -> bool:
        """Put one that is idle to sleep for another that is awake already; False: none could be."""
        idle, before = [other for other in self._idle(seat) if other is not seat], len(self._seats)
        if idle:
            await self._put_to_sleep(min(idle, key=lambda other: (other.is_spare, other.rested_at)))
        return len(self._seats) < before

    async def admit_spare(self, seat: Seat) -> None:
        """Return when there is room and nobody stands in line; who has rested for a while sleeps for it."""
        while True:
            changed = self._changed
            if not self._line:
                await self._measure_all()
                if not self._line and await self._make_room(seat):
                    self._seats[seat] = None
                    return
            with anyio.move_on_after(self._until_settled()):
                await changed.wait()

    async def _measure_all(self) -> None:
        """Before one is admitted; where their number forbids it, their size need not be known."""
        if self._memory is None or (self._most is not None and len(self._seats) >= self._most and not self._idle(None)):
            return
        async with anyio.create_task_group() as group:
            for seat in list(self._seats):
                group.start_soon(_measure, seat)

    async def _make_room(self, newcomer: Seat | None) -> bool:
        """There is room, maybe because somebody was put to sleep. None: for those that are awake already.

        Whoever was answered True must sit down before anybody else runs.
        """
        if not self._knows_all and (self._most is not None or self._memory is not None):
            return False
        while not self._has_room(newcomer):
            if newcomer is not None and newcomer.is_spare and self._line:
                return False
            idle = self._idle(newcomer)
            if not idle:
                return False
            # Spares last: who rests has only its next turn begin later.
            await self._put_to_sleep(min(idle, key=lambda seat: (seat.is_spare, seat.rested_at)))
        return True

    def _has_room(self, newcomer: Seat | None) -> bool:
        if newcomer is not None and self._most is not None and len(self._seats) >= self._most:
            return False
        if self._memory is None or len(self._seats) + (newcomer is not None) <= 1:
            return True
        needed = max(newcomer.memory or 0, self._largest) if newcomer is not None else 0
        return self.memory + needed <= self._memory

    @property
    def _largest(self) -> int:
        return max((seat.memory for seat in self._seats if seat.memory), default=_TYPICAL)

    def _idle(self, newcomer: Seat | None) -> list[Seat]:
        """Who may sleep for it."""
        now = anyio.current_time()
        idle = [seat for seat in self._seats if not seat.is_busy() and now - seat.refused_at > _AGAIN]
        if newcomer is not None and newcomer.is_spare:
            return [seat for seat in idle if not seat.is_spare and now - seat.rested_at >= _SETTLED]
        return idle

    def _until_settled(self) -> float:
        """Seconds until the next one may sleep for a spare, if nothing changes."""
        if self._line:
            return math.inf
        resting = [seat for seat in self._seats if not seat.is_busy() and not seat.is_spare]
        ready = [max(seat.rested_at + _SETTLED, seat.refused_at + _AGAIN + 1) for seat in resting]
        return min(ready, default=math.inf) - anyio.current_time()

    async def _put_to_sleep(self, seat: Seat) -> None:
        calls = seat.calls
        try:
            await seat.sleep()
        except InstanceBusy as error:
            self._log.info("cannot_sleep", instance_name=seat.name, reason=error.what)
            seat.refused_at, seat.refused_calls = anyio.current_time(), calls
        except BridgeError as error:  # it cannot be reached: nothing is known of what it takes
            self._log.warning("not_put_to_sleep", instance_name=seat.name, reason=error.what)
            seat.refused_at, seat.refused_calls = anyio.current_time(), calls
        else:
            if seat.calls == calls and not seat.is_busy():  # else it was called back meanwhile
                self._seats.pop(seat, None)


async def _measure(seat: Seat) -> None:
    try:
        seat.memory = await seat.measure()
    except BridgeError:  # it has just ended, or cannot be reached: it counts as it did before
        return
