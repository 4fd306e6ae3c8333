"""Who may drive: the rules of a lease, by several programs whose clocks and pauses differ."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_bridge.cluster.claim import Claim, Note

TTL = 10.0


def claim(me: str = "me") -> Claim:
    return Claim(me, f"the host of {me}", TTL)


def take(of: Claim, note: Note, now: float = 0.0, wall: float = 1.0) -> Note:
    wanted = of.take(note, now, wall)
    assert isinstance(wanted, Note), f"it waits until {wanted}"
    of.wrote(wanted, now)
    return wanted


def test_who_comes_first_has_it() -> None:
    mine = claim()
    note = take(mine, Note(), now=5.0, wall=2.0)
    assert note == Note("me", 2000, 1, "the host of me")
    assert (mine.fence, mine.until) == (2000, 5.0 + TTL)


def test_who_comes_second_is_next_and_waits_for_as_long_as_nothing_changes() -> None:
    mine, other = claim(), claim("other")
    note = take(mine, Note())
    note = take(other, note, now=3.0)
    assert (note.owner, note.next, other.fence) == ("me", "other", None)
    assert other.take(note, 4.0, 1.0) == 3.0 + TTL
    renewed = mine.renew(note)
    assert renewed == note.replace(renewal=note.renewal + 1)
    assert other.take(renewed, 12.9, 1.0) == 12.9 + TTL, "it lives"


def test_a_lease_that_has_not_changed_for_its_ttl_is_taken_with_a_higher_fence() -> None:
    mine, other = claim(), claim("other")
    note = take(mine, Note())
    note = take(other, note, now=100.0)
    assert other.take(note, 100.0 + TTL - 0.01, 1.0) == 100.0 + TTL
    taken = take(other, note, now=100.0 + TTL)
    assert (taken.owner, taken.next) == ("other", "")
    assert taken.fence > note.fence
    assert other.fence == taken.fence
    assert mine.renew(taken) is None
    assert mine.fence is None


def test_what_was_given_up_is_free_at_once_and_goes_to_whoever_was_next() -> None:
    mine, other, third = claim(), claim("other"), claim("third")
    note = take(other, take(mine, Note()))
    note = mine.give_up(note) or note
    assert (note.owner, note.next, mine.fence) == ("", "other", None)
    assert third.take(note, 50.0, 1.0) == 50.0 + TTL
    assert mine.take(note, 50.0, 1.0) == 50.0 + TTL, "not by who has just had it, again and again"
    assert take(other, note, now=50.0).owner == "other"


def test_one_that_was_next_and_was_killed_costs_a_ttl() -> None:
    mine, other, third = claim(), claim("other"), claim("third")
    note = take(other, take(mine, Note()))
    note = mine.give_up(note) or note
    assert third.take(note, 0.0, 1.0) == TTL
    assert take(third, note, now=TTL).owner == "third"


def test_who_waits_no_longer_is_not_next() -> None:
    mine, other = claim(), claim("other")
    note = take(other, take(mine, Note()))
    note = other.give_up(note) or note
    assert (note.owner, note.next) == ("me", "")
    assert other.give_up(note) is None


def test_a_lease_that_nobody_has_had_meanwhile_keeps_its_fence() -> None:
    """What is connected with it may stay connected."""
    mine, other = claim(), claim("other")
    first = take(mine, Note())
    given_up = mine.give_up(first) or first
    again = take(mine, given_up, wall=9.0)
    assert (again.fence, again.renewal) == (first.fence, first.renewal + 1)
    theirs = take(other, mine.give_up(again) or again)
    last = take(mine, other.give_up(theirs) or theirs)
    assert last.fence == theirs.fence + 1 == first.fence + 2


def test_a_write_of_which_nobody_knows_whether_it_was_done() -> None:
    """Or one of another program of this machine: it is this machine's."""
    mine = claim()
    unknown = mine.take(Note(), 0.0, 1.0)
    assert isinstance(unknown, Note)
    assert take(mine, unknown) == unknown.replace(renewal=2)


def test_after_an_agent_has_refused_it_the_fence_is_another() -> None:
    mine = claim()
    note = take(mine, Note())
    mine.overtaken()
    assert mine.fence is None
    assert take(mine, note).fence > note.fence


