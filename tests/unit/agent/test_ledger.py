"""The account of a session: numbers, what was accepted, from where a host may read, and what another agent learns.

covers: B1
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cc_bridge_agent import journal as journal_module
from cc_bridge_agent import ledger as module
from cc_bridge_agent.ledger import Ledger

LIMIT = 1_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "journal"), LIMIT)


def another(ledger: Ledger, tmp_path: Path) -> Ledger:
    """What the next agent makes of the same directory."""
    ledger.journal.close()
    return Ledger(str(tmp_path / "journal"), LIMIT)


def decoded(frames: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


def kept(ledger: Ledger) -> list[dict[str, Any]]:
    return decoded([frame for _, frame in ledger.journal.read(0)])


def say(ledger: Ledger, *frames: dict[str, Any]) -> None:
    ledger.number(list(frames))
    ledger.keep()


# Numbers, and what is kept


def test_numbers_have_no_gaps_whatever_is_said(ledger: Ledger) -> None:
    ledger.number([{"started": 1}, {"err": "x"}])
    ledger.number_output([b'{"a":1}', b"no JSON"])
    ledger.take("id")
    expected = [
        {"seq": 1, "started": 1},
        {"seq": 2, "err": "x"},
        {"seq": 3, "out": {"a": 1}},
        {"seq": 4, "out": "no JSON"},
        {"seq": 5, "took": "id"},
    ]
    assert ledger.seq == 5
    assert decoded(ledger.keep()) == expected
    assert ledger.seq == 5
    assert kept(ledger) == expected


def test_nothing_is_given_out_twice(ledger: Ledger) -> None:
    ledger.number([{"err": "x"}])
    assert len(ledger.keep()) == 1
    assert ledger.keep() == []
    assert len(kept(ledger)) == 1


def test_what_cannot_be_kept_waits_and_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    ledger = Ledger(str(tmp_path / "journal" / "main"), LIMIT)
    ledger.number([{"err": "1"}])
    with pytest.raises(OSError, match="Not a directory"):
        ledger.keep()
    ledger.number([{"err": "2"}])
    assert (ledger.seq, ledger.journal.last, len(ledger.waiting)) == (2, 0, 2)
    (tmp_path / "journal").unlink()
    assert decoded(ledger.keep()) == [{"seq": 1, "err": "1"}, {"seq": 2, "err": "2"}]
    assert ledger.waiting == []


def test_where_keeping_is_given_up_numbers_go_on_after_what_waited(ledger: Ledger) -> None:
    say(ledger, {"err": "1"})
    ledger.number([{"err": "2"}, {"err": "3"}])
    assert decoded(ledger.give_up_keeping()) == [{"seq": 2, "err": "2"}, {"seq": 3, "err": "3"}]
    assert (ledger.waiting, ledger.seq, kept(ledger)) == ([], 3, [])
    say(ledger, {"err": "4"})
    assert kept(ledger) == [{"seq": 4, "err": "4"}]


# Inputs


def test_an_input_is_accepted_once(ledger: Ledger) -> None:
    assert not ledger.has_taken("id")
    assert ledger.take("id")
    assert ledger.has_taken("id")
    assert not ledger.take("id")
    assert decoded(ledger.keep()) == [{"seq": 1, "took": "id"}]


def test_an_input_is_open_until_its_turn_is_declared_done(ledger: Ledger) -> None:
    ledger.take("a")
    ledger.take("b")
    assert list(ledger.open_ids) == ["a", "b"]
    assert ledger.done("a", ledger.seq)
    assert list(ledger.open_ids) == ["b"]
    assert decoded(ledger.keep())[-1] == {"seq": 3, "done": "a"}
    assert ledger.kept() == [{"id": "a", "read": True}, {"id": "b", "read": False}]


def test_a_turn_is_done_once_and_only_if_it_was_accepted(ledger: Ledger) -> None:
    assert not ledger.done("nobody's", 0)
    ledger.take("a")
    assert ledger.done("a", 1)
    assert not ledger.done("a", 1)
    assert [frame for frame in decoded(ledger.keep()) if "done" in frame] == [{"seq": 2, "done": "a"}]


def test_what_waits_is_kept_with_its_text_and_given_under_its_id(ledger: Ledger) -> None:
    """covers: C16"""
    ledger.take("a")
    ledger.hold("b", b'{"b":1}')
    said = decoded(ledger.keep())
    assert ledger.has_taken("b")
    assert not ledger.take("b")
    assert (ledger.queue.current, ledger.queue.waiting, list(ledger.open_ids)) == ("a", ["b"], ["a"])
    assert ledger.kept()[-1] == {"id": "b", "read": False}
    assert ledger.position(None, "b") == 1
    ledger.queue.current = ""
    assert ledger.queue.next() == ("b", b'{"b":1}')
    ledger.give("b")
    assert (ledger.queue.current, list(ledger.open_ids)) == ("b", ["a", "b"])
    said += decoded(ledger.keep())
    assert ledger.position(None, "b") == 2
    expected = [{"seq": 1, "took": "a"}, {"seq": 2, "queued": "b", "in": {"b": 1}}, {"seq": 3, "took": "b"}]
    assert said == expected


def test_what_was_withdrawn_is_as_if_it_had_never_come(ledger: Ledger, tmp_path: Path) -> None:
    ledger.take("a")
    ledger.hold("b", b"{}")
    assert ledger.withdraw("b")
    assert not ledger.withdraw("b")
    assert not ledger.withdraw("a")
    assert not ledger.has_taken("b")
    assert ledger.kept() == [{"id": "a", "read": False}]
    assert decoded(ledger.keep())[-1] == {"seq": 3, "withdrawn": "b"}
    assert another(ledger, tmp_path).queue.waiting == []


def test_the_next_agent_has_what_waits(ledger: Ledger, tmp_path: Path) -> None:
    ledger.take("a")
    for name in ("b", "c", "d"):
        ledger.hold(name, b'{"%b":1}' % name.encode())
    ledger.queue.withdraw("b")
    ledger.give("b")
    ledger.withdraw("c")
    ledger.keep()
    found = another(ledger, tmp_path)
    assert (found.queue.current, found.queue.waiting) == ("", ["d"])
    assert found.queue.next() == ("d", b'{"d":1}')
    assert not any(found.take(name) for name in ("a", "b", "d"))
    assert found.take("c")


def test_what_waits_is_not_trimmed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 1)
    monkeypatch.setattr(journal_module, "HISTORY", 0)
    say(ledger, {"err": "1"})
    ledger.hold("b", b"{}")
    ledger.keep()
    for number in range(3):
        ledger.take(f"n{number}")
        ledger.keep()
        ledger.done(f"n{number}", ledger.seq)
        ledger.keep()
    assert ledger.journal.first == 2, "what came before it is gone"


def test_a_turn_can_be_declared_done_after_its_process_has_ended(ledger: Ledger) -> None:
    ledger.take("a")
    ledger.open_ids.clear()
    assert ledger.done("a", 1)


def test_control_messages_begin_no_turn(ledger: Ledger) -> None:
    assert ledger.take("c-1")
    assert not ledger.take("c-1")
    assert (list(ledger.open_ids), ledger.kept()) == ([], [])
    assert not ledger.done("c-1", 1)


def test_the_last_4096_ids_are_remembered(ledger: Ledger) -> None:
    """docs/protocol.md. What is forgotten is forgotten everywhere."""
    for number in range(4096):
        ledger.take(f"n{number}")
    assert ledger.has_taken("n0")
    ledger.take("n4096")
    assert not ledger.has_taken("n0")
    assert ledger.has_taken("n1")
    assert "n0" not in ledger.open_ids
    assert not ledger.done("n0", 0)
    assert len(ledger.kept()) == 4096


def test_turns_whose_beginning_was_given_up_cannot_be_asked_for(ledger: Ledger) -> None:
    ledger.take("a")
    ledger.keep()
    ledger.journal.restart(1)
    ledger.take("b")
    assert ledger.kept() == [{"id": "b", "read": False}]


# How much is kept for whom


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame in a segment of its own, and none kept for history's sake."""
    monkeypatch.setattr(journal_module, "SEGMENT", 1)
    monkeypatch.setattr(journal_module, "HISTORY", 0)


