"""A hostile container on the wire: no crash, no unbounded memory, and a violation that has a name. covers: C15"""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cc_bridge.protocol.conversation import Conversation
from cc_bridge.protocol.link import Link, Output, Violated
from cc_bridge_agent import wire

from .targets import HELLO, PLACEHOLDER, TARGETS, TURN, conversation, cost, frames, gate

CORPUS = Path(__file__).with_name("corpus")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)

#: The strategies draw much, and the machine may be busy.
thorough = settings(
    max_examples=150 if os.environ.get("CC_BRIDGE_THOROUGH") else 60, suppress_health_check=[HealthCheck.too_slow]
)

#: Frames of the right shape with anything in their places, in any order and number.
keys = st.sampled_from(["seq", "out", "err", "took", "exit", "started", "hello", "error", "message", "status", "from"])
frame_lines = st.dictionaries(keys, json_values | st.integers(0, 5), max_size=4).map(lambda frame: json.dumps(frame))

types = st.sampled_from(
    ["system", "user", "assistant", "result", "stream_event", "control_request", "control_response", "x"]
    + ["rate_limit_event", "auth_status", "tool_progress", "prompt_suggestion", "conversation_reset", "active_goal"]
)
fields = st.sampled_from(
    ["subtype", "session_id", "uuid", "message", "content", "event", "delta", "index", "text", "isReplay", "request_id"]
    + ["request", "tool_name", "input", "is_error", "result", "user_message_uuids", "permission_suggestions", "state"]
    + ["model", "content_block", "usage", "parent_tool_use_id", "tool_use_id", "task_id", "tasks", "patch", "status"]
    + ["description", "hook_id", "outcome", "compact_metadata", "rate_limit_info", "commands", "files", "failed"]
)
subtypes = st.sampled_from(
    ["init", "success", "can_use_tool", "text_delta", "task_started", "task_progress", "task_updated", "hook_response"]
    + ["task_notification", "background_tasks_changed", "hook_started", "status", "compact_boundary", "informational"]
    + ["permission_denied", "commands_changed", "files_persisted", "thinking_tokens", "memory_recall"]
)

messages = st.builds(
    lambda kind, rest: json.dumps({**rest, "type": kind}),
    types,
    st.dictionaries(fields, json_values | subtypes, max_size=6),
)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name[:10]}")
def test_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@given(st.binary(max_size=2000))
@thorough
def test_any_bytes(data: bytes) -> None:
    frames(data)
    conversation(data)


heads = st.lists(
    st.sampled_from(
        ["Host: localhost:1", f"x-api-key: {PLACEHOLDER}", "Content-Length: 2", "Transfer-Encoding: chunked"]
    )
    | st.text(st.characters(max_codepoint=255), max_size=30),
    max_size=8,
)
targets = st.sampled_from(["/v1/messages", "/v1/models/a", "/v1/models/..", "//v1/messages", "/"]) | st.text(max_size=9)


@given(st.sampled_from(["GET", "POST", "HEAD", "CONNECT"]), targets, heads)
@thorough
def test_any_request(method: str, target: str, lines: list[str]) -> None:
    gate("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "\r\n"]).encode("latin-1", "replace"))


@given(st.binary(min_size=1, max_size=1), st.lists(frame_lines, max_size=20))
@thorough
def test_any_frames(how: bytes, lines: list[str]) -> None:
    frames(how + "\n".join([*lines, ""]).encode())


@pytest.mark.long
@given(st.lists(messages, max_size=20))
@thorough
def test_any_messages(lines: list[str]) -> None:
    conversation("\n".join(lines).encode())


def opened(limit: int = wire.MAX_FRAME) -> Link:
    link = Link(limit=limit)
    link.greet()
    link.receive_data(wire.encode(HELLO))
    return link


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"x" * 5000, "the limit is 4096"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        (b"[" * 2000 + b"\n", "not JSON"),
        (b'{"seq":1,"exit":' + b"9" * 4000 + b"}\n", "'exit' is too large a number"),
        (b'{"seq":3,"out":{}}\n', "number 3 after 0"),
        (b'{"seq":1,"out":{}}\n{"seq":1,"out":{}}\n', "number 1 after 1"),
        (b'{"seq":2,"out":{}}\n{"seq":1,"out":{}}\n', "number 2 after 0"),
        (b'{"seq":-1,"out":{}}\n', "number -1 after 0"),
        (b'{"seq":1,"out":7}\n', "'out' is neither"),
        (b'{"seq":1,"err":["x"]}\n', "'err' is not text"),
        (b'{"seq":NaN,"out":{}}\n', "NaN"),
    ],
)
def test_a_violation_says_what_was_wrong(data: bytes, reason: str) -> None:
    events = opened(limit=4096).receive_data(data)
    violated = events[-1]
    assert isinstance(violated, Violated)
    assert re.search(reason, violated.reason), violated.reason


def test_an_endless_line_takes_no_more_memory_than_the_limit() -> None:
    link = opened(limit=1024 * 1024)
    chunk = b"x" * 65536
    tracemalloc.start()
    try:
        sent = 0
        while not link.closed:
            link.receive_data(bytes(bytearray(chunk)))
            sent += len(chunk)
        for _ in range(100):
            assert link.receive_data(chunk) == []
        assert sent <= 1024 * 1024 + 2 * len(chunk)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [90, 500, 5000, 100_000])
def test_deep_nesting_of_claude_s_is_text_and_no_danger(depth: int) -> None:
    line = b'{"a":' * depth + b"1" + b"}" * depth
    (output,) = opened().receive_data(b'{"seq":1,"out":' + line + b"}\n")
    assert isinstance(output, Output)
    assert isinstance(output.message, dict if depth < wire.MAX_DEPTH else str)


