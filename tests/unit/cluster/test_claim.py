"""Who may drive: the rules of a lease, by several programs whose clocks and pauses differ."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    mine = claim()
    unknown = mine.take(Note(), 0.0, 1.0)
    assert isinstance(unknown, Note)
    assert take(mine, unknown).fence == unknown.fence + 1


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


@dataclass
class Program:
    """A program with a clock of its own."""

    claim: Claim
    clock: float
    rate: float
    seen: tuple[Note, int] | None = None
    began: float = 0.0
    connected: int | None = None  # with this fence
    confirmed: bool = False
    heard: list[int] = field(default_factory=list)


@dataclass
class World:
    """The note, its version, and an agent that keeps the highest fence, which one of a new node does not know."""

    programs: list[Program]
    note: Note = field(default_factory=Note)
    version: int = 0
    agent: int = 0
    takings: list[tuple[int, str]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)  # the fence with which each was taken

    def run(self, number: int, action: str) -> None:
        program = self.programs[number]
        getattr(self, f"_{action}")(program)

    def _read(self, program: Program) -> None:
        program.seen, program.began = (self.note, self.version), program.clock

    def _take(self, program: Program) -> None:
        if program.seen and program.claim.fence is None:
            self._swap(program, program.claim.take(program.seen[0], program.began, 1.0))

    def _renew(self, program: Program) -> None:
        if program.seen and program.claim.fence is not None:
            self._swap(program, program.claim.renew(program.seen[0]))

    def _give_up(self, program: Program) -> None:
        if program.seen and program.claim.fence is not None:
            self._swap(program, program.claim.give_up(program.seen[0]))

    def _swap(self, program: Program, wanted: Note | float | None) -> None:
        seen, program.seen = program.seen, None
        if not isinstance(wanted, Note) or seen is None or seen[1] != self.version:
            return
        if wanted.fence != self.note.fence:
            self.takings.append((wanted.fence, wanted.owner))
        self.note, self.version = wanted, self.version + 1
        program.claim.wrote(wanted, program.began)

    def _connect(self, program: Program) -> None:
        program.connected, program.confirmed = None, False
        if program.claim.fence is not None and program.claim.fence >= self.agent:
            self.agent = program.connected = program.claim.fence
            for other in self.programs:
                if other.connected is not None and other.connected < self.agent:
                    other.connected = None

    def _confirm(self, program: Program) -> None:
        if program.connected is not None and program.connected == program.claim.fence:
            program.confirmed = program.claim.renew(self.note) is not None

    def _say(self, program: Program) -> None:
        if program.connected is not None and program.confirmed:
            self.inputs.append(program.connected)

    def _replace(self, program: Program) -> None:
        """A new agent at another node, whose state is empty; all connections are gone."""
        self.agent = 0
        for other in self.programs:
            other.connected = None


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            ["read", "take", "read", "take", "renew", "give_up", "connect", "confirm", "say", "say", "wait", "replace"]
        ),
        st.floats(0, 1.5 * TTL),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_nothing_is_taken_from_who_was_overtaken(steps: list[tuple[int, str, float]], clocks: list[float]) -> None:
    """Whatever sleeps when, and whichever agent is asked: fences grow, and so do those of what is taken."""
    programs = [Program(claim(f"program {n}"), clock, 1.0) for n, clock in enumerate(clocks)]
    world = World(programs)
    for number, action, seconds in steps:
        if action == "wait":
            for program in programs:
                program.clock += seconds
        else:
            world.run(number, action)
    fences = [fence for fence, _ in world.takings]
    assert fences == sorted(set(fences))
    assert world.inputs == sorted(world.inputs)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 5), st.data())
def test_everybody_gets_it_who_waits(count: int, data: st.DataObject) -> None:
    """However killed programs leave the note, one that reads and waits has it within two of its TTLs."""
    programs = [Program(claim(f"program {n}"), 0.0, 1.0) for n in range(count)]
    world = World(programs)
    for _ in range(data.draw(st.integers(0, 20))):
        number = data.draw(st.integers(0, count - 2))  # the others end anywhere
        world.run(number, data.draw(st.sampled_from(["read", "take", "renew", "give_up"])))
    waits = count - 1
    for _ in range(10):
        world.run(waits, "read")
        wanted = programs[waits].claim.take(world.note, programs[waits].began, 1.0)
        if isinstance(wanted, Note):
            world._swap(programs[waits], wanted)
        else:
            programs[waits].clock = wanted
        if programs[waits].claim.fence is not None:
            break
    assert programs[waits].claim.fence is not None
    assert programs[waits].clock <= TTL