def test_a_place_that_was_made_anew_begins_above_what_agents_remember() -> None:
    assert take(claim(), Note(), wall=1_800_000_001.0).fence > take(claim(), Note(), wall=1_800_000_000.0).fence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"owner": 7, "fence": 1, "renewal": 1, "host": "", "next": ""}',
        '{"owner": "a", "fence": -1, "renewal": 1, "host": "", "next": ""}',
        '{"owner": "a", "fence": true, "renewal": 1, "host": "", "next": ""}',
        '{"owner": "a", "fence": 9223372036854775807, "renewal": 1, "host": "", "next": ""}',
        '{"owner": "%s", "fence": 1, "renewal": 1, "host": "", "next": ""}' % ("a" * 101),
        "[" * 100_000,
    ],
)
def test_what_is_no_note_is_as_good_as_none(text: str) -> None:
    assert Note.read(text) == Note()


def test_a_note_is_read_as_it_was_written() -> None:
    note = Note("a", 7, 8, "Ёлка", "b")
    assert Note.read(note.write()) == note


# Several programs, of which any may sleep between what it reads, what it writes, and what it says


class World:
    """The note with its version, and an agent that keeps the highest fence, which one of a new node does not know."""

    def __init__(self) -> None:
        self.note, self.version, self.agent = Note(), 0, 0
        self.connected: dict[str, int] = {}  # by whom, with which fence
        self.takings: list[int] = []
        self.inputs: list[int] = []  # the fence with which each was taken
        self.clocks: dict[str, float] = {}

    def swap(self, of: Claim, wanted: Note | float | None, version: int, began: float) -> None:
        """Compare and swap."""
        if isinstance(wanted, Note) and version == self.version:
            if wanted.fence != self.note.fence:
                self.takings.append(wanted.fence)
            self.note, self.version = wanted, version + 1
            of.wrote(wanted, began)

    def greet(self, me: str, fence: int) -> None:
        """A hello: refused, or all with lower ones are let go."""
        if fence >= self.agent:
            self.agent = self.connected[me] = fence
            self.connected = {name: other for name, other in self.connected.items() if other >= fence}

    def replace(self) -> None:
        """A new agent, whose state is empty, and to which nobody is connected."""
        self.agent, self.connected = 0, {}

    def program(self, me: str) -> Iterator[None]:
        """What a program does for ever; it may be suspended at each yield, for as long as anybody likes."""
        mine = claim(me)
        while True:
            while mine.fence is None:
                began, (note, version) = self.clocks[me], (self.note, self.version)
                yield
                self.swap(mine, mine.take(note, began, 1.0), version, began)
                yield
            self.greet(me, mine.fence)
            yield
            if me not in self.connected or not mine.confirm(self.note):  # refused, or overtaken meanwhile
                mine.overtaken()
                continue
            yield
            for _ in range(2):
                if me in self.connected:
                    self.inputs.append(self.connected[me])
                yield
            note, version = self.note, self.version
            yield
            self.swap(mine, mine.give_up(note), version, 0.0)


PROGRAMS = ("first", "second", "third")


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_taken_from_who_was_overtaken(seed: int) -> None:
    """Whatever is suspended when, and whichever agent is asked: fences grow, and so do those of what is taken."""
    world, random = World(), Random(seed)
    world.clocks = {name: random.uniform(0, 1e6) for name in PROGRAMS}
    programs = {name: world.program(name) for name in PROGRAMS}
    suspended, until = "", 0
    for moment in range(2000):
        if moment >= until:
            suspended, until = random.choice(PROGRAMS), moment + random.randrange(60)
        if random.random() < 0.05:
            jump = random.uniform(0, 2 * TTL)
            world.clocks = {name: clock + jump for name, clock in world.clocks.items()}
        if random.random() < 0.02:
            world.replace()
        next(programs[random.choice([name for name in PROGRAMS if name != suspended])])
    assert world.takings == sorted(set(world.takings))
    assert world.inputs == sorted(world.inputs)
    assert len(world.takings) > 20


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PROGRAMS[:2]), max_size=60))
def test_whatever_is_killed_when_costs_the_next_at_most_its_ttl(moments: list[str]) -> None:
    world = World()
    world.clocks = dict.fromkeys(PROGRAMS, 0.0)
    programs = {name: world.program(name) for name in PROGRAMS}
    for moment in moments:
        next(programs[moment])
    mine, now = claim("third"), 0.0
    while mine.fence is None:
        wanted = mine.take(world.note, now, 1.0)
        world.swap(mine, wanted, world.version, now)
        now = wanted if isinstance(wanted, float) else now
    assert now <= TTL
