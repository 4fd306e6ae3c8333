"""Turns: order, ownership of lines, interrupts, verdicts; on both releases' habits. covers: B14, C16, B4, B9"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_bridge import InvalidInput, TextDelta, TurnResult, Verdict
from cc_bridge.events import (
    Event,
    PermissionRequest,
    PersonTurn,
    ThinkingDelta,
    ToolResult,
    TurnStarted,
    UnknownMessage,
)
from cc_bridge.protocol.conversation import (
    Conversation,
    DeclareDone,
    EndProcess,
    ReadTranscript,
    SendInput,
)


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
    player.conversation.inputs_refused()
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
        assert player.conversation.connection_resumed() == [turn, player.conversation.commands()[1].input_id]
        player.took(turn)
        assert len(player.conversation.connection_resumed()) == 1
        player.conversation.took(player.conversation.commands()[0].input_id, 0.0)
        assert player.conversation.connection_resumed() == []

    def test_the_end_of_a_turn_is_told_until_the_agent_knows(self) -> None:
        player = Player()
        turn = player.submit()
        player.took(turn)
        player.init(turn)
        player.say({"type": "result", "subtype": "success", "result": "x", "user_message_uuids": [turn]})
        assert player.others == [DeclareDone(turn)]
        player.conversation.connection_resumed()
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
        monkeypatch.setattr("cc_bridge.protocol.conversation.TEXT_LIMIT", 10)
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