def turn(ledger: Ledger, name: str, given: int | None = None) -> None:
    """Four frames: taken, two of output, done."""
    ledger.take(name)
    ledger.keep()
    for _ in range(2):
        ledger.number_output([b"{}"])
        ledger.keep()
    ledger.done(name, ledger.seq if given is None else given)
    ledger.keep()


def test_the_turn_that_was_read_last_can_be_read_again(small: None, ledger: Ledger) -> None:
    turn(ledger, "a")
    assert ledger.journal.first == 1
    turn(ledger, "b")
    assert ledger.journal.first == 4, "what lies before the end of the turn before"
    assert ledger.position(None, "b") == 4
    turn(ledger, "c")
    assert ledger.journal.first == 8
    assert ledger.position(None, "b") is None


def test_nothing_goes_that_a_connected_host_has_not_been_given(small: None, ledger: Ledger) -> None:
    turn(ledger, "a", given=1)
    turn(ledger, "b", given=1)
    assert ledger.journal.first == 2


# From where a host may go on


def test_a_host_without_a_past_gets_what_is_to_come(ledger: Ledger) -> None:
    say(ledger, {"err": "1"})
    ledger.number([{"err": "2"}])
    assert ledger.position(None, None) == 2


@pytest.mark.parametrize(("have", "after"), [(0, None), (1, None), (2, 2), (3, 3), (4, 4), (5, None), ("3", None)])
def test_a_host_goes_on_after_a_number_that_is_kept(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, have: object, after: int | None
) -> None:
    """Frames 3 and 4 are kept, 5 waits: nobody can have seen it."""
    monkeypatch.setattr(journal_module, "SEGMENT", 1)
    for number in range(1, 5):
        say(ledger, {"err": str(number)})
    ledger.journal.forget(2)
    ledger.number([{"err": "5"}])
    assert ledger.position([have, ledger.journal.id], None) == after


