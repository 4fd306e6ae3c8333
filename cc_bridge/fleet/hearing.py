"""What an attendant hears, put into the feed: each event once, with its position."""

from __future__ import annotations

from collections.abc import Callable

from ..events import Event
from ..protocol.link import Position
from ..protocol.turns import Turns
from .feed import Feed, Heard, Numbering

__all__ = ["Hearing"]


class Hearing:
    """Moves what turns say into a feed.

    It is told which frames were handled (:class:`~cc_bridge.bridge.driver.Observer`).

    Args:
        turns: whose events are moved.
        feed: into which.
        on_event: called with each, also with those that are heard again after a reconnect.
        holds: an event is to be told later.
    """

    def __init__(
        self, turns: Turns, feed: Feed, on_event: Callable[[str, Event], None], holds: Callable[[Event], bool]
    ) -> None:
        self._turns = turns
        self._feed = feed
        self._on_event = on_event
        self._holds = holds
        self._numbering = Numbering()
        self._journal = ""
        self._seq = 0  # the newest frame that was heard

    def connected(self, start: Position | None) -> None:
        """See ``Observer``."""
        journal, seq = (start.journal, start.seq) if start is not None else ("", 0)
        if self._feed.begins is None or journal != self._journal or seq > self._seq:
            self._feed.begin(journal, seq)
            self._journal, self._seq = journal, seq

    def handled(self, seq: int) -> None:
        """See ``Observer``."""
        is_new = seq == 0 or seq > self._seq
        self._seq = max(self._seq, seq)
        self._move(is_new=is_new)

    def collect(self) -> None:
        """Something has happened to turns that no frame has told."""
        self._move(is_new=True)

    def _move(self, *, is_new: bool) -> None:
        for turn, events, size in self._turns.fetch_all():
            for event in events:
                if is_new:
                    heard = Heard(self._numbering.next(self._journal, self._seq), turn, event)
                    self._feed.add(heard, size, is_held=self._holds(event))
                    size = 0
                self._on_event(turn, event)
