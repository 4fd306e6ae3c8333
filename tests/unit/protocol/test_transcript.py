"""What a transcript says about a turn, whole or torn. covers: B14"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol.transcript import Reading, Said, has_ended, read_history, read_turn


def user(name: str, content: Any = "…") -> dict[str, Any]:
    return {"type": "user", "uuid": name, "message": {"role": "user", "content": content}}


def assistant(name: str, text: str, stop: str | None = None, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}] if text else [{"type": "tool_use", "id": "t"}]
    return {"type": "assistant", "uuid": name, "message": {"content": content, "stop_reason": stop}, **more}


def read(*entries: Any) -> Reading:
    return read_turn([entry if isinstance(entry, str) else json.dumps(entry) for entry in entries], "turn")


KEYS = st.sampled_from(["type", "text", "name", "input", "content", "is_error"])

TOOL_RESULT = user("r", [{"type": "tool_result"}])


def test_a_turn_that_ended() -> None:
    entries = [user("earlier"), assistant("a", "old", "end_turn"), user("turn"), assistant("b", "one")]
    entries += [assistant("c", "", "tool_use"), TOOL_RESULT, assistant("d", "two", "end_turn")]
    assert read(*entries) == Reading(True, True, ("one", "two"), "d")


def test_a_turn_that_goes_on() -> None:
    assert read(user("turn"), assistant("b", "one"), assistant("c", "", "tool_use")).ended is False


def test_a_turn_that_is_not_there() -> None:
    assert read(user("other"), assistant("b", "one", "end_turn")) == Reading(False, False, (), "b")


def test_the_next_turn_is_not_this_one() -> None:
    assert read(user("turn"), assistant("b", "one"), user("next"), assistant("c", "two", "end_turn")).texts == ("one",)


def test_the_next_turn_may_be_one_of_content_blocks() -> None:
    picture = user("next", [{"type": "text", "text": "look"}, {"type": "image", "source": {}}])
    later = [picture, assistant("c", "two", "end_turn")]
    assert read(user("turn"), assistant("b", "one"), *later).texts == ("one",)
    about_it = {**user("meta", [{"type": "text", "text": "[Image: source: /tmp/1.png]"}]), "isMeta": True}
    assert read({**picture, "uuid": "turn"}, about_it, assistant("b", "one", "end_turn")).ended
    interrupted = user("i", [{"type": "text", "text": "[Request interrupted by user for tool use]"}])
    assert read(user("turn"), assistant("b", "one"), interrupted).last == "i", "it is of the turn"


def test_a_subagent_s_messages_are_not_the_answer() -> None:
    assert read(user("turn"), assistant("b", "aside", "end_turn", isSidechain=True)).ended is False


def test_torn_and_strange_lines_are_passed_over() -> None:
    found = read(user("turn"), "", "null", "[1]", '{"type": "user"', assistant("b", "one", "end_turn"), '{"type": "ass')
    assert found == Reading(True, True, ("one",), "b")


@given(st.lists(st.text() | st.just(json.dumps(user("turn"))) | st.just('{"type":"assistant","message":[]}')))
def test_nothing_breaks_it(lines: list[str]) -> None:
    assert isinstance(read_turn(lines, "turn"), Reading)


def test_what_was_read_of_an_earlier_message_of_the_same_id_does_not_count() -> None:
    """A session that was resumed has its last prompt twice."""
    found = read(user("turn"), assistant("a", "first try", "end_turn"), user("turn"), assistant("b", "second"))
    assert found == Reading(True, False, ("second",), "b")


def test_what_is_no_prompt_does_not_end_a_turn() -> None:
    for entry in (
        user("x", [{"type": "text", "text": "[Request interrupted by user]"}]),
        {**user("x"), "isMeta": True},
        {"type": "user"},
    ):
        found = read(user("turn"), assistant("a", "one"), entry, assistant("b", "two", "end_turn"))
        assert found.texts == ("one", "two")


def test_a_prompt_before_the_turn_is_found_ends_nothing() -> None:
    assert read(user("earlier"), user("turn"), assistant("a", "one", "end_turn")).ended is True


def test_the_last_message_decides_whether_the_turn_has_ended() -> None:
    assert read(user("turn"), assistant("a", "one", "end_turn"), assistant("b", "two", "tool_use")).ended is False
    assert read(user("turn"), assistant("a", "one", "end_turn"), {"type": "assistant", "uuid": "b"}).ended is True


def test_the_newest_uuid_shows_growth_whoever_wrote_it() -> None:
    assert read(user("turn"), {"type": "summary"}).last == "turn"
    assert read(user("turn"), {"type": "system", "uuid": "s"}).last == "s"
    assert read().last == ""


def test_a_message_s_text_is_its_text_blocks() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "thinking", "text": "no"}, {"type": "text", "text": 7}, "x"]
    blocks += [{"type": "text", "text": "b"}]
    message = {"type": "assistant", "uuid": "m", "message": {"content": blocks, "stop_reason": "end_turn"}}
    assert read(user("turn"), message).texts == ("ab",)
    assert read(user("turn"), {**message, "message": {"content": "text"}}).texts == ()


def history(*entries: Any) -> list[Said]:
    return list(read_history(entries))


def test_what_was_said_is_read_in_order() -> None:
    tool = {"type": "tool_use", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "content": [{"type": "text", "text": "a file"}], "is_error": True}
    entries = [
        {**user("turn", "do it"), "timestamp": "2026-01-01T00:00:00Z"},
        {"type": "assistant", "uuid": "a", "message": {"content": [{"type": "text", "text": "I do"}, tool]}},
        user("r", [result, {"type": "tool_result", "content": "text"}]),
        {"type": "assistant", "message": {"content": "done"}},
        user("next", [{"type": "text", "text": "again"}]),
    ]
    assert history(*entries) == [
        Said("prompt", "do it", "turn", "2026-01-01T00:00:00Z"),
        Said("answer", "I do"),
        Said("tool", "Bash", input={"command": "ls"}),
        Said("result", "a file", is_error=True),
        Said("result", "text"),
        Said("answer", "done"),
        Said("prompt", "again", "next"),
    ]


def test_what_nobody_said_is_left_out() -> None:
    entries = [
        {**user("m", "told by Claude Code"), "isMeta": True},
        assistant("s", "a tool's own model", isSidechain=True),
        {"type": "summary", "message": {"content": "x"}},
        {"type": "user", "message": "x"},
        {"type": "user", "message": {"content": 7}},
        user("e", ""),
    ]
    assert history(*entries) == []


@given(st.lists(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(KEYS, inner))))
def test_history_of_anything(contents: list[Any]) -> None:
    for kind in ("user", "assistant"):
        found = history(*({"type": kind, "uuid": 1, "message": {"content": [content]}} for content in contents))
        assert all(isinstance(said.text, str) for said in found)


def test_what_was_attached_is_named() -> None:
    content = [{"type": "text", "text": "look"}, {"type": "image"}, {"type": "document", "title": "a.pdf"}]
    said = history(user("turn", [*content, {"type": "document"}]))
    assert [(one.kind, one.text) for one in said] == [
        ("prompt", "look"),
        ("prompt", "[image]"),
        ("prompt", "[document a.pdf]"),
        ("prompt", "[document]"),
    ]
    assert not history({**assistant("a", ""), "message": {"content": [{"type": "image"}]}})


RESULT = [{"type": "tool_result", "content": "…"}]
OUTPUT = "<local-command-stdout>…</local-command-stdout>"


@pytest.mark.parametrize(
    ("entries", "ended"),
    [
        ([], False),
        ([assistant("a", "well", "end_turn")], True),
        ([assistant("a", "well", "max_tokens")], True),
        ([assistant("a", "well", "tool_use")], False),
        ([assistant("a", "well", "tool_use"), user("r", RESULT)], False),
        ([assistant("a", "well", "tool_use"), user("r", RESULT), assistant("b", "done", "end_turn")], True),
        ([assistant("a", "well", "tool_use"), user("s", "summary") | {"isCompactSummary": True}], False),
        ([assistant("a", "of a subagent", "end_turn") | {"isSidechain": True}], False),
        ([assistant("a", "well")], False),
        ([{"type": "system", "subtype": "local_command", "content": OUTPUT}], True),
        ([user("o", OUTPUT)], True),
        ([{"type": "attachment"}, "no object"], False),
        ([user("next")], True),
    ],
)
def test_a_turn_has_ended_by_what_is_behind_its_prompt(entries: list[Any], ended: bool) -> None:
    """As Claude Code 2.1.329 writes it, slash commands included."""
    assert has_ended(map(json.dumps, entries)) is ended
