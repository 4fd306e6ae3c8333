"""What happens in a pane, as stream-json: single cases, and a model of Claude Code that tells things in any order."""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_bridge_agent.pane.answer import StreamedAnswer
from cc_bridge_agent.pane.host_output import Answer
from cc_bridge_agent.pane.translator import Enter, Escape, Look, Translator, Withdraw

Json = dict[str, Any]


def user(text: str, turn_id: str) -> Json:
    return {"type": "user", "message": {"role": "user", "content": text}, "uuid": turn_id}


def line_of_user(prompt_id: str, content: Any) -> Json:
    return {"type": "user", "promptId": prompt_id, "message": {"role": "user", "content": content}}


def line_of_model(message_id: str, *blocks: Json) -> Json:
    return {"type": "assistant", "message": {"id": message_id, "role": "assistant", "content": list(blocks)}}


def text_block(text: str) -> Json:
    return {"type": "text", "text": text}


def said(output: list[Json], turn_id: str) -> str:
    """The texts that the host got between the turn's beginning and its result."""
    texts: list[str] = []
    for message in output:
        if message.get("user_message_uuids") == [turn_id]:
            if message["type"] == "result":
                return "".join(texts)
            texts.clear()
        elif message["type"] == "stream_event" and message["event"]["type"] == "content_block_delta":
            texts.append(message["event"]["delta"]["text"])
        elif message["type"] == "assistant":
            texts += [block["text"] for block in message["message"]["content"] if block["type"] == "text"]
    raise AssertionError(f"no result of {turn_id}")


