"""What Claude Code says and what it means for the turns; whoever knows of a turn learns of its end. covers: B14, B4"""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge import TurnResult, Verdict
from cc_bridge.events import PermissionRequest, PersonTurn, TextDelta, TurnStarted
from cc_bridge.protocol import claude_output as module
from cc_bridge.protocol import stream_json as sj
from cc_bridge.protocol.claude_output import ClaudeOutput
from cc_bridge.protocol.commands import DeclareDone, SendInput
from cc_bridge.protocol.delivery import Delivery
from cc_bridge.protocol.turn_state import Interrupt, TrackedTurn, TurnState
from cc_bridge.protocol.turns import Turns
from cc_bridge.protocol.verdicts import Judgement, ProcessEnd


class Reader:
    """The output of a Claude Code that has two turns of ours, the first of which it has taken."""

    def __init__(self, *, queue: bool = True) -> None:
        self.turns = Turns()
        self.delivery = Delivery(self.turns, 30, 10)
        self.delivery.greeted([] if queue else None, resumed=False)
        self.output = ClaudeOutput(self.turns, self.delivery)
        self.a, self.b = TrackedTurn("a", "text", TurnState.TAKEN), TrackedTurn("b", "text", TurnState.TAKEN)
        for turn in (self.a, self.b):
            self.turns.add(turn)
            self.output.attribution.took(turn.id)

    def say(self, kind: str, **fields: Any) -> TrackedTurn | None:
        return self.output.receive({"type": kind, **fields}, 1.0)

    def init(self, *names: str) -> TrackedTurn | None:
        return self.say("system", subtype="init", session_id="s", model="m", user_message_uuids=list(names))

    def delta(self, text: str) -> TrackedTurn | None:
        piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
        return self.say("stream_event", event=piece)

    def ask(self, name: str) -> None:
        request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}
        self.say("control_request", request_id=name, request=request)

    def controls(self) -> list[dict[str, Any]]:
        return [command.message for command in self.delivery.outbox.take() if isinstance(command, SendInput)]


@pytest.fixture
def reader() -> Reader:
    return Reader()


def test_a_line_is_its_turns(reader: Reader) -> None:
    assert reader.delta("nobody's") is None
    assert reader.init("b") is reader.b
    assert reader.delta("mine") is reader.b
    assert list(reader.b.events) == [TurnStarted("s", "m"), TextDelta("mine")]
    assert (reader.b.state, reader.b.quiet_since) == (TurnState.RUNNING, 1.0)
    assert not reader.a.events
    assert reader.init("theirs") is None
    assert reader.delta("theirs") is None
    assert len(reader.b.events) == 2


def test_an_interrupt_that_was_held_is_sent_when_its_turn_begins_and_once(reader: Reader) -> None:
    reader.a.interrupt = Interrupt.WANTED
    reader.init("a")
    reader.init("a")
    assert [message["request"]["subtype"] for message in reader.controls()] == ["interrupt"]


def test_whoever_knows_of_a_turn_learns_of_its_end(reader: Reader) -> None:
    reader.init("a")
    reader.ask("r")
    assert "r" in reader.output.requests
    reader.output.end(reader.a, Judgement(Verdict.FAILED, "why"))
    assert not reader.output.requests, "nobody waits for a decision"
    assert reader.output.attribution.current == "", "what follows is nobody's"
    assert reader.delivery.outbox.take() == [DeclareDone("a")]
    last = reader.a.events[-1]
    assert isinstance(last, TurnResult)
    assert (last.verdict, last.error, last.session_id) == (Verdict.FAILED, "why", "s")


def test_the_end_of_what_is_not_with_claude_code_closes_no_request(reader: Reader) -> None:
    reader.init("a")
    reader.ask("r")
    reader.b.state = TurnState.WAITING
    assert reader.output.end_all([(reader.b, Judgement(Verdict.INTERRUPTED, "given up"))])
    assert "r" in reader.output.requests
    assert not reader.output.end_all([])


