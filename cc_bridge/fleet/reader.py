"""A reader of what an instance says: from memory as long as it keeps up, else from the agent's journal."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol
from weakref import WeakSet

from ..errors import ConnectionLost, PositionGone
from ..events import TurnResult
from .feed import Feed, FeedPosition, Heard
from .replay import Replay, Shelf

__all__ = ["FeedReader", "Speaker"]

#: How often a connection may break at one place before that is an error.
_TRIES = 5


class Speaker(Protocol):
    """Who is read."""

    feed: Feed

    readers: WeakSet[FeedReader]
    """Who reads from the feed, and has not gone."""

    @property
    def instance_name(self) -> str:
        """For error messages."""

    @property
    def shelf(self) -> Shelf:
        """Where what was said can be read again."""

    async def changed(self) -> None:
        """Wait until something was heard."""

    def will_say(self, turn_id: str) -> bool:
        """There is more to come of the turn."""

    def was_before(self, turn_id: str) -> bool:
        """The turn ended before this program asked for it: it has to be read again."""

    def forget_read(self) -> None:
        """Forget what no reader lacks."""

    async def keep(self, turn_id: str) -> str:
        """Before a whole answer is told that is read again: why it does not count."""


class FeedReader:
    """Reads all that an instance says, or one turn, at its own pace. For one task at a time.

    Args:
        turn: only this one.
        index: of the feed, where it begins.
        after: begin after this position; without it and without an index: with the first event of the turn.
    """

    def __init__(
        self, speaker: Speaker, *, turn: str = "", index: int | None = None, after: FeedPosition | None = None
    ) -> None:
        self._speaker = speaker
        self._turn = turn
        self._index = index
        self._last = after  # what was handed out last
        if index is None and after is not None:
            self._index = speaker.feed.index_after(after)
        elif index is not None and not turn:
            self._last = speaker.feed.last or speaker.feed.begins
        self._replay: Replay | None = None
        self._again: list[Heard] = []  # was read from the journal, and not handed out yet
        self._read_to: FeedPosition | None = None  # in the journal
        self._passed = speaker.feed.gaps if index is not None else 0  # one before it began is none of its own
        speaker.readers.add(self)
        self._broke = 0
        self._has_result = False  # of the turn
        self._has_asked_journal = False  # for what memory does not have of a turn that has ended
        self._is_gone = False

    async def open(self) -> None:
        """Have what it begins with.

        Raises:
            PositionGone: it is not kept any more, or never was.
            ChannelError, EngineError: the agent cannot be reached.
        """
        if not self._in_memory and self._replay is None:
            # What was said before the agent was reached has no place in its journal.
            last = self._last if self._last is not None and self._last.journal else None
            self._replay = await Replay.open(self._speaker.shelf, after=last, turn="" if last else self._turn)

    async def read(self) -> list[Heard]:
        """At least one event; none only where nothing more comes of the turn.

        Raises: as :meth:`open`; BridgeError: it cannot be reached, and nothing more will come.
        """
        while True:
            if self._in_memory:
                found = self._from_memory()
                if not found and self._is_over():
                    if self._has_result or self._has_asked_journal:
                        return []
                    self._has_asked_journal, self._index = True, None
                elif not found and self._in_memory:
                    await self._speaker.changed()
            else:
                found = await self._from_journal()
            if found:
                self._has_result = isinstance(found[-1].event, TurnResult)
                return found
            if self._is_gone:
                return []

    async def aclose(self) -> None:
        """Give back what it holds. Harmless when repeated."""
        self._speaker.readers.discard(self)
        self._speaker.forget_read()
        replay, self._replay = self._replay, None
        if replay is not None:
            await replay.aclose()

    @property
    def lacks(self) -> bool:
        """There is something in memory that it has not read."""
        return self._index is not None and self._index < self._speaker.feed.end

    @property
    def _in_memory(self) -> bool:
        return self._index is not None and self._index >= self._speaker.feed.first

    def _is_over(self) -> bool:
        return bool(self._turn) and self._in_memory and not self._speaker.will_say(self._turn)

    def _from_memory(self) -> list[Heard]:
        feed, index = self._speaker.feed, self._index
        assert index is not None
        if self._turn and self._speaker.was_before(self._turn) and not feed.has_ended(self._turn):
            self._index, self._last = None, None
            return []
        gap, number = (None if self._turn else feed.next_gap(index, self._passed)) or (None, 0)
        if gap == index:
            self._passed = number
            raise PositionGone(
                "something that it said is kept nowhere",
                instance=self._speaker.instance_name,
                hint="Reading goes on with what comes next; `cc-bridge history` has the conversation's text.",
            )
        found = feed.since(index, self._turn)[: None if gap is None else gap - index]
        self._index = gap or max(index, feed.end)
        return self._noted([item for item in found if not self._has_read(item.at)])

    def _has_read(self, position: FeedPosition) -> bool:
        """In the journal, which was ahead."""
        read = self._read_to
        return read is not None and position.journal == read.journal and position <= read

    async def _from_journal(self) -> list[Heard]:
        try:
            await self.open()
        except PositionGone:
            if not self._has_asked_journal:
                raise
            self._is_gone = True  # it was withdrawn, or given up before anything was kept of it
            return []
        replay = self._replay
        if replay is None:
            return []  # by now memory has it
        if not self._again and not await self._hear_again(replay):  # some is there where who read was cancelled
            return []
        for number, item in enumerate(self._again):
            if isinstance(item.event, TurnResult) and item.event.ok:
                why = await self._speaker.keep(item.turn)
                self._again[number] = replace(item, event=item.event.discounted(why))
        found, self._again = self._noted(self._again), []
        self._read_to = self._last
        if replay.read_to is not None and not self._has_asked_journal:
            self._index = self._speaker.feed.index_after(replay.read_to)
        if self._in_memory:
            self._replay = None
            await replay.aclose()
        return found

    async def _hear_again(self, replay: Replay) -> bool:
        """Have what comes next; False: the connection has broken, and another one is to be made."""
        try:
            self._again = [item for item in await replay.read() if not self._turn or item.turn == self._turn]
        except ConnectionLost:
            self._replay = None
            await replay.aclose()
            self._broke += 1
            if self._broke == _TRIES:
                raise
            return False
        self._broke = 0
        return True

    def _noted(self, found: list[Heard]) -> list[Heard]:
        if found:
            self._last = found[-1].at
        return found
