"""Turns: order, ownership of lines, interrupts, verdicts; on both releases' habits. covers: B14, C16, B4, B9"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_bridge import InvalidInput, TextDelta, TurnResult, Verdict
from cc_bridge.events import (
    ApiRetry,
    Event,
    PermissionRequest,
    PersonTurn,
    Silence,
    ThinkingDelta,
    ToolResult,
    ToolUse,
    TurnStarted,
    UnknownMessage,
)
from cc_bridge.protocol import bounded_text
from cc_bridge.protocol.commands import DeclareDone, EndProcess, ReadTranscript, SendInput
from cc_bridge.protocol.conversation import Conversation
from cc_bridge_agent import wire


class Player:
    """Plays Claude Code for a conversation; time is a number."""

    def __init__(self, *, echo_first: bool = True, ids: bool = True, **options: Any) -> None:
        self.conversation = Conversation(**options)
        self.now = 0.0
        self.sent: list[str] = []
        self.controls: list[dict[str, Any]] = []
        self.others: list[Any] = []
        self._echo_first, self._ids = echo_first, ids
        self.conversation.process_started()
        self.conversation.process_ready((), self.now)

    def submit(self, text: str = "hello") -> str:
        turn = str(uuid.uuid4())
        self.conversation.submit(turn, text, self.now)
        self.step()
        return turn

    def step(self) -> None:
        for command in self.conversation.commands():
            if isinstance(command, SendInput) and command.message["type"] == "user":
                self.sent.append(command.input_id)
            elif isinstance(command, SendInput):
                self.controls.append(command.message)
            else:
                self.others.append(command)

    def took(self, turn: str) -> None:
        self.conversation.took(turn, self.now)
        self.step()

    def say(self, message: dict[str, Any] | str) -> None:
        self.conversation.receive_message(message, self.now)
        self.step()

    def init(self, turn: str) -> None:
        ids = {"user_message_uuids": [turn]} if self._ids else {}
        self.say({"type": "system", "subtype": "init", "session_id": "s", "model": "m", **ids})

    def echo(self, turn: str) -> None:
        self.say({"type": "user", "isReplay": True, "uuid": turn, "message": {"role": "user", "content": "…"}})

    def delta(self, text: str) -> None:
        piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
        self.say({"type": "stream_event", "event": piece})

    def block(self, kind: str = "text") -> None:
        start = {"type": "content_block_start", "content_block": {"type": kind}}
        self.say({"type": "stream_event", "event": start})

    def whole(self, *blocks: dict[str, Any], model: str = "m") -> None:
        self.say({"type": "assistant", "message": {"model": model, "content": list(blocks)}})

    def result(self, turn: str = "", text: str = "", **more: Any) -> None:
        ids = {"user_message_uuids": [turn]} if self._ids and turn else {}
        fields = {"subtype": "success", "is_error": False, "session_id": "s", "result": text}
        self.say({"type": "result", **fields, **ids, **more})

    def begin(self, turn: str) -> None:
        self.took(turn)
        self.init(turn)
        if self._echo_first:
            self.echo(turn)

    def answer(self, turn: str, *pieces: str) -> None:
        """A whole turn, as this release plays it."""
        self.begin(turn)
        self.block()
        for piece in pieces:
            self.delta(piece)
        if not self._echo_first:
            self.echo(turn)
        self.whole({"type": "text", "text": "".join(pieces)})
        self.result(turn, "".join(pieces))

    def events(self, turn: str) -> list[Event]:
        return self.conversation.take_events(turn)

    def ended(self, turn: str) -> TurnResult:
        last = self.events(turn)[-1]
        assert isinstance(last, TurnResult)
        return last


#: 2.1.329 names turns and echoes first; 2.1.197 echoes just before the whole message, and names nothing.
RELEASES = [{"echo_first": True, "ids": True}, {"echo_first": False, "ids": False}]


@pytest.fixture(params=RELEASES, ids=["2.1.329", "2.1.197"])
def player(request: pytest.FixtureRequest) -> Player:
    return Player(**request.param, silence=30, interrupt_limit=10)


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, TextDelta)]


def test_an_answer(player: Player) -> None:
    turn = player.submit()
    player.answer(turn, "one", " two")
    started, *pieces, result = player.events(turn)
    assert started == TurnStarted("s", "m")
    assert texts(pieces) == ["one", " two"]
    assert isinstance(result, TurnResult)
    assert (result.verdict, result.text) == (Verdict.COMPLETED, "one two")
    assert player.others == [DeclareDone(turn)]
    assert player.events(turn) == [], "forgotten after its result"


def test_one_at_a_time_and_in_order(player: Player) -> None:
    turns = [player.submit(str(number)) for number in range(3)]
    for turn in turns:
        assert player.sent[-1] == turn
        player.answer(turn, "a")
    assert player.sent == turns
    assert [player.ended(turn).text for turn in turns] == ["a", "a", "a"]


def test_whole_messages_without_pieces(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.whole({"type": "text", "text": "all of it"})
    player.result(turn)
    assert player.ended(turn).text == "all of it"


def test_only_what_the_pieces_lack_is_said_again(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.block()
    player.delta("the first")
    player.whole({"type": "text", "text": "the first and the rest"})
    player.result(turn)
    assert texts(player.events(turn)) == ["the first", " and the rest"]


def test_messages_of_a_turn_are_parted_by_a_blank_line(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    for text in ("before", "after"):
        player.block()
        player.delta(text)
        player.whole({"type": "text", "text": text})
    player.result(turn)
    assert player.ended(turn).text == "before\n\nafter"


def test_thinking_is_not_text(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.block("thinking")
    thinking = {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}
    player.say({"type": "stream_event", "event": thinking})
    player.whole({"type": "thinking", "thinking": "hm"})
    player.result(turn)
    events = player.events(turn)
    assert [event.text for event in events if isinstance(event, ThinkingDelta)] == ["hm"]
    assert texts(events) == []


def test_an_answer_in_the_result_only() -> None:
    player = Player(ids=False, echo_first=False)
    turn = player.submit("/cost")
    player.took(turn)
    player.init(turn)
    player.result(text="It cost nothing.")  # 2.1.197 does not echo slash commands
    assert player.ended(turn).text == "It cost nothing."


@pytest.mark.parametrize("ids", [True, False])
def test_a_result_of_nobody_ends_nothing(ids: bool) -> None:
    player = Player(ids=ids)
    turn = player.submit()
    player.took(turn)
    player.init(turn)
    player.result(str(uuid.uuid4()) if ids else "", "left over")
    assert not player.conversation.is_done(turn)
    player.echo(turn)
    player.result(turn)
    assert player.ended(turn).verdict is Verdict.COMPLETED


def test_lines_of_another_client_s_turn_are_not_ours() -> None:
    player = Player()
    theirs = str(uuid.uuid4())
    player.took(theirs)
    turn = player.submit()
    player.took(turn)
    player.init(theirs)
    player.echo(theirs)
    player.delta("theirs")
    player.result(theirs, "theirs")
    player.init(turn)
    player.echo(turn)
    player.delta("ours")
    player.result(turn, "ours")
    assert texts(player.events(turn)) == ["ours"]


def test_api_error(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.whole({"type": "text", "text": "API Error: 400"}, model="<synthetic>")
    player.result(turn, "API Error: 400 no", is_error=True, api_error_status=400)
    events = player.events(turn)
    result = events[-1]
    assert isinstance(result, TurnResult)
    assert (result.verdict, result.api_status, result.text) == (Verdict.FAILED, 400, "")
    assert result.error == "API Error: 400 no"
    assert texts(events) == [], "an error message is no answer"


def test_interrupt_of_a_running_turn(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.delta("so far")
    player.conversation.interrupt(turn, player.now)
    player.conversation.interrupt(turn, player.now)
    player.step()
    assert [control["request"] for control in player.controls] == [{"subtype": "interrupt"}], "asked once"
    assert not player.conversation.is_done(turn), "not before it is drained"
    player.delta(", and drained")
    player.result(turn, is_error=True, subtype="error_during_execution")
    result = player.ended(turn)
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "so far, and drained")


def test_interrupt_before_the_turn_begins_is_held(player: Player) -> None:
    turn = player.submit()
    player.took(turn)
    player.conversation.interrupt(turn, player.now)
    player.step()
    assert player.controls == []
    player.init(turn)
    assert [control["request"]["subtype"] for control in player.controls] == ["interrupt"]


def test_interrupt_in_the_queue(player: Player) -> None:
    first, second = player.submit(), player.submit()
    player.conversation.interrupt(second, player.now)
    assert player.ended(second).verdict is Verdict.INTERRUPTED
    player.answer(first, "fine")
    assert player.sent == [first]


def test_a_turn_completed_just_before_the_interrupt_is_completed(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.delta("all")
    player.conversation.interrupt(turn, player.now)
    player.result(turn, "all")
    assert player.ended(turn).verdict is Verdict.COMPLETED


def test_a_turn_deaf_to_the_interrupt_is_killed(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.conversation.interrupt(turn, player.now)
    when = player.conversation.next_timer()
    assert when == 10
    player.now = 10
    player.conversation.handle_timer(player.now)
    player.step()
    assert [type(command) for command in player.others] == [EndProcess]


def transcript(turn: str, *said: str, ended: bool = True) -> list[str]:
    import json

    entries: list[dict[str, Any]] = [{"type": "user", "uuid": turn, "message": {"role": "user", "content": "…"}}]
    stop = "end_turn" if ended else None
    for number, text in enumerate(said):
        message = {"content": [{"type": "text", "text": text}], "stop_reason": stop}
        entries.append({"type": "assistant", "uuid": f"a{number}", "message": message})
    return [json.dumps(entry) for entry in entries]


def silent(player: Player, said: str) -> str:
    """A turn that has said this and then nothing, until its transcript is asked for."""
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.block()
    player.delta(said)
    assert player.conversation.next_timer() == 30
    player.now = 30
    player.conversation.handle_timer(player.now)
    player.step()
    assert player.others == [ReadTranscript(turn, "s")]
    return turn


def test_completed_after_a_hang(player: Player) -> None:
    turn = silent(player, "all of it")
    player.conversation.receive_transcript(turn, transcript(turn, "all of it"), player.now)
    result = player.ended(turn)
    assert (result.verdict, result.text) == (Verdict.COMPLETED_AFTER_HANG, "all of it")
    player.step()
    assert any(isinstance(command, EndProcess) for command in player.others), "it hangs, and would again"


def test_recovered(player: Player) -> None:
    turn = silent(player, "the first")
    player.conversation.receive_transcript(turn, transcript(turn, "the first, the second", "the third"), player.now)
    events = player.events(turn)
    assert texts(events) == ["the first", ", the second\n\nthe third"]
    assert isinstance(events[-1], TurnResult)
    assert events[-1].verdict is Verdict.RECOVERED


def test_silence_is_not_the_end(player: Player) -> None:
    turn = silent(player, "working")
    player.conversation.receive_transcript(turn, transcript(turn, "working", ended=False), player.now)
    player.conversation.receive_transcript(turn, None, player.now)
    assert not player.conversation.is_done(turn)
    assert player.conversation.next_timer() == 60


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(3, Verdict.FAILED), (0, Verdict.FAILED), (-9, Verdict.INTERRUPTED), (143, Verdict.INTERRUPTED)],
)
def test_the_process_ends_in_mid_turn(player: Player, code: int, verdict: Verdict) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.delta("so far")
    player.conversation.receive_stderr("a reason")
    player.conversation.process_exited(code, player.now)
    player.step()
    player.conversation.receive_transcript(turn, transcript(turn, "so far", ended=False), player.now)
    result = player.ended(turn)
    assert (result.verdict, result.text, result.exit_code) == (verdict, "so far", code)
    assert "a reason" in result.error


def test_the_process_ends_and_its_transcript_cannot_be_read(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.conversation.process_exited(1, player.now)
    player.now = 10
    player.conversation.handle_timer(player.now)
    assert player.ended(turn).verdict is Verdict.FAILED


def test_what_was_not_taken_is_sent_again(player: Player) -> None:
    turn = player.submit()
    player.conversation.process_exited(0, player.now)
    player.conversation.inputs_refused(player.now)
    player.conversation.process_started()
    player.conversation.process_ready((), player.now)
    player.step()
    assert player.sent == [turn, turn]
    player.answer(turn, "fine")
    assert player.ended(turn).text == "fine"


def test_a_lost_connection_ends_what_was_taken_and_keeps_what_waits(player: Player) -> None:
    first, second = player.submit(), player.submit()
    player.begin(first)
    player.conversation.connection_lost("the agent ended", player.now)
    result = player.ended(first)
    assert (result.verdict, result.error) == (Verdict.INTERRUPTED, "the agent ended")
    player.conversation.process_ready((), player.now)
    player.step()
    assert player.sent == [first, second]


def test_permissions(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}}
    player.say({"type": "control_request", "request_id": "r1", "request": request})
    asked = [event for event in player.events(turn) if isinstance(event, PermissionRequest)]
    assert asked == [PermissionRequest("r1", "Bash", {"command": "ls"})]
    player.conversation.allow("r1", {"command": "ls -l"})
    player.conversation.deny("r1", "No.")
    player.step()
    answers = [control["response"]["response"] for control in player.controls]
    assert answers == [
        {"behavior": "allow", "updatedInput": {"command": "ls -l"}},
        {"behavior": "deny", "message": "No."},
    ]


def test_unknown_control_requests_are_refused_so_that_nobody_waits(player: Player) -> None:
    player.say({"type": "control_request", "request_id": "r9", "request": {"subtype": "dance"}})
    (refusal,) = player.controls
    assert refusal["response"]["subtype"] == "error"
    assert refusal["response"]["request_id"] == "r9"


def test_unknown_things_are_counted_and_passed_on(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    player.say({"type": "novelty", "n": 1})
    player.say("no JSON")
    player.whole({"type": "novel_block"})
    player.result(turn)
    events = player.events(turn)
    assert [event.message for event in events if isinstance(event, UnknownMessage)] == [
        {"type": "novelty", "n": 1},
        {"type": "novel_block"},
    ]
    assert player.conversation.unknown == {"novelty": 1, "no JSON": 1, "block novel_block": 1}


def test_tool_results(player: Player) -> None:
    turn = player.submit()
    player.begin(turn)
    player.echo(turn)
    block = {"type": "tool_result", "tool_use_id": "t1", "content": "out", "is_error": True}
    player.say({"type": "user", "message": {"role": "user", "content": [block]}})
    assert ToolResult("t1", "out", True) in player.events(turn)


@pytest.mark.parametrize("text", ["", "  \n", "a\0", "\udc00", "x" * (8 * 1024 * 1024 + 1), 7, None])
def test_bad_prompts(player: Player, text: Any) -> None:
    with pytest.raises(InvalidInput):
        player.submit(text)
    assert player.sent == []
    assert player.conversation.active is None
    assert player.conversation.queued == ()


def test_an_id_is_used_once(player: Player) -> None:
    turn = player.submit()
    with pytest.raises(InvalidInput, match=turn):
        player.conversation.submit(turn, "again", player.now)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(
    [
        "system",
        "stream_event",
        "assistant",
        "user",
        "control_request",
        "control_response",
        "result",
        "command_lifecycle",
    ]
)
KEYS = st.sampled_from(
    ["subtype", "event", "message", "uuid", "isReplay", "request", "request_id", "response", "result", "state"]
    + ["session_id", "user_message_uuids", "command_uuid", "is_error", "num_turns", "duration_ms", "usage"]
)
SUBTYPES = st.sampled_from(["init", "api_retry", "can_use_tool", "success", "error_during_execution", "status"])
HOSTILE = st.builds(
    lambda kind, fields: {"type": kind, **fields}, KINDS, st.dictionaries(KEYS, SUBTYPES | JSON, max_size=5)
)


@given(st.lists(HOSTILE | JSON.filter(lambda value: isinstance(value, dict | str)), max_size=20))
@settings(max_examples=300)
def test_nothing_that_claude_says_can_break_the_conversation(messages: list[Any]) -> None:
    player = Player()
    turn = player.submit()
    player.begin(turn)
    seen: list[Event] = []
    for message in messages:
        player.say(message)
        seen += player.events(turn)
    if not any(isinstance(event, TurnResult) for event in seen):
        player.conversation.process_exited(1, player.now)
        player.conversation.receive_transcript(turn, None, player.now)
        seen += player.events(turn)
    results = [event for event in seen if isinstance(event, TurnResult)]
    assert len(results) == 1, "one result, whatever was said"
    assert seen[-1] is results[0]
    assert "".join(texts(seen)) == results[0].text
    after = player.submit("next")
    player.conversation.process_started()
    player.conversation.process_ready((), player.now)
    player.step()
    player.answer(after, "fine")
    assert player.ended(after).text.endswith("fine")


STEPS = st.lists(st.sampled_from(["submit", "answer", "interrupt", "die", "lose", "tick"]), max_size=40)


@given(STEPS)
@settings(max_examples=200)
def test_every_turn_ends_exactly_once_whatever_happens(steps: list[str]) -> None:
    player = Player(silence=30, interrupt_limit=10)
    submitted: list[str] = []
    ends: dict[str, int] = {}

    def collect() -> None:
        for turn in submitted:
            ends[turn] = ends.get(turn, 0) + sum(isinstance(event, TurnResult) for event in player.events(turn))

    def revive() -> None:
        player.conversation.process_started()
        player.conversation.process_ready((), player.now)
        player.step()

    for step in steps:
        active = player.conversation.active
        match step:
            case "submit":
                submitted.append(player.submit())
            case "answer" if active:
                player.answer(active, "a")
            case "interrupt" if active:
                player.took(active)
                player.conversation.interrupt(active, player.now)
                player.step()
            case "die":
                if active:
                    player.took(active)
                player.conversation.process_exited(-9, player.now)
                for turn in submitted:
                    player.conversation.receive_transcript(turn, None, player.now)
                collect()
                revive()
            case "lose":
                player.conversation.connection_lost("lost", player.now)
                revive()
            case "tick":
                player.now += 100
                player.conversation.handle_timer(player.now)
                player.step()
        collect()
    while (active := player.conversation.active) is not None:
        player.answer(active, "a")
        collect()
    assert player.conversation.active is None
    assert player.conversation.queued == ()
    assert ends == dict.fromkeys(submitted, 1)


class TestReplay:
    """A connection that broke, and turns that another host has sent. covers: B1, B4"""

    def follower(self) -> tuple[Conversation, str]:
        made, turn = Conversation(), str(uuid.uuid4())
        made.follow(turn, 0.0)
        made.took(turn, 0.0)
        made.receive_message({"type": "system", "subtype": "init", "session_id": "s"}, 0.0)
        return made, turn

    def ask(self, made: Conversation, request_id: str) -> None:
        request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}
        made.receive_message({"type": "control_request", "request_id": request_id, "request": request}, 0.0)

    def test_what_was_not_answered_is_sent_again_and_nothing_else(self) -> None:
        player = Player()
        turn = player.submit()
        player.conversation.allow("r-1", {})
        player.step()
        assert player.conversation.connection_resumed(player.now) == [turn, player.conversation.commands()[1].input_id]
        player.took(turn)
        assert len(player.conversation.connection_resumed(player.now)) == 1
        player.conversation.took(player.conversation.commands()[0].input_id, 0.0)
        assert player.conversation.connection_resumed(player.now) == []

    def test_the_end_of_a_turn_is_told_until_the_agent_knows(self) -> None:
        player = Player()
        turn = player.submit()
        player.took(turn)
        player.init(turn)
        player.say({"type": "result", "subtype": "success", "result": "x", "user_message_uuids": [turn]})
        assert player.others == [DeclareDone(turn)]
        player.conversation.connection_resumed(player.now)
        assert player.conversation.commands() == [DeclareDone(turn)]
        player.conversation.declared(turn)
        player.conversation.process_ready((), 0.0)
        assert player.conversation.commands() == []

    def test_a_permission_that_was_decided_is_not_asked_for_again(self) -> None:
        made, turn = self.follower()
        self.ask(made, "r-1")
        self.ask(made, "r-2")
        assert not any(isinstance(event, PermissionRequest) for event in made.take_events(turn)), "too early to know"
        made.took("c-1-r-1", 0.0)
        made.replayed()
        (asked,) = made.take_events(turn)
        assert isinstance(asked, PermissionRequest)
        assert asked.request_id == "r-2"

    def test_events_after_a_permission_wait_with_it(self) -> None:
        made, turn = self.follower()
        made.take_events(turn)
        self.ask(made, "r-1")
        made.receive_message({"type": "hologram"}, 0.0)
        assert made.backlog(turn) == 0
        made.took("c-1-r-1", 0.0)
        assert [type(event) for event in made.take_events(turn)] == [UnknownMessage]

    def test_a_turn_that_ended_is_handed_out_whole(self) -> None:
        made, turn = self.follower()
        self.ask(made, "r-1")
        made.process_exited(None, 0.0, cause="the container was removed")
        made.receive_transcript(turn, None, 0.0)
        result = made.take_events(turn)[-1]
        assert isinstance(result, TurnResult)
        assert (result.verdict, result.error) == (Verdict.INTERRUPTED, "the container was removed")

    def test_a_turn_that_somebody_else_has_sent_is_withdrawn_and_the_next_is_sent(self) -> None:
        player = Player()
        first, second = player.submit("one"), player.submit("two")
        assert player.conversation.is_sent(first)
        assert player.conversation.is_queued(second)
        player.conversation.withdraw(first, 0.0)
        player.step()
        assert player.sent == [first, second]
        assert player.conversation.is_done(first)

    def test_a_long_answer_is_not_kept_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cc_bridge.protocol.bounded_text.TEXT_LIMIT", 10)
        player = Player()
        turn = player.submit()
        player.took(turn)
        player.init(turn)
        said = []
        for piece in ("12345", "67890abc", "def"):
            event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}}
            player.say({"type": "stream_event", "event": event})
        player.say({"type": "result", "subtype": "success", "result": "x", "user_message_uuids": [turn]})
        events = player.conversation.take_events(turn)
        said = [event.text for event in events if isinstance(event, TextDelta)]
        assert "".join(said) == "1234567890abcdef"
        assert isinstance(events[-1], TurnResult)
        assert (events[-1].text, events[-1].truncated) == ("1234567890", True)


class TestPane:
    """What only a pane says."""

    def test_a_turn_that_waits_for_a_person_can_be_interrupted(self, player: Player) -> None:
        turn = player.submit()
        player.took(turn)
        player.say({"type": "command_lifecycle", "command_uuid": turn, "state": "held"})
        player.conversation.interrupt(turn, player.now)
        player.step()
        assert [control["request"]["subtype"] for control in player.controls] == ["interrupt"]

    def test_held_by_somebody_elses_turn(self, player: Player) -> None:
        turn = player.submit()
        player.took(turn)
        player.say({"type": "command_lifecycle", "command_uuid": str(uuid.uuid4()), "state": "held"})
        player.conversation.interrupt(turn, player.now)
        player.step()
        assert player.controls == []

    def test_the_waiting_turn_learns_who_has_the_floor(self, player: Player) -> None:
        turn = player.submit()
        player.say({"type": "system", "subtype": "person_turn", "prompt": "theirs"})
        assert player.conversation.take_events(turn) == [PersonTurn("theirs")]

    def test_a_permission_that_somebody_else_decided(self, player: Player) -> None:
        turn = player.submit()
        player.took(turn)
        player.init(turn)
        request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}
        for name in ("first", "second"):
            player.say({"type": "control_request", "request_id": name, "request": request})
        assert player.conversation.is_open("first")
        player.say({"type": "control_cancel_request", "request_id": "first"})
        assert not player.conversation.is_open("first")
        asked = [event for event in player.conversation.take_events(turn) if isinstance(event, PermissionRequest)]
        assert [event.request_id for event in asked] == ["second"]
        player.conversation.deny("second", "no")
        assert not player.conversation.is_open("second")


def begun(**options: Any) -> tuple[Player, str]:
    """A player of the newest release whose turn runs."""
    player = Player(**options)
    turn = player.submit()
    player.begin(turn)
    player.events(turn)
    return player, turn


def ask(player: Player, name: str = "r-1", **fields: Any) -> None:
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}, **fields}
    player.say({"type": "control_request", "request_id": name, "request": request})


def exited(player: Player, code: int | None, **facts: Any) -> None:
    player.conversation.process_exited(code, player.now, **facts)
    player.step()


def restarted(player: Player) -> None:
    player.conversation.process_started()
    player.conversation.process_ready((), player.now)
    player.step()


class TestLimits:
    """What is said without end is kept with one."""

    def test_the_last_20_lines_of_stderr_2000_characters_each(self) -> None:
        player = Player()
        for number in range(25):
            player.conversation.receive_stderr(f"{number} ".ljust(3000, "x"))
        lines = player.conversation.stderr.split("\n")
        assert [line.split()[0] for line in lines] == [str(number) for number in range(5, 25)]
        assert {len(line) for line in lines} == {2000}
        player.conversation.process_started()
        assert player.conversation.stderr == "", "a new process's"

    def test_kinds_that_are_not_understood_are_counted_up_to_100(self) -> None:
        player = Player()
        for number in range(150):
            player.say({"type": f"kind {number}"})
        player.say({"type": "kind 3"})
        unknown = player.conversation.unknown
        assert len(unknown) == 101
        assert (unknown["kind 99"], unknown["kind 3"], unknown["other kinds"]) == (1, 2, 50)

    def test_of_an_answer_of_just_the_limit_nothing_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounded_text, "TEXT_LIMIT", 3)
        player, turn = begun()
        player.delta("abc")
        player.result(turn)
        assert (end := player.ended(turn)).text == "abc"
        assert end.truncated is False

    def test_an_answer_of_any_number_of_pieces(self) -> None:
        player, turn = begun()
        for number in range(10_000):
            player.delta(f"{number} ")
        player.result(turn)
        assert player.ended(turn).text == "".join(f"{number} " for number in range(10_000))

    def test_the_ids_of_others_are_remembered_as_long_as_the_agent_does(self) -> None:
        player = Player()
        for number in range(4097):
            player.took(f"n{number}")
        player.took("n4096")
        for number in (0, 1, 4096):
            player.result(f"n{number}")
        assert player.others == [DeclareDone("n1"), DeclareDone("n4096")]

    def test_a_reader_that_is_behind_by_events(self) -> None:
        player, turn = begun()
        for _ in range(1000):
            player.delta("x")
        assert player.conversation.backlog(turn) == 1000
        assert not player.conversation.crowded
        player.delta("x")
        assert player.conversation.crowded
        assert len(player.events(turn)) == 1001
        assert (player.conversation.crowded, player.conversation.backlog(turn)) == ([], 0)

    def test_a_reader_that_is_behind_by_bytes(self) -> None:
        player, turn = begun()
        tool = {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "t"}]}}
        player.conversation.receive_message(tool, 0.0, 4 * 2**20)
        assert not player.conversation.crowded
        player.conversation.receive_message({"type": "keep_alive"}, 0.0, 1)
        assert player.conversation.crowded
        player.events(turn)
        player.conversation.receive_message(tool, 0.0, 1)
        assert not player.conversation.crowded, "what was fetched weighs no more"

    def test_a_reader_that_has_fetched_all_is_never_behind(self) -> None:
        player, _ = begun()
        player.conversation.receive_message({"type": "keep_alive"}, 0.0, 5 * 2**20)
        assert not player.conversation.crowded


class TestTimers:
    """Time is an argument, and the next moment of interest is always known."""

    def test_defaults(self) -> None:
        player = Player()
        assert player.conversation.next_timer() is None
        turn = player.submit()
        assert player.conversation.next_timer() == 30
        player.begin(turn)
        player.conversation.interrupt(turn, 5.0)
        assert player.conversation.next_timer() == 15

    def test_who_waits_in_the_queue_needs_none(self) -> None:
        player = Player()
        turn = player.submit()
        player.now = 7
        player.submit()
        assert player.conversation.next_timer() == 30
        player.answer(turn, "x")
        assert player.conversation.next_timer() == 37, "the second, from when it was sent"

    def test_every_line_of_a_turn_puts_it_off(self) -> None:
        player, _ = begun(silence=30)
        player.now = 12
        player.delta("x")
        assert player.conversation.next_timer() == 42

    def test_lines_do_not_put_off_the_end_of_an_interrupted_turn(self) -> None:
        player, turn = begun(interrupt_limit=10)
        player.conversation.interrupt(turn, player.now)
        player.now = 9
        player.delta("still talking")
        assert player.conversation.next_timer() == 10
        player.conversation.handle_timer(9.9)
        player.step()
        assert player.others == []
        player.now = 10
        player.conversation.handle_timer(10)
        player.step()
        assert [type(command) for command in player.others] == [EndProcess]
        assert player.conversation.next_timer() == 20, "asked again, should it not have helped"

    def test_a_silence_says_how_long_and_whether_the_transcript_grows(self) -> None:
        player, turn = begun(silence=30)
        lines = transcript(turn, "working", ended=False)
        more = transcript(turn, "working", "more", ended=False)
        for now, found in ((30.0, lines), (60.12345, lines), (91.0, more)):
            player.now = now
            player.conversation.handle_timer(now)
            player.step()
            player.conversation.receive_transcript(turn, found, now)
        assert player.events(turn) == [Silence(30.0, True), Silence(60.123, False), Silence(91.0, True)]
        player.conversation.receive_transcript(turn, None, 95.0)
        assert player.events(turn) == [Silence(95.0, True)], "it was there, and cannot be read"
        assert player.others == [ReadTranscript(turn, "s")] * 3

    def test_a_silence_is_counted_from_the_last_line(self) -> None:
        player, turn = begun(silence=30)
        player.now = 20
        player.delta("x")
        player.events(turn)
        player.conversation.receive_transcript(turn, None, 55.0)
        assert player.events(turn) == [Silence(35.0, False)]

    def test_a_followed_turn_is_waited_for_as_any_other(self) -> None:
        made = Conversation(silence=30)
        made.follow("turn", 5.0)
        assert (made.next_timer(), made.active, made.is_sent("turn")) == (35, "turn", False)

    def test_a_silence_is_counted_from_when_it_was_taken_or_sent(self) -> None:
        player = Player(silence=30)
        player.now = 5.0
        turn = player.submit()
        player.conversation.receive_transcript(turn, None, 40.0)
        player.now = 10.0
        player.took(turn)
        player.conversation.receive_transcript(turn, None, 50.0)
        assert player.events(turn) == [Silence(35.0, False), Silence(40.0, False)]

    def test_a_transcript_of_a_turn_that_has_ended_changes_nothing(self) -> None:
        player, turn = begun()
        player.result(turn, "x")
        player.conversation.receive_transcript(turn, transcript(turn, "y"), 0.0)
        player.conversation.receive_transcript("unknown", transcript(turn, "y"), 0.0)
        assert player.ended(turn).text == "x"


class TestTheProcessEnds:
    def test_nothing_is_sent_before_there_is_one(self) -> None:
        made = Conversation()
        made.submit("turn", "x", 0.0)
        assert (made.commands(), made.queued) == ([], ("turn",))
        made.process_ready((), 0.0)
        assert [type(command) for command in made.commands()] == [SendInput]

    @pytest.mark.parametrize(
        ("code", "facts", "verdict", "error"),
        [
            (0, {}, Verdict.FAILED, "Claude Code ended with exit code 0: why"),
            (128, {}, Verdict.FAILED, "Claude Code ended with exit code 128: why"),
            (129, {}, Verdict.INTERRUPTED, "Claude Code was ended by signal 1: why"),
            (-1, {}, Verdict.INTERRUPTED, "Claude Code was ended by signal 1: why"),
            (-9, {"out_of_memory": True}, Verdict.INTERRUPTED, "Claude Code was killed: out of memory"),
            (-9, {"out_of_memory": True, "cause": "a cause"}, Verdict.INTERRUPTED, "a cause"),
            (None, {}, Verdict.INTERRUPTED, "Claude Code ended with its agent: why"),
            (None, {"cause": "a cause"}, Verdict.INTERRUPTED, "a cause"),
            (1, {"cause": "a cause"}, Verdict.INTERRUPTED, "a cause"),
        ],
    )
    def test_how(self, code: int | None, facts: dict[str, Any], verdict: Verdict, error: str) -> None:
        player, turn = begun()
        player.conversation.receive_stderr("first")
        player.conversation.receive_stderr("why")
        exited(player, code, **facts)
        assert player.conversation.settling
        assert player.others == [ReadTranscript(turn, "s")]
        player.conversation.receive_transcript(turn, None, player.now)
        assert not player.conversation.settling
        result = player.ended(turn)
        assert (result.verdict, result.error) == (verdict, error)
        assert (result.exit_code, result.out_of_memory) == (code, bool(facts.get("out_of_memory")))

    def test_nothing_was_said_about_it(self) -> None:
        player, turn = begun()
        exited(player, 1)
        player.conversation.receive_transcript(turn, None, player.now)
        assert player.ended(turn).error == "Claude Code ended with exit code 1"

    def test_an_interrupted_turn_is_interrupted_whatever_the_code(self) -> None:
        player, turn = begun()
        player.conversation.interrupt(turn, player.now)
        exited(player, 0)
        player.conversation.receive_transcript(turn, None, player.now)
        assert player.ended(turn).verdict is Verdict.INTERRUPTED

    def test_the_transcript_is_waited_for_as_long_as_for_an_interrupt(self) -> None:
        player, turn = begun(interrupt_limit=10)
        player.now = 3
        exited(player, 1)
        assert player.conversation.next_timer() == 13
        player.conversation.handle_timer(12.9)
        assert not player.conversation.is_done(turn)
        player.conversation.handle_timer(13.0)
        assert player.conversation.is_done(turn)

    def test_a_turn_that_had_not_begun_has_nothing_in_the_transcript(self) -> None:
        player = Player()
        turn = player.submit()
        player.took(turn)
        exited(player, 1)
        assert player.ended(turn).verdict is Verdict.FAILED
        assert player.others == [DeclareDone(turn)]

    def test_a_turn_without_a_session_has_no_transcript(self) -> None:
        player = Player()
        turn = player.submit()
        player.took(turn)
        player.say({"type": "system", "subtype": "init", "user_message_uuids": [turn]})
        exited(player, 1)
        assert player.conversation.is_done(turn)

    def test_the_transcript_has_the_end_that_the_output_lacks(self) -> None:
        player, turn = begun()
        player.block()
        player.delta("the first")
        exited(player, -9)
        player.conversation.receive_transcript(turn, transcript(turn, "the first", "the second"), player.now)
        result = player.ended(turn)
        assert (result.verdict, result.text, result.exit_code) == (Verdict.RECOVERED, "the first\n\nthe second", -9)
        player.step()
        assert not any(isinstance(command, EndProcess) for command in player.others), "it has ended"

    def test_a_transcript_unlike_what_was_said_is_said_after_it(self) -> None:
        player, turn = begun()
        player.block()
        player.delta("something else")
        player.conversation.receive_transcript(turn, transcript(turn, "the answer"), player.now)
        assert player.ended(turn).text == "something else\n\nthe answer"

    def test_nothing_is_sent_to_a_process_that_is_being_ended(self) -> None:
        player, turn = begun()
        player.conversation.receive_transcript(turn, transcript(turn, "all"), player.now)
        player.step()
        following = player.submit()
        assert player.sent == [turn]
        restarted(player)
        assert player.sent == [turn, following]

    def test_nothing_is_sent_to_a_process_that_has_ended(self) -> None:
        player = Player()
        exited(player, 0)
        turn = player.submit()
        assert (player.sent, player.conversation.queued) == ([], (turn,))
        assert player.conversation.is_queued(turn)
        restarted(player)
        assert (player.sent, player.conversation.queued) == ([turn], ())

    def test_what_was_sent_and_refused_is_the_first_again(self) -> None:
        player = Player()
        first, second = player.submit(), player.submit()
        exited(player, 0)
        assert not player.conversation.is_done(first), "the agent has not answered yet"
        player.conversation.inputs_refused(player.now)
        assert player.conversation.queued == (first, second)
        assert player.conversation.connection_resumed(player.now) == [], "it is sent anew, and not again"
        restarted(player)
        assert player.sent == [first, first]

    def test_a_new_process_knows_nothing_of_the_last_one_s_turns(self) -> None:
        player = Player(ids=False)
        player.took("theirs")
        player.say({"type": "command_lifecycle", "command_uuid": "theirs", "state": "started"})
        restarted(player)
        turn = player.submit()
        player.took(turn)
        player.init(turn)
        player.echo(turn)
        player.delta("ours")
        player.result(text="ours")
        assert player.ended(turn).text == "ours"

    def test_all_that_waits_can_be_given_up(self) -> None:
        player = Player()
        exited(player, 0)
        turns = [player.submit(), player.submit()]
        player.conversation.fail_queued("no way", player.now)
        ends = [player.ended(turn) for turn in turns]
        assert [(end.verdict, end.error) for end in ends] == [(Verdict.FAILED, "no way")] * 2
        assert player.conversation.queued == ()
        player.step()
        assert player.others == [], "the agent does not know them"


class TestWhose:
    def test_the_oldest_that_was_taken_begins_where_no_id_is_said(self) -> None:
        player = Player(ids=False)
        turn = player.submit()
        player.took("theirs")
        player.took(turn)
        player.init("")
        player.delta("theirs")
        player.result(text="theirs")
        assert not player.conversation.is_done(turn)
        player.init("")
        player.echo(turn)
        player.delta("ours")
        player.result(text="ours")
        assert texts(player.events(turn)) == ["ours"]

    def test_what_others_had_open_when_we_came_is_first(self) -> None:
        player = Player(ids=False)
        turn = player.submit()
        player.conversation.process_ready(["theirs", turn], player.now)
        player.took(turn)
        player.init("")
        player.delta("theirs")
        assert player.events(turn) == []

    def test_ours_is_found_among_those_that_a_merged_turn_names(self) -> None:
        player = Player()
        turn = player.submit()
        player.took(turn)
        player.say({"type": "system", "subtype": "init", "user_message_uuids": ["theirs", turn], "session_id": "s"})
        player.delta("for both")
        player.say({"type": "result", "user_message_uuids": ["theirs", turn], "result": "for both"})
        assert player.ended(turn).text == "for both"

    def test_a_turn_that_a_result_names_twice_ends_once(self) -> None:
        player, turn = begun()
        player.result(turn, user_message_uuids=[turn, turn])
        assert [type(event) for event in player.events(turn)] == [TurnResult]

    def test_two_that_were_echoed_are_ended_by_one_result(self) -> None:
        player = Player(ids=False)
        turn = player.submit()
        player.took("theirs")
        player.took(turn)
        player.init("")
        player.echo(turn)
        player.echo("theirs")
        player.delta("for both")
        player.result(text="for both")
        assert player.ended(turn).text == "for both"
        assert player.others == [DeclareDone(turn), DeclareDone("theirs")]

    def test_an_echo_without_an_id_is_nobody_s(self) -> None:
        player = Player(ids=False)
        turn = player.submit()
        player.took(turn)
        player.echo("")
        player.delta("?")
        assert player.events(turn) == []

    @pytest.mark.parametrize(("text", "done"), [("/cost", True), ("  /cost", True), ("cost", False)])
    def test_a_result_that_names_nobody_ends_a_slash_command_only(self, text: str, done: bool) -> None:
        player = Player(ids=False)
        turn = player.submit(text)
        player.took(turn)
        player.init("")
        player.result(text="x")
        assert player.conversation.is_done(turn) is done
        assert player.conversation.unknown["result of no turn"] == (not done)

    def test_a_result_that_names_nobody_ends_a_followed_turn(self) -> None:
        made = Conversation()
        made.follow("turn", 0.0)
        made.took("turn", 0.0)
        made.receive_message({"type": "system", "subtype": "init"}, 0.0)
        made.receive_message({"type": "result", "result": "x"}, 0.0)
        assert made.is_done("turn")

    def test_what_has_started_is_claimed_and_not_begun(self) -> None:
        """An interrupt before system/init would be ignored."""
        player = Player(ids=False)
        turn = player.submit()
        player.took(turn)
        player.say({"type": "command_lifecycle", "command_uuid": "", "state": "started"})
        player.say({"type": "command_lifecycle", "command_uuid": turn, "state": "started"})
        player.conversation.interrupt(turn, player.now)
        player.step()
        assert player.controls == []
        player.result(text="x")
        assert player.conversation.is_done(turn)

    def test_the_ends_of_others_turns_are_declared_once(self) -> None:
        player = Player()
        player.took("theirs")
        player.result("theirs")
        player.result("theirs")
        player.result("unheard-of")
        assert player.others == [DeclareDone("theirs")]

    def test_what_follows_a_result_is_nobody_s(self) -> None:
        player, turn = begun()
        player.result(turn, "x")
        following = player.submit()
        player.delta("left over")
        assert player.events(following) == []

    def test_lines_of_nobody_are_passed_over(self) -> None:
        player = Player()
        turn = player.submit()
        player.block()
        player.whole({"type": "text", "text": "x"})
        player.say({"type": "user", "message": {"content": [{"type": "tool_result"}]}})
        player.say({"type": "system", "subtype": "api_retry"})
        player.say({"type": "novelty"})
        ask(player)
        assert player.events(turn) == []
        assert not player.conversation.is_open("r-1")

    def test_what_a_claimed_turn_says_stays_its_own_when_another_is_claimed(self) -> None:
        player = Player(ids=False)
        turn = player.submit()
        player.took(turn)
        player.init("")
        player.echo(turn)
        player.echo("theirs")
        player.delta("ours")
        assert texts(player.events(turn)) == ["ours"]

    def test_an_echo_takes_over_from_whom_nobody_has_claimed(self) -> None:
        player = Player(ids=False)
        turn = player.submit()
        player.took("theirs")
        player.took(turn)
        player.init("")
        player.echo(turn)
        player.delta("ours")
        assert texts(player.events(turn)) == ["ours"]


class TestEvents:
    def test_a_turn_starts_once(self) -> None:
        player = Player()
        turn = player.submit()
        player.took(turn)
        player.say({"type": "system", "subtype": "init", "session_id": "s", "claude_code_version": "2.1.329"})
        player.say({"type": "system", "subtype": "init"})
        assert player.events(turn) == [TurnStarted("s", "")]
        assert (player.conversation.session_id, player.conversation.claude_version) == ("s", "2.1.329")

    def test_the_session_is_the_one_that_was_named_last(self) -> None:
        player, turn = begun()
        player.result(turn, "x", session_id="another")
        assert player.conversation.session_id == "another"
        assert player.ended(turn).session_id == "another"

    def test_the_result_has_what_claude_code_says_of_it(self) -> None:
        player, turn = begun()
        player.result(turn, "x", num_turns=3, duration_ms=1500, total_cost_usd=0.5, usage={"a": 1})
        result = player.ended(turn)
        assert (result.num_turns, result.duration, result.cost_usd, result.usage) == (3, 1.5, 0.5, {"a": 1})
        assert (result.error, result.api_status, result.exit_code, result.truncated) == ("", None, None, False)

    def test_tools_and_retries(self) -> None:
        player, turn = begun()
        player.whole({"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}})
        player.whole({"type": "tool_use", "id": 1, "name": None, "input": "x"})
        content = [{"type": "tool_result", "tool_use_id": 7, "content": "x"}]
        player.say({"type": "user", "message": {"content": content}})
        retry = {"attempt": 1, "max_retries": 10, "retry_delay_ms": 500, "error_status": 529, "error": "busy"}
        player.say({"type": "system", "subtype": "api_retry", **retry})
        assert player.events(turn) == [
            ToolUse("t", "Bash", {"command": "ls"}),
            ToolUse("", "", {}),
            ToolResult("", "x", False),
            ApiRetry(1, 10, 0.5, 529, "busy"),
        ]

    def test_thinking_that_did_not_stream_is_told_whole(self) -> None:
        player, turn = begun()
        player.whole({"type": "thinking", "thinking": "hm"})
        player.whole({"type": "thinking", "thinking": ""}, {"type": "thinking"})
        assert player.events(turn) == [ThinkingDelta("hm")]

    def test_each_thinking_block_is_told_once(self) -> None:
        player, turn = begun()
        thinking = {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "one"}}
        player.block("thinking")
        player.say({"type": "stream_event", "event": thinking})
        player.whole({"type": "thinking", "thinking": "one"})
        player.block("thinking")
        player.whole({"type": "thinking", "thinking": "two"})
        assert player.events(turn) == [ThinkingDelta("one"), ThinkingDelta("two")]

    def test_a_text_unlike_its_pieces_is_counted_and_not_said_twice(self) -> None:
        player, turn = begun()
        player.block()
        player.delta("one")
        player.whole({"type": "text", "text": "two"})
        assert texts(player.events(turn)) == ["one"]
        assert player.conversation.unknown["text unlike its pieces"] == 1

    def test_each_block_has_pieces_of_its_own(self) -> None:
        player, turn = begun()
        player.block()
        player.delta("one")
        player.whole({"type": "text", "text": "one"}, {"type": "text", "text": "two"})
        player.result(turn)
        assert player.ended(turn).text == "one\n\ntwo"

    @pytest.mark.parametrize(
        ("pieces", "text"),
        [(["a\n\n"], "a\n\nb"), (["a\n", "\n"], "a\n\nb"), (["a\n"], "a\n\n\nb"), (["\n\na"], "\n\na\n\nb"), ([], "b")],
    )
    def test_paragraphs_that_are_parted_already_are_not_parted_again(self, pieces: list[str], text: str) -> None:
        player, turn = begun()
        player.block()
        for piece in pieces:
            player.delta(piece)
        player.block()
        player.delta("b")
        player.result(turn)
        assert player.ended(turn).text == text

    def test_blocks_that_are_no_text_part_nothing(self) -> None:
        player, turn = begun()
        player.delta("a")
        player.block("tool_use")
        player.delta("b")
        player.result(turn)
        assert player.ended(turn).text == "ab"

    def test_what_claude_code_itself_says_is_the_answer_where_nothing_failed(self) -> None:
        player, turn = begun()
        player.delta("model")
        for text in ("one", "two"):
            player.whole({"type": "text", "text": text}, model="<synthetic>")
        player.result(turn, "ignored")
        assert player.ended(turn).text == "model\n\none\n\ntwo"

    @pytest.mark.parametrize(
        ("fields", "synthetic", "verdict", "error"),
        [
            ({"subtype": "error_during_execution"}, "", Verdict.INTERRUPTED, "interrupted"),
            (
                {"subtype": "error_during_execution", "api_error_status": 500},
                "",
                Verdict.FAILED,
                "error_during_execution",
            ),
            ({"subtype": "error_max_turns"}, "", Verdict.FAILED, "error_max_turns"),
            ({"subtype": "error_max_turns"}, "why", Verdict.FAILED, "why"),
            ({"subtype": "success", "result": "why"}, "not", Verdict.FAILED, "why"),
        ],
    )
    def test_a_turn_that_failed_says_why(
        self, fields: dict[str, Any], synthetic: str, verdict: Verdict, error: str
    ) -> None:
        player, turn = begun()
        player.delta("so far")
        if synthetic:
            player.whole({"type": "text", "text": synthetic}, model="<synthetic>")
        player.result(turn, is_error=True, **fields)
        result = player.ended(turn)
        assert (result.verdict, result.error, result.text) == (verdict, error, "so far")

    def test_of_an_unknown_turn_there_is_nothing(self) -> None:
        made = Conversation()
        assert (made.take_events("x"), made.is_done("x"), made.backlog("x")) == ([], True, 0)
        assert (made.is_sent("x"), made.is_queued("x"), made.active, made.stderr) == (False, False, None, "")
        made.interrupt("x", 0.0)
        assert made.commands() == []


class TestControls:
    def test_an_interrupt_is_named_for_its_turn_and_is_no_turn_itself(self) -> None:
        player, turn = begun()
        player.conversation.interrupt(turn, player.now)
        (command,) = player.conversation.commands()
        assert isinstance(command, SendInput)
        assert wire.ID.match(command.input_id)
        assert command.input_id.startswith(wire.CONTROL)
        assert command.message["request_id"].startswith(turn)

    def test_an_interrupt_of_what_waits_says_so_and_tells_nobody(self) -> None:
        player = Player()
        first, second = player.submit(), player.submit()
        player.conversation.interrupt(second, player.now)
        assert "waited in the queue" in player.ended(second).error
        assert player.conversation.commands() == []
        assert player.conversation.active == first

    def test_an_interrupt_after_the_end_does_nothing(self) -> None:
        player, turn = begun()
        player.result(turn, "x")
        player.conversation.interrupt(turn, player.now)
        assert player.conversation.commands() == []
        assert player.ended(turn).verdict is Verdict.COMPLETED

    def test_permissions_of_an_interrupted_turn_are_refused(self) -> None:
        player, turn = begun()
        player.conversation.interrupt(turn, player.now)
        ask(player)
        assert player.controls[-1]["response"]["response"]["behavior"] == "deny"
        assert not player.conversation.is_open("r-1")
        assert player.events(turn) == []

    def test_a_request_is_open_until_it_is_decided_or_its_turn_ends(self) -> None:
        player, turn = begun()
        for name in ("r-1", "r-2", "r-3"):
            ask(player, name)
        player.conversation.allow("r-1", {})
        player.conversation.deny("r-2", "No.")
        assert [player.conversation.is_open(name) for name in ("r-1", "r-2", "r-3")] == [False, False, True]
        player.result(turn, "x")
        assert not player.conversation.is_open("r-3")

    def test_a_request_tells_tool_input_and_suggestions(self) -> None:
        player, turn = begun()
        ask(player, tool_name="Read", input={"path": "x"}, permission_suggestions=[{"rule": 1}])
        assert player.events(turn) == [PermissionRequest("r-1", "Read", {"path": "x"}, ({"rule": 1},))]

    def test_a_permission_may_last(self) -> None:
        player, _ = begun()
        player.conversation.allow("r-1", {}, ({"rule": 1},))
        player.step()
        assert player.controls[-1]["response"]["response"]["updatedPermissions"] == [{"rule": 1}]

    @given(st.text(max_size=100))
    @settings(max_examples=50)
    def test_whatever_a_request_is_called_its_answer_has_an_id(self, name: str) -> None:
        player, _ = begun()
        for _ in range(2):
            player.conversation.deny(name or "x", "No.")
        commands = player.conversation.commands()
        ids = {command.input_id for command in commands if isinstance(command, SendInput)}
        assert len(ids) == 2
        assert all(wire.ID.match(made) and made.startswith("c-") for made in ids)

    def test_a_request_that_was_answered_elsewhere_is_known_by_its_long_and_odd_name(self) -> None:
        made = Conversation()
        made.follow("turn", 0.0)
        made.took("turn", 0.0)
        made.receive_message({"type": "system", "subtype": "init", "session_id": "s"}, 0.0)
        name = "toolu-é:1_" + "x" * 60
        request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}
        made.receive_message({"type": "control_request", "request_id": name, "request": request}, 0.0)
        other = Conversation()
        other.deny(name, "No.")
        (answer,) = other.commands()
        assert isinstance(answer, SendInput)
        made.took(answer.input_id, 0.0)
        assert not made.is_open(name)
        assert not any(isinstance(event, PermissionRequest) for event in made.take_events("turn"))

    def test_what_cannot_be_answered_is_counted(self) -> None:
        player = Player()
        player.say({"type": "control_request", "request_id": "r", "request": {"subtype": "x" * 100}})
        assert player.conversation.unknown == {"control_request/" + "x" * 60: 1}


class TestTheConnection:
    def test_the_channel_may_change_between_turns_only(self) -> None:
        player = Player()
        assert not player.conversation.between_turns
        player.conversation.submit("turn", "x", 0.0)
        assert player.conversation.between_turns, "it is about to be sent"
        player.step()
        assert not player.conversation.between_turns
        player.took("turn")
        player.conversation.deny("r", "No.")
        assert not player.conversation.between_turns, "a control message is no turn"

    def test_what_is_sent_again_goes_first(self) -> None:
        player = Player()
        turn = player.submit()
        player.conversation.deny("r-1", "No.")
        assert player.conversation.connection_resumed(player.now) == [turn]
        commands = player.conversation.commands()
        assert [command.input_id[:2] for command in commands if isinstance(command, SendInput)] == [turn[:2], "c-"]
        assert player.conversation.connection_resumed(player.now) == [command.input_id for command in commands]

    def test_what_somebody_else_had_sent_is_not_sent_again(self) -> None:
        player = Player()
        turn = player.submit()
        player.conversation.withdraw(turn, player.now)
        assert player.conversation.connection_resumed(player.now) == []

    def test_a_control_message_to_a_process_that_has_ended_is_not_sent_again(self) -> None:
        player = Player()
        turn = player.submit()
        player.conversation.deny("r-1", "No.")
        player.step()
        exited(player, 0)
        assert player.conversation.connection_resumed(player.now) == [turn]

    def test_after_a_lost_connection_lines_are_nobody_s(self) -> None:
        player, turn = begun()
        player.delta("so far")
        player.conversation.connection_lost("gone", player.now)
        result = player.ended(turn)
        assert (result.verdict, result.text, result.error) == (Verdict.INTERRUPTED, "so far", "gone")
        player.conversation.process_ready((), player.now)
        following = player.submit()
        player.delta("left over")
        assert player.events(following) == []
        player.init(following)
        player.result(following, "x")
        assert player.ended(following).text == "x"

    def test_only_new_permissions_are_held_back_and_only_while_it_is_replayed(self) -> None:
        made = Conversation()
        made.follow("turn", 0.0)
        made.took("turn", 0.0)
        made.receive_message({"type": "system", "subtype": "init", "session_id": "s"}, 0.0)
        made.replayed()
        request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}
        made.receive_message({"type": "control_request", "request_id": "r-1", "request": request}, 0.0)
        made.took("c-1-r-1", 0.0)
        assert [type(event) for event in made.take_events("turn")] == [TurnStarted, PermissionRequest]
        assert made.is_open("r-1"), "our own answers close it when they are given"