def results(output: list[Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for message in output:
        if message["type"] == "result":
            (turn_id,) = message["user_message_uuids"]
            assert turn_id not in found, "two results"
            found[turn_id] = message
    return found


class Model:
    """Claude Code in a pane, as measured: what it tells, and in what order on each of two ways.

    The API's stream is no third: it goes through the program, and the program looks for hooks first.

    Args:
        relayed: the API's stream can be read.
    """

    def __init__(self, *, relayed: bool) -> None:
        self.translator = Translator(0.0)
        self.now = 0.0
        self.relayed = relayed
        self.ways: dict[str, deque[Any]] = {"hooks": deque(), "lines": deque()}
        self.running: list[tuple[str, str]] = []  # prompt ids and prompts that are answered together
        self.last_id = ""
        self.queue: list[str] = []
        self.streamed = False
        self.before = 0  # lines that are of before what runs
        self.numbers = 0
        self.draft = ""

    # What people and the program do

    def person_says(self, text: str) -> None:
        self.catch_up()
        self.submit(text)

    def host_says(self, text: str) -> str:
        turn_id = str(uuid.uuid4())
        self.translator.receive(user(text, turn_id), self.now)
        self.act()
        return turn_id

    def act(self) -> None:
        """Carry out what the translator wants."""
        while self.translator.actions:
            action = self.translator.actions.pop(0)
            if isinstance(action, Enter):
                assert not self.draft or self.draft in action.replaceable
                self.draft = ""
                self.submit(action.text)
                self.translator.entered(self.now)
            elif isinstance(action, Look):
                draft, self.draft = self.draft, "" if self.draft in action.replaceable else self.draft
                self.translator.looked(draft, self.now)
            elif isinstance(action, Escape):
                self.escape()
            else:
                assert isinstance(action, Withdraw)

    # What Claude Code does

    def catch_up(self) -> None:
        """The transcript is some 100 ms behind: less than a turn lasts, or a person types."""
        while self.ways["hooks"] and self.before:
            self.deliver("hooks")
        while self.before:
            self.deliver("lines")

    def submit(self, text: str) -> None:
        if self.running:
            prompt_id = self.running[-1][0]
            self.queue.append(text)
            self.ways["lines"].append({"type": "queue-operation", "operation": "enqueue", "content": text})
        else:
            prompt_id = self.new_id()
            self.begin([(prompt_id, text)])
        self.ways["hooks"].append(("UserPromptSubmit", {"prompt": text, "prompt_id": prompt_id}))

    def new_id(self) -> str:
        self.numbers += 1
        return f"p{self.numbers}"

    def begin(self, prompts: list[tuple[str, str]]) -> None:
        self.running, self.streamed = prompts, False
        self.before = len(self.ways["lines"])
        self.ways["lines"].extend(line_of_user(prompt_id, text) for prompt_id, text in prompts)

    def stream(self) -> None:
        """The model answers."""
        if not self.running or self.streamed:
            return
        self.streamed = True
        text, message_id = f"re {self.running[-1][1]}", f"m-{self.running[-1][0]}"
        if self.relayed:
            while self.ways["hooks"]:
                self.deliver("hooks")
            body = {"messages": [{"role": "user", "content": [text_block(prompt) for _, prompt in self.running]}]}
            turn = self.translator.exchange_begun(body, self.now)
            for event in (
                {"type": "message_start", "message": {"id": message_id}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            ):
                if turn is not None:
                    StreamedAnswer(self.translator.host, turn).event(event)
        self.ways["lines"].append(line_of_model(message_id, text_block(text)))

    def finish(self) -> None:
        """The turn ends, and what was queued begins, together."""
        if not self.running:
            return
        self.catch_up()
        self.stream()
        if not self.running:
            return  # interrupted when it began
        stop = {"prompt_id": self.running[-1][0], "last_assistant_message": f"re {self.running[-1][1]}"}
        self.ways["hooks"].append(("Stop", stop))
        self.ways["lines"].append({"type": "system", "subtype": "turn_duration"})
        self.running = []
        self.dequeue()

    def dequeue(self) -> None:
        queued, self.queue = self.queue, []
        self.ways["lines"].extend({"type": "queue-operation", "operation": "dequeue"} for _ in queued)
        if queued:
            self.begin([(self.new_id(), text) for text in queued])

    def escape(self) -> None:
        if not self.running:
            return
        prompt_id, text = self.running[-1]
        if self.streamed:
            self.ways["lines"].append(line_of_user(prompt_id, [text_block("[Request interrupted by user]")]))
        else:
            self.draft = text  # back in the input line, and no word of it anywhere
        self.running = []
        self.dequeue()

    # What is told

    def deliver(self, way: str) -> None:
        """The next thing on one of the ways."""
        while way == "lines" and self.ways["hooks"]:
            self.deliver("hooks")  # Claude Code waits for a hook before it writes on
        if not self.ways[way]:
            return
        item = self.ways[way].popleft()
        if way == "hooks":
            self.translator.hook(*item, "1", self.now)
        else:
            self.before = max(0, self.before - 1)
            self.translator.transcript(item, self.now)
            if not self.ways["lines"]:
                self.translator.advance(self.now)
        self.act()

    def settle(self) -> None:
        """Let everything happen that is to happen, and time pass."""
        for _ in range(300):
            if any(self.ways.values()):
                for way in ("hooks", "lines"):
                    self.deliver(way)
            elif self.running:
                self.finish()
            elif self.translator.next_timer is not None:
                self.now = max(self.now, self.translator.next_timer)
                self.translator.handle_timer(self.now)
                self.act()
            else:
                return
        raise AssertionError("it does not come to rest")


def ready(model: Model) -> Model:
    model.translator.hook("SessionStart", {"session_id": "s", "model": "m"}, "1", 0.0)
    model.act()
    return model


STEPS = st.lists(st.sampled_from(["host", "person", "stream", "finish", "hooks", "lines", "moment"]), max_size=40)


@settings(max_examples=500)
@given(STEPS, st.booleans())
def test_every_command_is_answered_once_in_whatever_order_things_are_told(steps: list[str], relayed: bool) -> None:
    model = ready(Model(relayed=relayed))
    asked: dict[str, str] = {}
    for number, step in enumerate(steps):
        if step == "host":
            text = f"host {number}"
            asked[model.host_says(text)] = text
        elif step == "person":
            model.person_says(f"person {number}")
        elif step in ("stream", "finish"):
            getattr(model, step)()
        elif step == "moment":
            model.now += 0.05
        else:
            model.deliver(step)
    model.settle()
    output = model.translator.host.output
    assert set(results(output)) == set(asked)
    for turn_id, text in asked.items():
        result = results(output)[turn_id]
        assert not result["is_error"], result
        # Taken together with what a person had queued, it is answered with theirs.
        assert said(output, turn_id).count("re ") == 1
        assert text in said(output, turn_id) or "re person" in said(output, turn_id)


@settings(max_examples=300)
@given(STEPS, st.booleans(), st.integers(0, 39))
def test_an_interrupted_command_ends_and_the_next_is_answered(steps: list[str], relayed: bool, when: int) -> None:
    model = ready(Model(relayed=relayed))
    first = model.host_says("first")
    for number, step in enumerate(steps):
        if number == when:
            model.translator.interrupt(model.now)
            model.act()
        if step in ("stream", "finish"):
            getattr(model, step)()
        elif step in ("hooks", "lines"):
            model.deliver(step)
    second = model.host_says("second")
    model.settle()
    found = results(model.translator.host.output)
    assert set(found) == {first, second}
    assert not found[second]["is_error"]
    assert said(model.translator.host.output, second) == "re second"
    assert not model.draft


def started(prompt: str = "hello") -> tuple[Model, str]:
    """A turn of the program's that runs, with nothing said."""
    model = ready(Model(relayed=True))
    turn_id = model.host_says(prompt)
    model.deliver("hooks")
    model.deliver("lines")
    return model, turn_id


def test_it_says_at_once_what_it_has_taken() -> None:
    model = Model(relayed=True)
    turn_id = model.host_says("hello")
    assert model.translator.host.output[0]["state"] == "held"
    assert model.translator.host.output[0]["command_uuid"] == turn_id
    assert model.translator.actions == []  # nothing is entered before Claude Code is ready


def test_a_claude_code_that_does_not_come_up() -> None:
    model = Model(relayed=True)
    turn_id = model.host_says("hello")
    model.now = model.translator.next_timer or 0.0
    model.translator.handle_timer(model.now)
    assert results(model.translator.host.output)[turn_id]["result"] == "Claude Code does not come up in the pane"


def test_tools_and_their_results_are_told_once() -> None:
    model, _turn_id = started()
    translator = model.translator
    tool = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "a b", "is_error": False}
    turn = translator.exchange_begun({"messages": [{"role": "user", "content": "hello"}]}, 0.0)
    assert turn is not None
    answer = StreamedAnswer(translator.host, turn)
    for event in (
        {"type": "message_start", "message": {"id": "m1"}},
        {"type": "content_block_start", "index": 0, "content_block": {**tool, "input": {}}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": '{"command"'},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ': "ls"}'}},
        {"type": "content_block_stop", "index": 0},
    ):
        answer.event(event)
    translator.transcript(line_of_model("m1", tool), 0.0)
    translator.transcript(line_of_user("p1", [result]), 0.0)
    again = translator.exchange_begun({"messages": [{"role": "user", "content": [result]}]}, 0.0)
    assert again is turn
    kinds = [block for message in translator.host.output if message["type"] in ("assistant", "user")
             for block in message["message"]["content"]]  # fmt: skip
    assert kinds == [tool, result]


def test_a_subagents_requests_are_not_the_turns() -> None:
    model, _ = started()
    other = {"type": "tool_result", "tool_use_id": "its own", "content": ""}
    assert model.translator.exchange_begun({"messages": [{"role": "user", "content": "its prompt"}]}, 0.0) is None
    assert model.translator.exchange_begun({"messages": [{"role": "user", "content": [other]}]}, 0.0) is None
    assert model.translator.exchange_begun({"messages": []}, 0.0) is None


def test_errors_of_the_api_are_told_and_counted() -> None:
    model, turn_id = started()
    turn = model.translator.turn
    assert turn is not None
    answer = StreamedAnswer(model.translator.host, turn)
    answer.failed(529, 0.0, "overloaded")
    answer.failed(None, 3.0, "closed")
    retries = [message for message in model.translator.host.output if message.get("subtype") == "api_retry"]
    assert [(retry["attempt"], retry["error_status"], retry["retry_delay_ms"]) for retry in retries] == [
        (1, 529, 500),
        (2, None, 3000),
    ]
    answer.failed(400, 0.0, "bad")
    failure = {"prompt_id": "p1", "last_assistant_message": "API Error: 400 bad"}
    model.translator.hook("StopFailure", failure, "1", 0.0)
    result = results(model.translator.host.output)[turn_id]
    assert (result["is_error"], result["api_error_status"], result["result"]) == (True, 400, "API Error: 400 bad")


def test_permissions_are_asked_for_and_forgotten_with_the_turn() -> None:
    model, _ = started()
    translator = model.translator
    wanted = {"tool_name": "Bash", "tool_input": {"command": "ls"}, "permission_suggestions": [1], "prompt_id": "p1"}
    translator.hook("PermissionRequest", wanted, "77", 0.0)
    request = translator.host.output[-1]
    assert request["request"]["input"] == {"command": "ls"}
    decision = {"behavior": "deny", "message": "No."}
    response = {"subtype": "success", "request_id": request["request_id"], "response": decision}
    translator.receive({"type": "control_response", "response": response}, 0.0)
    (answer,) = translator.host.answers
    assert answer == Answer("77", {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}})
    translator.hook("PermissionRequest", wanted, "78", 0.0)
    translator.hook("Stop", {"prompt_id": "p1", "last_assistant_message": ""}, "1", 0.0)
    model.settle()
    (cancelled,) = [m["request_id"] for m in translator.host.output if m["type"] == "control_cancel_request"]
    assert cancelled.startswith("pane-78-0-")


def test_other_control_requests_are_refused() -> None:
    model, _ = started()
    request = {"type": "control_request", "request_id": "r", "request": {"subtype": "set_model"}}
    model.translator.receive(request, 0.0)
    assert model.translator.host.output[-1]["response"]["subtype"] == "error"


def test_lines_are_passed_on_only_in_their_place() -> None:
    """Without the relay: what is shown may be ahead of the transcript, which has the tools."""
    model = ready(Model(relayed=False))
    turn_id = model.host_says("hello")
    translator = model.translator
    model.deliver("hooks")

    def lines(message_id: str, text: str) -> None:
        payload = {"prompt_id": "p1", "message_id": message_id, "index": 0, "delta": text}
        translator.hook("MessageDisplay", payload, "1", 0.0)

    lines("a", "Looking.")
    translator.hook("PreToolUse", {"prompt_id": "p1", "tool_use_id": "t1"}, "1", 0.0)
    lines("b", "Done.")
    translator.transcript(line_of_user("p1", "hello"), 0.0)
    tool = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
    translator.transcript(line_of_model("m1", tool), 0.0)
    translator.transcript(line_of_user("p1", [{"type": "tool_result", "tool_use_id": "t1"}]), 0.0)
    translator.transcript(line_of_model("m2", text_block("Done.")), 0.0)
    translator.hook("Stop", {"prompt_id": "p1", "last_assistant_message": "Done."}, "1", 0.0)
    translator.transcript({"type": "system", "subtype": "turn_duration"}, 0.0)
    assert said(translator.host.output, turn_id) == "Looking.Done."


@pytest.mark.parametrize("before", range(4))
def test_lines_that_come_later_than_the_transcript_are_not_told_twice(before: int) -> None:
    """On a busy machine the hooks that tell of lines are the slower way: all of them, or the last ones."""
    model = ready(Model(relayed=False))
    turn_id = model.host_says("hello")
    translator = model.translator
    model.deliver("hooks")
    lines = [("a", "one\n"), ("a", "two\n"), ("b", "three")]

    def show(some: list[tuple[str, str]]) -> None:
        for number, (message_id, text) in enumerate(some):
            payload = {"prompt_id": "p1", "message_id": message_id, "index": number, "delta": text}
            translator.hook("MessageDisplay", payload, "1", 0.0)

    translator.transcript(line_of_user("p1", "hello"), 0.0)
    show([line for line in lines[:before] if line[0] == "a"])
    translator.transcript(line_of_model("m1", text_block("one\ntwo\n")), 0.0)
    show([line for line in lines[:before] if line[0] == "b"])
    translator.transcript(line_of_model("m2", text_block("three")), 0.0)
    told = len(translator.host.output)
    show(lines[before:])
    assert len(translator.host.output) == told
    translator.hook("Stop", {"prompt_id": "p1", "last_assistant_message": "three"}, "1", 0.0)
    translator.transcript({"type": "system", "subtype": "turn_duration"}, 0.0)
    assert results(translator.host.output)[turn_id]["result"] == "three"


def test_what_was_absorbed_by_a_persons_turn_is_answered_with_it() -> None:
    model = ready(Model(relayed=False))
    model.person_says("theirs")
    turn_id = model.host_says("mine")  # the hook that tells of theirs is on the way
    for _ in range(2):
        model.deliver("hooks")
    model.translator.transcript(line_of_user("p1", "theirs"), 0.0)
    removed = {"operation": "remove", "reason": "absorbed_mid_turn", "content": "mine"}
    model.translator.transcript({"type": "queue-operation", **removed}, 0.0)
    model.translator.transcript(line_of_model("m1", text_block("both")), 0.0)
    model.translator.hook("Stop", {"prompt_id": "p1", "last_assistant_message": "both"}, "1", 0.0)
    model.translator.transcript({"type": "system", "subtype": "turn_duration"}, 0.0)
    assert said(model.translator.host.output, turn_id) == "both"


def test_what_a_person_takes_back_ends_as_interrupted() -> None:
    model = ready(Model(relayed=False))
    model.person_says("theirs")
    turn_id = model.host_says("mine")
    for _ in range(2):
        model.deliver("hooks")
    model.translator.transcript({"type": "queue-operation", "operation": "popAll"}, 0.0)
    assert results(model.translator.host.output)[turn_id]["subtype"] == "error_during_execution"


def test_what_still_stands_in_the_line_after_a_persons_turn_is_entered_then() -> None:
    """Enter has sent another prompt, as one that Claude Code put back at that moment."""
    translator, now = Translator(0.0), 1.0
    translator.hook("SessionStart", {}, "k", now)
    translator.receive(user("mine", "turn"), now)
    assert [type(action) for action in translator.actions] == [Enter]
    translator.entered(now)
    translator.hook("UserPromptSubmit", {"prompt": "theirs", "prompt_id": "p1"}, "k", now)
    translator.handle_timer(now := now + 100)
    translator.looked("mine", now)
    translator.actions.clear()
    translator.hook("Stop", {"prompt_id": "p1"}, "k", now)
    translator.handle_timer(now := now + 100)
    assert [type(action) for action in translator.actions] == [Look]
    translator.looked("mine", now)
    assert [type(action) for action in translator.actions] == [Look, Enter]
