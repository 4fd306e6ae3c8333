"""What an instance says, for any number of readers: the newest in memory. Sans-I/O.

A *position* says after which event somebody reads on: the name of the agent's journal, the number of a frame in it, and
which of the frame's events. So another process, which reads the journal again, finds the same place.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from ..errors import InvalidInput
from ..events import Event, TurnResult

__all__ = ["Feed", "FeedPosition", "Heard", "Numbering"]

#: Events that are kept in memory, and bytes of the frames that they were made of.
_MOST_EVENTS = 2000
_MOST_BYTES = 4 * 1024 * 1024

#: How many are forgotten at once, so that it costs little for each.
_AT_ONCE = 200

_TEXT = re.compile(r"([A-Za-z0-9_-]{0,64})\.(\d{1,18})\.(\d{1,9})\Z")

#: Beyond all events of a frame.
_LAST = 10**9


@dataclass(frozen=True, slots=True, order=True)
class FeedPosition:
    """After which event somebody reads on. Positions of one journal have an order.

    Attributes:
        journal: the name of the agent's journal; empty: nothing is kept of what this is in.
        seq: the number of a frame in it.
        number: which of the events that the frame has made, from 0.
    """

    journal: str
    seq: int
    number: int

    def __str__(self) -> str:
        return f"{self.journal}.{self.seq}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that is written so.

        Raises:
            InvalidInput: none is.
        """
        found = _TEXT.match(text)
        if found is None:
            raise InvalidInput(f"{text[:100]!r} is no position", hint="Give an event's, as it was received.")
        return cls(found[1], int(found[2]), int(found[3]))

    @classmethod
    def after_frame(cls, journal: str, seq: int) -> Self:
        """After all events of a frame."""
        return cls(journal, seq, _LAST)


@dataclass(frozen=True, slots=True)
class Heard:
    """An event, of which turn it is, and where in what the instance says.

    Attributes:
        at: what ``Fleet.feed(after=…)`` takes to go on with the next, also in another process; ``str()`` makes a text.
        turn: its id.
    """

    at: FeedPosition
    turn: str
    event: Event


class Numbering:
    """Gives events their positions, as they are made of frames: the same ones whenever the frames are read again."""

    def __init__(self) -> None:
        self._last = FeedPosition("", 0, -1)

    def next(self, journal: str, seq: int) -> FeedPosition:
        """The position of an event that was made of this frame, or after it and before the next."""
        last = self._last
        number = last.number + 1 if (last.journal, last.seq) == (journal, seq) else 0
        self._last = FeedPosition(journal, seq, number)
        return self._last