def test_a_number_of_another_journal_means_nothing(ledger: Ledger) -> None:
    say(ledger, {"err": "1"})
    assert ledger.position([1, "another"], None) is None


def test_a_turn_is_read_from_its_acceptance_on(ledger: Ledger) -> None:
    say(ledger, {"started": 1}, {"err": "x"})
    ledger.take("a")
    assert ledger.position(None, "a") == 2, "also while it waits to be kept"
    ledger.keep()
    say(ledger, {"err": "y"})
    assert ledger.position(None, "a") == 2
    assert ledger.position([4, ledger.journal.id], "a") == 2
    assert ledger.position(None, "unknown") is None


# The next agent


def test_it_knows_what_was_accepted_and_what_was_read(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("a", "c-1", "b_B-9"):
        ledger.take(name)
    ledger.done("a", 3)
    ledger.keep()
    found = another(ledger, tmp_path)
    assert not any(found.take(name) for name in ("a", "c-1", "b_B-9"))
    assert found.kept() == [{"id": "a", "read": True}, {"id": "b_B-9", "read": False}]
    assert found.position(None, "b_B-9") == 2
    assert not found.done("a", 4)
    assert found.done("b_B-9", 4)
    assert found.seq == 5


def test_nothing_is_open_with_it_for_its_claude_code_is_another(ledger: Ledger, tmp_path: Path) -> None:
    ledger.take("a")
    ledger.keep()
    assert list(another(ledger, tmp_path).open_ids) == []


def test_a_process_that_ran_has_ended_and_nobody_saw_how(ledger: Ledger, tmp_path: Path) -> None:
    say(ledger, {"started": 1}, {"exit": 0}, {"started": 2})
    found = another(ledger, tmp_path)
    assert kept(found)[-1] == {"seq": 4, "exit": None}
    assert (found.seq, found.waiting) == (4, [])
    assert another(found, tmp_path).seq == 4, "it is said once"


@pytest.mark.parametrize(
    "frames", [[], [{"err": "x"}], [{"started": 1}, {"exit": -9}], [{"started": 1}, {"exit": None}]]
)
def test_where_none_ran_nothing_is_added(ledger: Ledger, tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    say(ledger, *frames)
    found = another(ledger, tmp_path)
    assert (found.seq, len(kept(found))) == (len(frames), len(frames))


def test_what_claude_code_says_is_no_event_of_the_agent_s(ledger: Ledger, tmp_path: Path) -> None:
    """However much it looks like one."""
    ledger.number_output([b'{"seq":9,"took":"x"}', b'{"started":1}', b'"took":"x"'])
    ledger.number([{"err": '{"seq":1,"took":"x"}'}])
    ledger.keep()
    found = another(ledger, tmp_path)
    assert found.seq == 4
    assert not found.has_taken("x")


def test_the_number_of_ids_is_what_the_document_says() -> None:
    assert module._REMEMBERED_IDS == 4096
