"""What an instance says, in memory: positions, what is forgotten, and what readers find. covers: B21"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import InvalidInput, TextDelta, TurnResult, Verdict
from cc_bridge.fleet.feed import Feed, FeedPosition, Heard, Numbering

END = TurnResult(Verdict.COMPLETED, "")


def say(feed: Feed, numbering: Numbering, seq: int, turn: str = "a", journal: str = "j", **how: bool) -> Heard:
    event = END if how.pop("end", False) else TextDelta(str(seq))
    feed.add(heard := Heard(numbering.next(journal, seq), turn, event), 10, **how)
    return heard


def test_a_position_is_a_text_and_back() -> None:
    position = FeedPosition("9f3c", 17, 2)
    assert FeedPosition.parse(str(position)) == position


@pytest.mark.parametrize(
    "text", ["", "17", "a.b.c", ".", ".1", "a.1", "a.1.2.3", "../x.1.2", "a.-1.0", "a." + "9" * 30 + ".0", "a.1.0\n"]
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no position"):
        FeedPosition.parse(text)


def test_events_of_one_frame_have_positions_of_their_own_and_the_same_ones_again() -> None:
    frames = [1, 1, 2, 5, 5, 5, 6]
    first, again = Numbering(), Numbering()
    positions = [first.next("j", seq) for seq in frames]
    assert positions == [again.next("j", seq) for seq in frames]
    assert positions == sorted(set(positions))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60), st.integers(3, 12))
def test_a_reader_that_keeps_up_gets_all_and_one_that_does_not_is_told(steps: list[tuple[int, int]], most: int) -> None:
    """Whatever is forgotten meanwhile: from an index that is kept on, and after a position that is, nothing lacks."""
    feed, numbering, seq, said = Feed(most, 10_000), Numbering(), 0, []
    feed.begin("j", 0)
    for step, turn in steps:
        seq += step
        said.append(say(feed, numbering, seq, f"t{turn}"))
        for number, heard in enumerate(said):
            found = feed.index_after(heard.at)
            if found is not None:
                assert list(feed.since(found)) == said[number + 1 :]
        for name in ("t0", "t1", "t2"):
            of_turn = [item for item in said[feed.first :] if item.turn == name]
            assert list(feed.since(feed.first, name)) == of_turn
            if feed.is_whole(name):
                assert of_turn == [item for item in said if item.turn == name]


def test_the_newest_are_kept_and_the_oldest_are_the_journals() -> None:
    feed, numbering = Feed(500, 10_000_000), Numbering()
    feed.begin("j", 0)
    said = [say(feed, numbering, seq) for seq in range(1, 2001)]
    assert 500 <= feed.end - feed.first <= 700
    assert feed.index_after(said[0].at) is None
    assert list(feed.since(feed.first)) == said[feed.first :]
    assert not feed.is_whole("a"), "its beginning is not there"
    assert feed.has("a")


def test_many_bytes_are_forgotten_too() -> None:
    feed, numbering = Feed(1000, 100), Numbering()
    feed.begin("j", 0)
    for seq in range(1, 50):
        say(feed, numbering, seq)
    assert feed.end - feed.first <= 10


def test_a_turn_that_has_ended_is_forgotten_with_its_result() -> None:
    feed, numbering = Feed(1, 10_000), Numbering()
    feed.begin("j", 0)
    say(feed, numbering, 1, "a")
    say(feed, numbering, 2, "a", end=True)
    assert (feed.is_whole("a"), feed.has_ended("a")) == (True, True)
    feed.forget(2)
    assert (feed.has("a"), feed.has_ended("a"), feed.is_whole("a")) == (False, False, False)
    say(feed, numbering, 3, "b")
    feed.forget(1)
    say(feed, numbering, 4, "b")
    assert (feed.is_whole("b"), feed.has("b")) == (False, True), "it goes on, and began before"


def test_a_gap_is_seen_by_who_steps_over_it() -> None:
    feed, numbering = Feed(), Numbering()
    feed.begin("j", 0)
    before = say(feed, numbering, 1)
    feed.begin("k", 7)
    after = say(feed, numbering, 8, journal="k")
    assert feed.next_gap(0) == (1, 1)
    assert feed.next_gap(feed.first + 2) is None
    assert feed.index_after(before.at) is None
    assert feed.index_after(after.at) == feed.end
    assert feed.index_after(FeedPosition("k", 7, 0)) is None, "what was before the first frame is not here"


# Results that are held


def held_feed() -> tuple[Feed, list[Heard]]:
    """The second of two events is a result, which is held; another turn has begun since."""
    feed, numbering = Feed(), Numbering()
    feed.begin("j", 0)
    said = [say(feed, numbering, 1), say(feed, numbering, 2, end=True, is_held=True), say(feed, numbering, 3, "b")]
    return feed, said


def test_nobody_is_told_a_held_result_nor_what_came_after_it() -> None:
    feed, said = held_feed()
    assert (feed.held, feed.end, feed.last) == (said[1], 1, said[0].at)
    assert list(feed.since(0)) == list(feed.since(0, "a")) == said[:1]
    assert list(feed.since(0, "b")) == []
    assert (feed.holds("a"), feed.holds("b"), feed.holds("c")) == (True, True, False)
    feed.tell("a", "")
    assert (feed.held, feed.end, feed.holds("b")) == (None, 3, False)
    assert list(feed.since(1)) == said[1:]


def test_a_held_result_that_does_not_count_is_told_as_interrupted_at_its_place() -> None:
    feed, said = held_feed()
    feed.tell("a", "it was not kept")
    told = feed.since(1, "a")[0]
    assert (told.at, told.event) == (said[1].at, END.replace(verdict=Verdict.INTERRUPTED, error="it was not kept"))


def test_who_has_read_a_held_result_elsewhere_is_not_told_it_again() -> None:
    feed, said = held_feed()
    index = feed.index_after(said[1].at)
    assert index is not None
    assert index > feed.end
    assert list(feed.since(index)) == []
    feed.tell("a", "")
    assert list(feed.since(index)) == said[2:]


def test_a_held_result_that_is_forgotten_is_held_no_more() -> None:
    feed, said = held_feed()
    feed.forget(2)
    assert (feed.held, list(feed.since(2))) == (None, said[2:])
    feed.tell("a", "too late")
    assert list(feed.since(2)) == said[2:]


def test_what_is_missing_before_a_held_result_is_missed_by_who_comes_to_it() -> None:
    feed, _ = held_feed()
    feed.begin("k", 7)
    assert feed.next_gap(0) is None
    feed.tell("a", "")
    assert feed.next_gap(0) is None, "nothing has come behind it"
    say(feed, Numbering(), 8, journal="k")
    assert feed.next_gap(0) == (3, 1)


@given(st.lists(st.sampled_from(["say", "end", "tell", "read"]), max_size=60), st.integers(2, 8))
def test_however_results_are_held_who_keeps_up_is_told_all_of_it_once_and_in_order(steps: list[str], most: int) -> None:
    feed, numbering, said, told, seq, index = Feed(1000), Numbering(), [], [], 0, 0
    feed.begin("j", 0)
    for step in [*steps, *["tell"] * len(steps), "read"]:
        if step in ("say", "end"):
            seq += 1
            said.append(say(feed, numbering, seq, f"t{seq % most}", end=step == "end", is_held=step == "end"))
        elif step == "read":
            told += feed.since(index)
            index = max(index, feed.end)
            assert all(not isinstance(item.event, TurnResult) or item is not feed.held for item in told)
        elif feed.held is not None:
            feed.tell(feed.held.turn, "")
    assert [item.at for item in told] == [item.at for item in said]
