"""Turns on their way to Claude Code, with and without a queue in the agent. covers: C16, B1"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import Verdict
from cc_bridge.events import Waiting
from cc_bridge.protocol.commands import Command, DeclareDone, SendInput, Withdraw
from cc_bridge.protocol.delivery import Delivery
from cc_bridge.protocol.turn_state import Interrupt, TrackedTurn, TurnState
from cc_bridge.protocol.turns import Turns


class Host:
    """A delivery and its turns; by default Claude Code runs, and the agent has a queue."""

    def __init__(
        self, *, ready: bool = True, queue: bool = True, silence: float = 30, interrupt_limit: float = 10
    ) -> None:
        self.turns = Turns()
        self.delivery = Delivery(self.turns, silence, interrupt_limit)
        self.delivery.greeted([] if queue else None, resumed=False)
        if ready:
            self.delivery.process_ready(0)

    def submit(self, *names: str) -> list[Command]:
        for name in names:
            self.turns.add(TrackedTurn(name, f"text of {name}"))
            self.delivery.send_next(0)
        return self.delivery.outbox.take()

    def __getitem__(self, name: str) -> TrackedTurn:
        turn = self.turns.get(name)
        assert turn is not None
        return turn

    def waits(self, *names: str) -> None:
        for name in names:
            self.delivery.accepted(name, 0, first=False)

    def taken(self, *names: str) -> None:
        for name in names:
            assert self.delivery.took(name, 0, again=False)

    @property
    def sent(self) -> list[str]:
        return [command.input_id for command in self.delivery.outbox.take() if isinstance(command, SendInput)]


def test_nothing_is_sent_before_claude_code_runs() -> None:
    host = Host(ready=False)
    assert host.submit("a") == []
    host.delivery.process_ready(1)
    (command,) = host.delivery.outbox.take()
    assert isinstance(command, SendInput)
    assert (command.input_id, command.message["message"]["content"]) == ("a", "text of a")
    assert host["a"].wake_at == 31


def test_what_is_sent_waits_for_room() -> None:
    host = Host(queue=False)
    host.submit("a", "b")
    assert host["b"].state is TurnState.QUEUED
    host.delivery.greeted([], resumed=False)
    host.taken("a")
    assert host.sent == ["b"]


def test_a_turn_that_is_somebody_elses_makes_room() -> None:
    host = Host(queue=False)
    host.submit("a", "b")
    host.turns.remove("a")
    host.delivery.forget("a", 0)
    assert host.sent == ["b"]
    assert host.delivery.resumed(0) == ["b"]


@pytest.mark.parametrize("queue", [True, False])
def test_what_claude_code_works_on_is_interrupted_by_its_name_where_the_agent_knows_names(queue: bool) -> None:
    host = Host(queue=queue)
    host.submit("a")
    host["a"].state = TurnState.RUNNING
    host.delivery.interrupt(host["a"], 5)
    (command,) = host.delivery.outbox.take()
    assert isinstance(command, SendInput)
    assert command.message["request"]["subtype"] == "interrupt"
    assert command.turn == ("a" if queue else "")
    assert (host["a"].interrupt, host["a"].wake_at) == (Interrupt.SENT, 15)


def test_what_has_not_reached_claude_code_is_withdrawn() -> None:
    host = Host()
    host.submit("a", "b")
    host.taken("a")
    for name in "ab":
        host.delivery.interrupt(host[name], 0)
        assert host[name].interrupt is Interrupt.WANTED
    assert host.delivery.outbox.take() == [Withdraw("b")], "the other one is interrupted when it begins"
    host.delivery.greeted([], resumed=True)
    assert host.delivery.outbox.take() == [Withdraw("b")], "the agent may not have heard it"
    assert host.delivery.resumed(0) == [], "and it is not sent again"


def test_where_the_agent_has_no_queue_nothing_is_withdrawn() -> None:
    host = Host(queue=False)
    host.submit("a")
    host.delivery.interrupt(host["a"], 0)
    host.delivery.greeted(None, resumed=False)
    assert host.delivery.outbox.take() == []


@pytest.mark.parametrize(
    ("state", "declared"),
    [(TurnState.QUEUED, False), (TurnState.SENT, True), (TurnState.WAITING, False), (TurnState.RUNNING, True)],
)
def test_the_agent_learns_of_the_end_of_what_it_has_passed_on(state: TurnState, declared: bool) -> None:
    host = Host()
    host.submit("a")
    host["a"].state = state
    host.delivery.ended(host["a"])
    assert host.delivery.outbox.take() == [DeclareDone("a")] * declared
    assert host.delivery.resumed(0) == [], "it is not sent again"


def test_only_an_agent_without_a_queue_has_to_learn_of_others_turns() -> None:
    for queue in (True, False):
        host = Host(queue=queue)
        host.delivery.ended_elsewhere(["theirs"])
        assert host.delivery.outbox.take() == ([] if queue else [DeclareDone("theirs")])


def test_a_turn_that_was_withdrawn_ends() -> None:
    host = Host()
    host.submit("a", "b")
    host.waits("a", "b")
    ((turn, judgement),) = host.delivery.withdrawn("a", late=False)
    assert (turn.id, judgement.verdict) == ("a", Verdict.INTERRUPTED)
    assert judgement.error == "withdrawn while it waited in the queue"
    assert host.turns.fetch("b") == [Waiting(2), Waiting(1)]
    assert host.delivery.withdrawn("theirs", late=False) == []


def test_too_late_to_be_withdrawn_is_what_waits_or_runs_and_not_what_was_lost() -> None:
    host = Host()
    host.submit("a", "b", "c")
    host.taken("a")
    host.waits("b")
    assert host.delivery.withdrawn("a", late=True) == host.delivery.withdrawn("b", late=True) == []
    assert [turn.id for turn, _ in host.delivery.withdrawn("c", late=True)] == ["c"]
    assert host.delivery.resumed(0) == [], "and it is not sent again"


def test_what_found_no_room_is_sent_again_when_something_has_left_the_queue() -> None:
    host = Host()
    host.submit("a", "b")
    host.waits("theirs")
    assert host.delivery.refused("b", "full") == []
    assert host["b"].state is TurnState.QUEUED
    host.delivery.send_next(0)
    assert host.sent == host.delivery.resumed(0)[1:] == [], "nor over another connection"
    host.taken("a")
    assert host.sent == ["a", "b"]
    assert host.delivery.refused("a", "full") == [], "it was taken"


@pytest.mark.parametrize("late", [True, False])
def test_what_is_withdrawn_makes_room(late: bool) -> None:
    host = Host()
    host.submit("a")
    host.waits("theirs")
    host.delivery.refused("a", "full")
    host.delivery.withdrawn("theirs", late=late)
    host.delivery.send_next(0)
    assert host.sent == ["a"]


@pytest.mark.parametrize(("resumed", "position"), [(False, 3), (True, 1)])
def test_a_hello_says_who_waits_unless_older_frames_follow_it(resumed: bool, position: int) -> None:
    host = Host()
    host.submit("a")
    host.delivery.greeted(["x", "y"], resumed=resumed)
    host.waits("a")
    assert host.turns.fetch("a") == [Waiting(position)]


def test_what_has_waited_is_looked_after_as_long_after_it_was_taken_as_what_has_not() -> None:
    host = Host(silence=30, interrupt_limit=10)
    host.submit("a", "b")
    host.waits("a", "b")
    host.delivery.interrupt(host["b"], 0)
    for name in "ab":
        host.delivery.took(name, 100, again=False)
    assert (host["a"].wake_at, host["b"].wake_at) == (130, 110)


def test_a_new_claude_codes_agent_is_told_of_ends_again() -> None:
    host = Host()
    host.delivery.outbox.add(DeclareDone("x"))
    host.delivery.outbox.take()
    host.delivery.process_ready(0)
    assert host.delivery.outbox.take() == [DeclareDone("x")]


def test_an_empty_queue_without_room_for_a_turn_will_never_have_it() -> None:
    host = Host()
    host.submit("a")
    ((turn, judgement),) = host.delivery.refused("a", "too long")
    assert (turn.id, judgement.verdict, judgement.error) == ("a", Verdict.FAILED, "too long")


def test_what_a_claude_code_that_did_not_run_was_given_waits_again() -> None:
    host = Host()
    host.submit("a", "b", "c")
    host.waits("c")
    assert host.delivery.not_running("a") == (True, [])
    assert host.delivery.not_running("a") == (False, []), "that was known"
    assert host.delivery.not_running("") == (True, [])
    assert host.turns.queued == ("a", "b")
    host.delivery.send_next(0)
    assert host.delivery.resumed(0) == host.sent == [], "until it runs"
    host.delivery.process_ready(0)
    assert host.sent == ["a", "b"]
    host.delivery.outbox.take()
    host.delivery.not_running("a")
    assert host.delivery.resumed(0) == ["b"]


def test_after_a_lost_connection_what_was_not_passed_on_is_sent_in_its_order_unless_it_was_given_up() -> None:
    host = Host()
    host.submit("a", "b", "c", "d")
    host.turns.add(TrackedTurn("followed", "", TurnState.SENT, followed=True))
    host.taken("a")
    host.waits("c")
    host.delivery.interrupt(host["d"], 0)
    given_up = host.delivery.lost()
    assert [(turn.id, judgement.verdict) for turn, judgement in given_up] == [("d", Verdict.INTERRUPTED)]
    assert host.turns.queued == ("b", "c")
    assert host["followed"].state is TurnState.SENT, "its host sends it"
    host.delivery.send_next(0)
    assert host.delivery.resumed(0) == host.sent == [], "there is nobody to send it to"


def test_over_a_connection_that_goes_on_what_was_not_answered_is_said_again() -> None:
    host = Host(silence=30, interrupt_limit=10)
    host.submit("a", "b")
    host.taken("a")
    host.delivery.outbox.add(DeclareDone("x"))
    host.delivery.outbox.take()
    assert host.delivery.resumed(100) == ["b"]
    assert [type(command) for command in host.delivery.outbox.take()] == [SendInput, DeclareDone]
    assert {host["a"].wake_at, host["b"].wake_at} == {110}, "no time without a connection is a silence"


def test_what_a_process_was_told_beside_the_turns_dies_with_it() -> None:
    host = Host()
    host.submit("a", "b")
    host["b"].state = TurnState.RUNNING
    host.delivery.send_interrupt(host["b"])
    host.delivery.outbox.take()
    host.delivery.process_exited()
    assert host.delivery.resumed(0) == ["a", "b"]
    assert host.submit("c")[2:] == [], "nothing runs that could read it"


def test_the_answer_to_a_repeat_says_something_of_what_was_not_answered_only() -> None:
    host = Host()
    host.submit("a", "b")
    host.waits("b")
    assert host.delivery.took("a", 0, again=True)
    assert not host.delivery.took("b", 0, again=True)
    assert host["b"].state is TurnState.WAITING


def test_a_delivery_that_is_split_off_knows_the_queue_and_sends_nothing() -> None:
    host = Host()
    host.submit("a", "b")
    host.waits("a", "theirs", "b")
    other = Host()
    other.turns.add(host.turns.remove("b"))
    other.delivery = host.delivery.split_off(other.turns)
    assert other.sent == []
    other.turns.fetch("b")
    other.taken("a", "theirs")
    assert other.turns.fetch("b") == [Waiting(2), Waiting(1)]
    assert other.delivery.is_ready


STEPS = st.lists(
    st.tuples(st.sampled_from(["accepted", "took", "died", "withdrawn"]), st.sampled_from("abcxy")), max_size=40
)


@given(STEPS)
def test_who_waits_always_knows_its_position(steps: list[tuple[str, str]]) -> None:
    """a, b and c are ours, x and y another host's. What is taken may come back, first: Claude Code died unread."""
    host = Host()
    host.submit("a", "b", "c")
    waiting: list[str] = []
    gone: set[str] = set()
    taken = ""
    position: dict[str, int] = {}
    for step, name in steps:
        if step == "accepted" and name not in waiting and name not in gone:
            waiting.append(name)
            host.delivery.accepted(name, 0, first=False)
        elif step == "took" and name in waiting[:1]:
            taken, waiting, gone = name, waiting[1:], gone | {name}
            host.taken(name)
        elif step == "died" and taken:
            waiting.insert(0, taken)
            gone.remove(taken)
            for _ in range(2):  # and it is said again over a new connection
                host.delivery.accepted(taken, 0, first=True)
            taken = ""
        elif step == "withdrawn" and name in waiting:
            waiting.remove(name)
            gone.add(name)
            for turn, judgement in host.delivery.withdrawn(name, late=False):
                turn.end(judgement, "")
        for ours in "abc":
            for event in host.turns.fetch(ours):
                position[ours] = event.position if isinstance(event, Waiting) else 0
        expected = {ours: waiting.index(ours) + 1 for ours in "abc" if ours in waiting}
        assert {ours: position[ours] for ours in expected} == expected