def test_what_claude_code_says_without_end_is_kept_with_one(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (module._STDERR_LINES, module._MOST_KINDS) == (20, 100)
    monkeypatch.setattr(module, "_MOST_KINDS", 2)
    for kind in "abcda":
        reader.say(kind)
    assert dict(reader.output.unknown) == {"a": 2, "b": 1, "other kinds": 2}
    reader.output.stderr.extend(str(number) for number in range(25))
    assert list(reader.output.stderr) == [str(number) for number in range(5, 25)]


def test_a_result_ends_all_that_it_names_and_sends_the_next(reader: Reader) -> None:
    reader.delivery.process_ready(0)
    reader.turns.add(TrackedTurn("c", "next"))
    reader.say("result", subtype="success", user_message_uuids=["a", "b", "theirs"])
    assert (reader.a.state, reader.b.state) == (TurnState.DONE, TurnState.DONE)
    done_a, done_b, sent = reader.delivery.outbox.take()
    assert (done_a, done_b) == (DeclareDone("a"), DeclareDone("b"))
    assert isinstance(sent, SendInput)


def test_a_result_of_nobody_is_counted(reader: Reader) -> None:
    reader.say("result", subtype="success")
    assert dict(reader.output.unknown) == {"result of no turn": 1}
    assert reader.delivery.outbox.take() == []


def test_others_turns_are_declared_where_the_agent_cannot_know_of_their_end() -> None:
    reader = Reader(queue=False)
    reader.output.attribution.took("theirs")
    reader.say("result", subtype="success", user_message_uuids=["theirs", "never taken"])
    assert reader.delivery.outbox.take() == [DeclareDone("theirs")]


def test_a_request_is_asked_of_the_reader_unless_the_turn_is_to_end(reader: Reader) -> None:
    reader.ask("nobody's")
    reader.init("a")
    reader.ask("r-1")
    reader.a.interrupt = Interrupt.SENT
    reader.ask("r-2")
    asked = [event.request_id for event in reader.a.events if isinstance(event, PermissionRequest)]
    assert asked == ["r-1"]
    (denial,) = reader.controls()
    assert denial == sj.deny("r-2", "The turn is being interrupted.")
    assert "r-2" not in reader.output.requests


def test_a_request_that_claude_code_takes_back_is_not_handed_out(reader: Reader) -> None:
    reader.init("a")
    reader.ask("r")
    reader.say("control_cancel_request", request_id="r")
    assert not any(isinstance(event, PermissionRequest) for event in reader.a.events)
    assert "r" not in reader.output.requests


def test_what_cannot_be_answered_is_refused_so_that_nobody_waits(reader: Reader) -> None:
    reader.say("control_request", request_id="r", request={"subtype": "novelty"})
    (refusal,) = reader.controls()
    assert refusal["response"]["subtype"] == "error"
    assert dict(reader.output.unknown) == {"control_request/novelty": 1}


def test_what_is_not_understood_is_counted_whosever_it_is(reader: Reader) -> None:
    assert reader.output.receive("no JSON", 0) is None
    reader.say("novelty")
    reader.init("a")
    reader.say("novelty")
    reader.say("assistant", message={"content": [{"type": "odd"}]})
    assert dict(reader.output.unknown) == {"no JSON": 1, "novelty": 2, "block odd": 1}


@pytest.mark.parametrize(
    ("lines", "end"), [([], "1"), (["first", "last"], "1: last"), (["why", "", " "], "1: why"), ([""], "1")]
)
def test_a_process_that_ends_is_quoted_with_the_last_it_said(reader: Reader, lines: list[str], end: str) -> None:
    reader.output.stderr.extend(lines)
    reader.output.end_by_exit(reader.a, ProcessEnd(1))
    last = reader.a.events[-1]
    assert isinstance(last, TurnResult)
    assert last.error == f"Claude Code ended with exit code {end}"
    reader.output.process_started()
    assert not reader.output.stderr


def test_a_new_process_says_nothing_of_the_last_ones_turns(reader: Reader) -> None:
    reader.init("a")
    reader.output.process_started()
    assert reader.delta("nobody's") is None


def test_who_works_and_with_what_is_remembered(reader: Reader) -> None:
    reader.say("system", subtype="init", session_id="s", model="m", claude_code_version="2.1")
    reader.say("system", subtype="init")
    assert (reader.output.session_id, reader.output.claude_version) == ("s", "2.1")


def test_a_person_who_has_the_floor_is_told_of(reader: Reader) -> None:
    reader.say("system", subtype="person_turn", prompt="theirs")
    assert list(reader.a.events) == list(reader.b.events) == [PersonTurn("theirs")]


def test_what_is_split_off_reads_on(reader: Reader) -> None:
    reader.init("a")
    reader.output.stderr.append("a line")
    turns = Turns()
    turns.add(reader.turns.remove("a"))
    other = reader.output.split_off(turns, reader.delivery.split_off(turns))
    assert other.session_id == "s"
    assert list(other.stderr) == ["a line"]
    piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "on"}}
    assert other.receive({"type": "stream_event", "event": piece}, 2.0) is reader.a
    assert reader.a.events[-1] == TextDelta("on")
    assert reader.delta("nobody's here") is None