def test_half_a_character_becomes_one_that_can_be_printed() -> None:
    (output,) = opened().receive_data(b'{"seq":1,"out":{"a":"\\ud83d x \\ud83d\\ude42 \\uDC00"}}\n')
    assert isinstance(output, Output)
    text = json.dumps(output.message, ensure_ascii=False)
    assert "🙂" in text
    text.encode("utf-8")


def said(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields})


def streamed(event: dict[str, object]) -> str:
    return said("stream_event", event=event)


TEXT = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "ab"}}
ASKS = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}


@pytest.mark.parametrize(
    "lines",
    [
        [said("command_lifecycle", state="started", command_uuid="id-@")],
        [said("kind-@")],
        [said("system", subtype="kind-@")],
        [said("assistant", message={"content": [{"type": "block-@"}]})],
        [said("control_request", request_id="r-@", request=ASKS)],
        [said("control_request", request_id="r-@", request=ASKS), said("control_cancel_request", request_id="r-@")],
        [said("control_request", request_id="r-@", request={"subtype": "kind-@"})],
        [said("user", isReplay=True, uuid="id-@")],
        [said("system", subtype="init", user_message_uuids=[TURN]), streamed(TEXT)],
        [said("system", subtype="init", user_message_uuids=["id-@"])],
        [said("result", user_message_uuids=[f"id-@-{n}" for n in range(50)])],
        [said("user", message={"content": [{"type": "tool_result", "tool_use_id": "t-@", "content": "x"}]})],
        ['{"took":"id-@"}'],
        ['{"took":"c-@-r"}'],
        ['{"done":"id-@"}'],
        ['{"err":"line @"}'],
        [said("unknown", list=[[]] * 2000)],
        ["x"],
        ["{"],
    ],
    ids=range(19),
)
@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_is_said_again_and_again_costs_the_same_each_time(lines: list[str]) -> None:
    """covers: T4"""
    began = said("system", subtype="init", user_message_uuids=[TURN])
    cost("\n".join([*lines * 50, began]).encode())


@pytest.mark.parametrize("unit", [b"{},", b"[],", b'"",', b"1,", b'{"a":1},', b'"\\"",'])
def test_a_long_line_takes_no_more_than_a_few_times_its_length(unit: bytes) -> None:
    """covers: T4"""
    line = b'{"seq":1,"out":{"a":[' + unit * (8_000_000 // len(unit)) + b"0]}}"
    tracemalloc.start()
    try:
        wire.decode(line)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


def test_a_long_line_of_text_is_no_matter_what_it_has() -> None:
    """Only what would become values counts: a file's text may be full of brackets, commas and quotes."""
    text = '{"a": [1, 2]}, \\" \\\\ ' * 200_000
    frame = {"seq": 1, "out": {"text": text}}
    assert wire.decode(json.dumps(frame).encode()) == frame


@pytest.mark.long
def test_bytes_that_come_one_by_one_take_no_more_memory_than_together() -> None:
    """covers: T4"""
    splitter = wire.LineSplitter()
    tracemalloc.start()
    try:
        for number in range(100_000):
            assert not list(splitter.feed(b"%02d" % (number % 100)))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        assert len(next(splitter.feed(b"\n"))) == 200_000
    finally:
        tracemalloc.stop()


def test_a_turn_that_nobody_reads_is_crowded_by_size_too() -> None:
    """covers: T4"""
    made = Conversation()
    made.process_ready((), 0.0)
    made.submit(TURN, "hello", 0.0)
    made.receive_message({"type": "system", "subtype": "init", "user_message_uuids": [TURN]}, 0.0, 100)
    made.receive_message({"type": "novelty"}, 0.0, 100)
    assert not made.crowded
    made.receive_message({"type": "novelty"}, 0.0, 8 * 1024 * 1024)
    assert made.crowded
    made.take_events(TURN)
    assert not made.crowded


@pytest.mark.parametrize("key", ["took", "done"])
def test_an_id_of_megabytes_is_a_violation(key: str) -> None:
    """covers: T4: some thousand ids are remembered."""
    (violated,) = opened().receive_data(b'{"seq":1,"%b":"%b"}\n' % (key.encode(), b"x" * 100))
    assert isinstance(violated, Violated)
    assert "is not an id" in violated.reason


def test_ids_of_megabytes_that_claude_code_says_are_not_remembered() -> None:
    """covers: T4"""
    made = Conversation()
    made.process_ready((), 0.0)
    tracemalloc.start()
    try:
        for number in range(40):
            name = f"{number}" + "x" * 1_000_000
            made.receive_message({"type": "command_lifecycle", "state": "started", "command_uuid": name}, 0.0)
            made.receive_message({"type": "user", "isReplay": True, "uuid": name}, 0.0)
        assert tracemalloc.get_traced_memory()[0] < 4_000_000
    finally:
        tracemalloc.stop()


def test_pieces_of_an_answer_are_not_kept_one_by_one() -> None:
    """covers: T4"""
    made = Conversation()
    made.process_ready((), 0.0)
    made.submit(TURN, "hello", 0.0)
    made.receive_message({"type": "system", "subtype": "init", "user_message_uuids": [TURN]}, 0.0)
    tracemalloc.start()
    try:
        for number in range(30_000):
            delta = {"type": "text_delta", "text": f"{number % 100:02}"}
            made.receive_message(
                {"type": "stream_event", "event": {"type": "content_block_delta", "delta": delta}}, 0.0
            )
            made.take_events(TURN)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
