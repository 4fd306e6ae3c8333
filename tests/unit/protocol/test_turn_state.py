"""One turn: its states, what its reader may fetch, and when it is to be looked after. covers: B14"""

from __future__ import annotations

import pytest

from cc_bridge import TurnResult, Verdict
from cc_bridge.events import PermissionRequest, Silence, TextDelta, TurnStarted, Waiting
from cc_bridge.protocol import turn_state as module
from cc_bridge.protocol.turn_state import TRANSITIONS, Interrupt, TrackedTurn, TurnState, TurnStep
from cc_bridge.protocol.verdicts import Judgement

REQUEST = PermissionRequest("r", "Bash", {}, ())


def turn(state: TurnState = TurnState.RUNNING, **fields: object) -> TrackedTurn:
    return TrackedTurn("id", "text", state, **fields)  # type: ignore[arg-type]


def test_every_turn_can_end_and_nothing_comes_after() -> None:
    for state, steps in TRANSITIONS.items():
        assert (TurnStep.FINISH in steps) is (state is not TurnState.DONE)
    assert {target for steps in TRANSITIONS.values() for target in steps.values()} == set(TurnState)


@pytest.mark.parametrize("state", TurnState)
@pytest.mark.parametrize("step", TurnStep)
def test_a_step_that_is_not_in_the_table_names_itself(state: TurnState, step: TurnStep) -> None:
    made = turn(state)
    if step in TRANSITIONS[state]:
        made.step(step)
        assert made.state is TRANSITIONS[state][step]
    else:
        with pytest.raises(RuntimeError, match=f"turn id: a {state.value} turn cannot {step.value}"):
            made.step(step)


@pytest.mark.parametrize(
    ("state", "active", "with_claude", "with_agent"),
    [
        (TurnState.QUEUED, False, False, False),
        (TurnState.SENT, True, False, True),
        (TurnState.WAITING, False, False, True),
        (TurnState.TAKEN, True, True, True),
        (TurnState.RUNNING, True, True, True),
        (TurnState.DONE, False, False, False),
    ],
)
def test_where_it_is(state: TurnState, active: bool, with_claude: bool, with_agent: bool) -> None:
    made = turn(state)
    assert (made.active, made.with_claude, made.with_agent) == (active, with_claude, with_agent)
    assert made.ticks is active
    made.interrupt = Interrupt.WANTED
    assert made.ticks is (active or state is TurnState.WAITING), "who is given up does not wait for ever"


def test_nobody_answers_for_what_another_host_has_sent() -> None:
    assert turn(TurnState.SENT).is_unanswered
    assert not turn(TurnState.SENT, followed=True).is_unanswered
    assert not turn(TurnState.TAKEN).is_unanswered


@pytest.mark.parametrize(
    ("text", "followed", "expected"), [("/cost", False, True), (" /cost", False, True), ("x", False, False)]
)
def test_whose_echo_may_be_missing(text: str, followed: bool, expected: bool) -> None:
    assert TrackedTurn("id", text, followed=followed).may_lack_echo is expected
    assert TrackedTurn("id", text, followed=True).may_lack_echo, "who knows what it was"


def test_a_line_puts_off_the_look_after_it_unless_it_is_to_end() -> None:
    made = turn()
    made.heard(5, 30, 10)
    assert (made.quiet_since, made.wake_at, made.weight) == (5, 35, 10)
    made.interrupt = Interrupt.SENT
    made.heard(20, 30, 1)
    assert (made.quiet_since, made.wake_at, made.weight) == (20, 35, 11)


def test_being_taken_puts_it_off_only_where_it_has_waited() -> None:
    made = turn(TurnState.QUEUED)
    made.send(1, 30)
    made.take(2, 10)
    assert (made.state, made.quiet_since, made.wake_at) == (TurnState.TAKEN, 2, 31)
    made.wait(3, 2)
    made.take(50, 10)
    assert (made.quiet_since, made.wake_at) == (50, 60)


def test_a_silence_tells_whether_the_transcript_grows() -> None:
    made = turn(quiet_since=1.0)
    for now, last in ((3.0004, "a"), (4, "a"), (5, "b")):
        made.tell_silence(now, last)
    assert list(made.events) == [Silence(2.0, True), Silence(3, False), Silence(4, True)]


@pytest.mark.parametrize("ahead", [0, 2])
def test_the_first_that_waits_has_position_1(ahead: int) -> None:
    made = turn(TurnState.SENT)
    made.wait(7, ahead)
    made.tell_position()
    assert (made.state, made.place, list(made.events)) == (TurnState.WAITING, 7, [Waiting(ahead + 1)])


def test_beginning_is_a_sign_of_life() -> None:
    made = turn(TurnState.TAKEN)
    made.begin(7)
    assert (made.state, made.quiet_since) == (TurnState.RUNNING, 7)


def test_a_start_is_told_once() -> None:
    made = turn()
    made.announce("s", "m")
    made.announce("s", "n")
    assert list(made.events) == [TurnStarted("s", "m")]


def test_the_result_comes_last_and_has_the_whole_text() -> None:
    made = turn()
    made.events += made.answer.say("one")
    made.end(Judgement(Verdict.RECOVERED, unsaid=("", " two")), "s")
    assert made.is_done
    assert list(made.events) == [TextDelta("one"), TextDelta(" two"), TurnResult(Verdict.RECOVERED, "one two", "s", "")]


def test_what_may_be_decided_already_is_held_back_with_all_that_follows() -> None:
    made = turn()
    made.events += [Waiting(1), REQUEST, TextDelta("x")]
    assert (made.takeable(replaying=True), made.takeable(replaying=False)) == (1, 3)
    made.end(Judgement(Verdict.COMPLETED), "s")
    assert made.takeable(replaying=True) == 4, "there is nothing more to decide"


def test_a_moot_request_is_not_fetched() -> None:
    made = turn()
    made.events += [PermissionRequest("other", "Bash", {}, ()), REQUEST]
    made.drop_request("r")
    made.drop_request("r")
    assert [event.request_id for event in made.events if isinstance(event, PermissionRequest)] == ["other"]


def test_a_reader_is_far_behind_by_events_or_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (module._MOST_EVENTS, module._MOST_BYTES) == (1000, 4 * 2**20)
    monkeypatch.setattr(module, "_MOST_EVENTS", 2)
    monkeypatch.setattr(module, "_MOST_BYTES", 10)
    made = turn()
    assert (made.is_crowded(2), made.is_crowded(3)) == (False, True)
    made.events += [Waiting(1), Waiting(1)]
    made.heard(0, 0, 10)
    assert not made.is_crowded(1)
    made.heard(0, 0, 1)
    assert (made.is_crowded(1), made.is_crowded(0)) == (True, False), "nothing can be fetched"
    assert made.fetch(1) == [Waiting(1)]
    assert made.is_crowded(1)
    made.fetch(1)
    made.events.append(Waiting(1))
    made.heard(0, 0, 10)
    assert not made.is_crowded(1), "it has fetched all of that"
