"""The turns of a conversation and their readers. covers: B14, C16"""

from __future__ import annotations

from cc_bridge import Verdict
from cc_bridge.events import PermissionRequest, PersonTurn, Waiting
from cc_bridge.protocol.turn_state import TrackedTurn, TurnState
from cc_bridge.protocol.turns import Turns
from cc_bridge.protocol.verdicts import Judgement


def turns(**states: TurnState) -> Turns:
    made = Turns()
    for name, state in states.items():
        made.add(TrackedTurn(name, "text", state))
    return made


def get(known: Turns, name: str) -> TrackedTurn:
    turn = known.get(name)
    assert turn is not None
    return turn


def test_which_is_where() -> None:
    known = turns(
        a=TurnState.DONE,
        b=TurnState.QUEUED,
        c=TurnState.WAITING,
        d=TurnState.SENT,
        e=TurnState.TAKEN,
        f=TurnState.QUEUED,
    )
    assert known.queued == ("b", "f")
    assert known.next_queued is get(known, "b")
    assert known.with_agent == 3
    assert known.next == "e", "it is with Claude Code"
    assert set(known.active_ids) == {"d", "e"}
    assert known.own("d") is get(known, "d")
    assert known.own("a") is known.own("c") is known.own("unknown") is None
    assert (known.state("a"), known.state("unknown")) == (TurnState.DONE, None)
    assert turns(a=TurnState.WAITING, b=TurnState.SENT).next == "b"
    assert turns(a=TurnState.QUEUED).next is None
    assert turns().next_queued is None


def test_a_turn_is_forgotten_after_its_result() -> None:
    known = turns(a=TurnState.RUNNING)
    assert known.fetch("a") == []
    assert "a" in known
    get(known, "a").end(Judgement(Verdict.COMPLETED), "")
    assert known.backlog("a") == 1
    assert len(known.fetch("a")) == 1
    assert "a" not in known
    assert known.fetch("a") == []
    assert known.backlog("a") == 0


def test_turns_can_be_removed_while_they_are_gone_through() -> None:
    known = turns(a=TurnState.SENT, b=TurnState.SENT)
    assert [known.remove(turn.id).id for turn in known] == ["a", "b"]


def test_who_waits_behind_a_free_place_moves_up() -> None:
    known = turns(a=TurnState.SENT, b=TurnState.SENT, c=TurnState.SENT)
    for ahead, name in enumerate("abc"):
        get(known, name).wait(10 + ahead, ahead)
    known.move_up([11])
    known.move_up([])
    assert [known.fetch(name) for name in "abc"] == [[], [], [Waiting(2)]]
    known.move_up([10])
    assert [known.fetch(name) for name in "abc"] == [[], [Waiting(1)], [Waiting(1)]]


def test_who_is_behind_what_comes_back_moves_back() -> None:
    known = turns(a=TurnState.SENT, b=TurnState.SENT, c=TurnState.RUNNING)
    get(known, "a").wait(1, 0)
    get(known, "b").wait(2, 1)
    get(known, "c").place = 3
    known.move_back(1)
    assert [known.fetch(name) for name in "abc"] == [[], [Waiting(3)], []]
    known.move_up([1])
    assert [known.fetch(name) for name in "abc"] == [[], [Waiting(2)], []]


def test_after_a_replay_who_waits_learns_its_position_and_requests_are_handed_out() -> None:
    known = turns(a=TurnState.SENT, b=TurnState.RUNNING)
    assert not known.replaying
    known.replaying = True
    get(known, "a").wait(1, 4)
    request = PermissionRequest("r", "Bash", {}, ())
    get(known, "b").events.append(request)
    assert known.fetch("a") == known.fetch("b") == []
    known.replayed()
    known.replayed()
    assert known.fetch("a") == [Waiting(5)]
    assert known.fetch("b") == [request]


def test_readers_that_are_far_behind_hold_up_the_others_until_their_turn_has_ended() -> None:
    known = turns(a=TurnState.RUNNING, b=TurnState.WAITING)
    for name in "ab":
        get(known, name).events.extend([Waiting(1)] * 1001)
    assert known.crowded == ["a", "b"]
    get(known, "a").end(Judgement(Verdict.COMPLETED), "")
    assert known.crowded == ["b"]
    known.replaying = True
    get(known, "b").events.appendleft(PermissionRequest("r", "Bash", {}, ()))
    assert known.crowded == [], "nothing can be fetched"


def test_who_was_sent_and_does_not_wait_learns_who_has_the_floor() -> None:
    known = turns(a=TurnState.QUEUED, b=TurnState.SENT, c=TurnState.WAITING, d=TurnState.RUNNING)
    known.tell_active(PersonTurn("theirs"))
    assert [len(known.fetch(name)) for name in "abcd"] == [0, 1, 0, 1]


def test_who_is_to_be_looked_after_and_when() -> None:
    known = turns(a=TurnState.SENT, b=TurnState.RUNNING, c=TurnState.QUEUED, d=TurnState.WAITING)
    for when, name in enumerate("bacd", 5):
        get(known, name).wake_at = when
    assert known.next_timer() == 5
    assert [turn.id for turn in known.due(5)] == ["b"]
    assert [turn.id for turn in known.due(10)] == ["a", "b"]
    known.put_off(5.5)
    assert known.next_timer() == 5.5
    assert get(known, "a").wake_at == 6, "it was later already"
    assert get(known, "c").wake_at == 7
    assert turns(c=TurnState.QUEUED).next_timer() is None
