"""A hostile container on the wire: no crash, no unbounded memory, and a violation that has a name. covers: C15"""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cc_bridge.protocol.link import Link, Output, Violated
from cc_bridge_agent import wire

from .targets import HELLO, TARGETS, conversation, frames

CORPUS = Path(__file__).with_name("corpus")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)

#: The strategies draw much, and the machine may be busy.
thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: Frames of the right shape with anything in their places, in any order and number.
keys = st.sampled_from(["seq", "out", "err", "took", "exit", "started", "hello", "error", "message", "status", "from"])
frame_lines = st.dictionaries(keys, json_values | st.integers(0, 5), max_size=4).map(lambda frame: json.dumps(frame))

types = st.sampled_from(["system", "user", "assistant", "result", "stream_event", "control_request", "x"])
fields = st.sampled_from(
    ["subtype", "session_id", "uuid", "message", "content", "event", "delta", "index", "text", "isReplay", "request_id"]
    + ["request", "tool_name", "input", "is_error", "result", "user_message_uuids", "permission_suggestions", "state"]
    + ["model", "content_block", "usage"]
)
subtypes = st.sampled_from(["init", "success", "can_use_tool", "text_delta"])

messages = st.builds(
    lambda kind, rest: json.dumps({**rest, "type": kind}),
    types,
    st.dictionaries(
        fields, json_values | st.sampled_from(["init", "success", "can_use_tool", "text_delta"]), max_size=6
    ),
)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name[:10]}")
def test_the_corpus(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@given(st.binary(max_size=2000))
@thorough
def test_any_bytes(data: bytes) -> None:
    frames(data)
    conversation(data)


@given(st.binary(min_size=1, max_size=1), st.lists(frame_lines, max_size=20))
@thorough
def test_any_frames(how: bytes, lines: list[str]) -> None:
    frames(how + "\n".join([*lines, ""]).encode())


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
