"""Who reads what an instance says: what is missing, and what the journal was ahead with. covers: B21"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import anyio
import pytest

from cc_bridge import PositionGone, TextDelta, TurnResult, Verdict
from cc_bridge.fleet.feed import Feed, FeedPosition, Heard
from cc_bridge.fleet.reader import FeedReader

pytestmark = pytest.mark.anyio


class FakeSpeaker:
    """Says what a test has it say, from memory."""

    instance_name = "ann"
    shelf: Any = None

    def __init__(self) -> None:
        self.feed = Feed()
        self.readers: WeakSet[FeedReader] = WeakSet()
        self.feed.begin("j", 0)

    def say(self, seq: int, *, journal: str = "j", turn: str = "a", ends: bool = False) -> Heard:
        event = TurnResult(Verdict.COMPLETED, "") if ends else TextDelta(str(seq))
        self.feed.add(heard := Heard(FeedPosition(journal, seq, 0), turn, event), 10, is_held=ends)
        return heard

    async def changed(self) -> None:
        await anyio.sleep_forever()

    def will_say(self, turn_id: str) -> bool:
        return True

    def was_before(self, turn_id: str) -> bool:
        return False

    def forget_read(self) -> None:
        pass

    async def keep(self, turn_id: str) -> str:
        return ""


async def test_what_is_before_something_that_is_missing_is_told_before_that_is_said() -> None:
    """A result was held while another agent was reached, whose journal begins later."""
    speaker = FakeSpeaker()
    reader = FeedReader(speaker, index=0)
    first, held = speaker.say(1), speaker.say(2, ends=True)
    assert await reader.read() == [first]
    speaker.feed.begin("k", 7)
    after = speaker.say(8, journal="k", turn="b")
    speaker.feed.tell("a", "")
    assert await reader.read() == [held]
    with pytest.raises(PositionGone, match="something that it said is kept nowhere"):
        await reader.read()
    assert await reader.read() == [after]


async def test_what_was_read_from_the_journal_is_not_told_again_by_memory() -> None:
    """The journal was ahead: what it has is heard here only now."""
    speaker = FakeSpeaker()
    reader = FeedReader(speaker, index=0)
    reader._read_to = FeedPosition("j", 2, 0)
    speaker.say(1)
    speaker.say(2)
    third = speaker.say(3)
    assert await reader.read() == [third]


async def test_who_listens_from_now_on_misses_nothing_that_was_missed_before() -> None:
    """Its container is another one since."""
    speaker = FakeSpeaker()
    speaker.say(1)
    speaker.feed.begin("k", 7)
    reader = FeedReader(speaker, index=speaker.feed.end)
    after = speaker.say(8, journal="k")
    assert await reader.read() == [after]


async def test_who_listens_before_anything_is_said_is_told_what_is_missed_from_then_on() -> None:
    """At the very place where something was missed before."""
    speaker = FakeSpeaker()
    speaker.say(1)
    speaker.feed.begin("k", 7)
    reader = FeedReader(speaker, index=speaker.feed.end)
    speaker.feed.begin("l", 3)
    speaker.feed.begin("m", 5)
    after = speaker.say(6, journal="m")
    with pytest.raises(PositionGone):
        await reader.read()
    assert await reader.read() == [after], "once for all"