class Feed:
    """The newest events of one instance. An *index* counts them from the first, also those that were forgotten.

    Args:
        most, most_bytes: events that are kept, and bytes of the frames that they were made of.

    Attributes:
        first: the index of the oldest event that is kept.
        begins: all events after this position are kept; None: nothing was heard yet.
        gaps: how many times something was missed that nobody has.
        held: a result that nobody is told yet, nor what came after it; None: all is told.
    """

    def __init__(self, most: int = _MOST_EVENTS, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._events: list[Heard] = []
        self._sizes: list[int] = []
        self._size = 0
        self._of_turn: dict[str, list[int]] = {}
        self._cut: set[str] = set()  # turns that go on and whose beginnings are not kept
        self._gaps: list[tuple[int, int]] = []  # index, and which of all there were
        self.gaps = 0
        self.first = 0
        self.begins: FeedPosition | None = None
        self._held: list[int] = []  # indexes

    @property
    def end(self) -> int:
        """The index that the next event will have that is told."""
        return self._held[0] if self._held else self._next

    @property
    def _next(self) -> int:
        return self.first + len(self._events)

    @property
    def last(self) -> FeedPosition | None:
        """The position of the newest event that was told; None: there is none in memory."""
        return self._events[self.end - self.first - 1].at if self.end > self.first else None

    @property
    def held(self) -> Heard | None:
        """See the class."""
        return self._events[self._held[0] - self.first] if self._held else None

    # What comes

    def begin(self, journal: str, seq: int) -> None:
        """What comes next follows this frame, and not what came last: readers have missed something in between."""
        if self.begins is not None:
            self.gaps += 1
            self._gaps = [gap for gap in self._gaps if gap[0] >= self.first] + [(self._next, self.gaps)]
        self.begins = FeedPosition.after_frame(journal, seq)

    def add(self, heard: Heard, size: int, *, is_held: bool = False) -> None:
        """The next event, made of so many bytes; ``is_held``: a result that is told by :meth:`tell`."""
        self._of_turn.setdefault(heard.turn, []).append(self._next)
        if is_held:
            self._held.append(self._next)
        self._events.append(heard)
        self._sizes.append(size)
        self._size += size
        if len(self._events) > self._most + _AT_ONCE or self._size > self._most_bytes:
            self._forget()

    def tell(self, turn: str, why: str) -> None:
        """Tell the held result of a turn, and what came after it up to the next. Results are told in their order.

        One that was forgotten is told by the journal.

        Args:
            why: it does not count; empty: it does.
        """
        held = self.held
        if held is not None and held.turn == turn and isinstance(held.event, TurnResult):
            self._events[self._held.pop(0) - self.first] = replace(held, event=held.event.discounted(why))

    def has(self, turn: str) -> bool:
        """Something that was heard of the turn is in memory, or was."""
        return turn in self._of_turn or turn in self._cut

    def is_whole(self, turn: str) -> bool:
        """All that was heard of the turn is in memory, from its first event on."""
        return turn in self._of_turn and turn not in self._cut

    # Readers

    def holds(self, turn: str) -> bool:
        """Something of the turn is still to be told."""
        indexes = self._of_turn.get(turn)
        return indexes is not None and indexes[-1] >= self.end

    def has_ended(self, turn: str) -> bool:
        """The turn's result is in memory."""
        indexes = self._of_turn.get(turn)
        return indexes is not None and isinstance(self._events[indexes[-1] - self.first].event, TurnResult)

    def since(self, index: int, turn: str = "") -> Sequence[Heard]:
        """The events from this index on, which must be kept: all, or those of one turn."""
        if not turn:
            return self._events[index - self.first : self.end - self.first]
        indexes = self._of_turn.get(turn, [])
        told = slice(bisect.bisect_left(indexes, index), bisect.bisect_left(indexes, self.end))
        return [self._events[found - self.first] for found in indexes[told]]

    def index_after(self, position: FeedPosition) -> int | None:
        """The index of the first event after this position; None: not all events after it are in memory.

        It is beyond the end where what is held has been read elsewhere.
        """
        begins = self.begins
        if begins is None or position.journal != begins.journal or position < begins:
            return None
        after = [number for number, heard in enumerate(self._events) if heard.at.journal != position.journal]
        start = after[-1] + 1 if after else 0
        return self.first + bisect.bisect_right(self._events, position, lo=start, key=lambda heard: heard.at)

    def next_gap(self, start: int, known: int = 0) -> tuple[int, int] | None:
        """Where something is missing next that nobody has, from this index on: before which, and the last of its gaps.

        Gaps up to the one with the number ``known`` are passed over. None: nothing is missing.
        """
        found = [gap for gap in self._gaps if start <= gap[0] < self.end and gap[1] > known]
        return next((gap for gap in reversed(found) if gap[0] == found[0][0]), None)

    def _forget(self) -> None:
        """Forget the oldest, some at once."""
        count = min(_AT_ONCE, len(self._events) - 1)
        while count < len(self._events) - 1 and self._size - sum(self._sizes[:count]) > self._most_bytes:
            count += 1
        if count > 0:
            self.forget(count)

    def forget(self, count: int) -> None:
        """Forget so many of the oldest."""
        if not count:
            return
        forgotten = self._events[:count]
        self._size -= sum(self._sizes[:count])
        del self._events[:count], self._sizes[:count]
        self.first += count
        self._held = [index for index in self._held if index >= self.first]
        ended = {heard.turn for heard in forgotten if isinstance(heard.event, TurnResult)}
        for turn in {heard.turn for heard in forgotten}:
            kept = [index for index in self._of_turn.pop(turn) if index >= self.first]
            if kept:
                self._of_turn[turn] = kept
            if turn in ended:
                self._cut.discard(turn)
            else:
                self._cut.add(turn)
        begins, newest = self.begins, forgotten[-1].at
        follows = begins is None or begins.journal != newest.journal or newest > begins
        if follows and not any(gap[0] >= self.first for gap in self._gaps):
            self.begins = newest
