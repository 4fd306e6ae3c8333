"""Claude Code's messages, typed: what each says, and that a strange one is Unknown and never an error. covers: C16"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.events import ConversationReset, StatusChanged
from cc_bridge.protocol.stream_json import (
    BlockPiece,
    BlockStart,
    Cancelled,
    ControlReply,
    Echo,
    Init,
    Lifecycle,
    Message,
    Permission,
    PersonTyped,
    Report,
    Result,
    Retry,
    Routine,
    Tools,
    Unknown,
    UnsupportedRequest,
    WholeBlocks,
    allow,
    deny,
    interrupt_request,
    parse,
    unsupported,
    user_message,
)

TEXT = {"type": "text", "text": "hello"}
TOOL_RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "done"}


def system(subtype: str, **fields: Any) -> dict[str, Any]:
    return {"type": "system", "subtype": subtype, **fields}


def event(**fields: Any) -> dict[str, Any]:
    return {"type": "stream_event", "event": fields}


def request(subtype: str, **fields: Any) -> dict[str, Any]:
    return {"type": "control_request", "request_id": "r", "request": {"subtype": subtype, **fields}}


RETRY = {"attempt": 2, "max_retries": 10, "retry_delay_ms": 1500, "error_status": 529, "error": "overloaded"}
RESULT = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "all of it",
    "session_id": "s",
    "user_message_uuids": ["a", "b"],
    "num_turns": 3,
    "duration_ms": 2500,
    "total_cost_usd": 0.25,
    "usage": {"output_tokens": 7},
    "api_error_status": 400,
}
INIT = {"session_id": "s", "model": "m", "claude_code_version": "2.1.329", "user_message_uuids": ["a"]}

MEANINGS: list[tuple[dict[str, Any], Message]] = [
    (system("init", **INIT), Init("s", "m", ("a",), "2.1.329")),
    (system("init"), Init("", "", (), "")),
    (system("api_retry", **RETRY), Retry(2, 10, 1.5, 529, "overloaded")),
    (system("api_retry"), Retry(0, 0, 0.0, None, "")),
    (system("api_retry", error_status="529"), Retry(0, 0, 0.0, None, "")),
    (system("person_turn", prompt="hi"), PersonTyped("hi")),
    (system("status", status="requesting"), Routine()),
    (system("status", status="ready"), Routine()),
    (system("status", status="compacting"), Report(StatusChanged("compacting"))),
    ({"type": "command_lifecycle", "command_uuid": "a", "state": "started"}, Lifecycle("a", "started")),
    (event(type="content_block_start", content_block={"type": "tool_use"}), BlockStart("tool_use")),
    (event(type="content_block_delta", delta={"type": "text_delta", "text": "he"}), BlockPiece("text", "he")),
    (
        event(type="content_block_delta", delta={"type": "thinking_delta", "thinking": "hm"}),
        BlockPiece("thinking", "hm"),
    ),
    (event(type="content_block_delta", delta={"type": "input_json_delta", "partial_json": "{"}), Routine()),
    (event(type="message_stop"), Routine()),
    ({"type": "assistant", "message": {"model": "m", "content": [TEXT]}}, WholeBlocks((TEXT,), synthetic=False)),
    (
        {"type": "assistant", "message": {"model": "<synthetic>", "content": [TEXT]}},
        WholeBlocks((TEXT,), synthetic=True),
    ),
    ({"type": "assistant", "message": {"content": [TEXT, "x", None]}}, WholeBlocks((TEXT,), synthetic=False)),
    ({"type": "assistant", "message": {"content": []}}, WholeBlocks((), synthetic=False)),
    ({"type": "user", "isReplay": True, "uuid": "a"}, Echo("a")),
    ({"type": "user", "message": {"content": [TEXT, TOOL_RESULT]}}, Tools((TOOL_RESULT,))),
    ({"type": "user", "message": {"content": "[Request interrupted by user]"}}, Routine()),
    ({"type": "user", "message": {"content": [TEXT]}}, Routine()),
    ({"type": "control_cancel_request", "request_id": "r"}, Cancelled("r")),
    (
        {
            "type": "control_response",
            "response": {"request_id": "r", "subtype": "success", "response": {"mode": "plan"}},
        },
        ControlReply("r", {"mode": "plan"}),
    ),
    ({"type": "control_response", "response": {"request_id": "r", "subtype": "success"}}, ControlReply("r", {})),
    (
        {
            "type": "control_response",
            "response": {"request_id": "r", "subtype": "error", "error": "no", "error_code": "c"},
        },
        ControlReply("r", None, "no", "c"),
    ),
    ({"type": "control_response", "response": "x"}, ControlReply("", None)),
    ({"type": "keep_alive"}, Routine()),
    ({"type": "conversation_reset", "new_conversation_id": "c"}, Report(ConversationReset("c"))),
    (
        request("can_use_tool", tool_name="Bash", input={"command": "ls"}, permission_suggestions=[{"rule": 1}]),
        Permission("r", "Bash", {"command": "ls"}, ({"rule": 1},)),
    ),
    (request("can_use_tool", tool_name="Bash", permission_suggestions="x"), Permission("r", "Bash", {}, ())),
    (
        request("can_use_tool", tool_name="Bash", tool_use_id="t", agent_id="a", decision_reason="why"),
        Permission("r", "Bash", {}, (), "t", "a", "why"),
    ),
    (request("hook_callback"), UnsupportedRequest("r", "hook_callback")),
    (RESULT, Result(("a", "b"), "success", False, "all of it", "s", 400, 3, 2.5, 0.25, {"output_tokens": 7})),
    ({"type": "result", "is_error": True}, Result((), "", True, "", "", None, 0, 0.0, 0.0, {})),
    ({"type": "result", "api_error_status": "400"}, Result((), "", False, "", "", None, 0, 0.0, 0.0, {})),
]


@pytest.mark.parametrize(("message", "meaning"), MEANINGS, ids=map(str, range(len(MEANINGS))))
def test_what_a_message_means(message: dict[str, Any], meaning: Message) -> None:
    assert parse(message) == meaning


SUBAGENT = {"parent_tool_use_id": "t"}


def test_a_subagent_s_pieces_are_of_no_interest() -> None:
    """Its whole messages come as well."""
    piece = event(type="content_block_delta", delta={"type": "text_delta", "text": "aside"})
    assert parse({**piece, **SUBAGENT}) == Routine()


def test_a_subagent_s_messages_name_the_call_that_it_works_for() -> None:
    said = {"type": "assistant", "message": {"content": [TEXT]}, "subagent_type": "Explore", **SUBAGENT}
    assert parse(said) == WholeBlocks((TEXT,), synthetic=False, parent="t", subagent_type="Explore")
    assert parse({"type": "user", "message": {"content": [TOOL_RESULT]}, **SUBAGENT}) == Tools((TOOL_RESULT,), "t")
    assert parse({"type": "user", "message": {"content": [TEXT]}, **SUBAGENT}) == Routine(), "its prompt"


STRANGE: list[tuple[dict[str, Any], str]] = [
    ({}, "None"),
    ({"type": None}, "None"),
    ({"type": ["x"]}, "['x']"),
    ({"type": "novelty"}, "novelty"),
    ({"type": "novelty", "subtype": "x"}, "novelty/x"),
    ({"type": "system"}, "system"),
    ({"type": "system", "subtype": 1}, "system"),
    (system("novelty"), "system/novelty"),
    ({"type": "assistant"}, "assistant"),
    ({"type": "assistant", "message": {"content": "text"}}, "assistant"),
    ({"type": "assistant", "message": "text"}, "assistant"),
    ({"type": "assistant", "message": {"content": [TEXT]}, "parent_tool_use_id": 7}, "assistant"),
    ({"type": "user", "message": {"content": [TOOL_RESULT]}, "parent_tool_use_id": ["t"]}, "user"),
    (system("status", status=7), "system/status"),
    (system("task_started"), "system/task_started"),
    ({"type": "conversation_reset"}, "conversation_reset"),
    ({"type": "control_request", "request": {"subtype": "can_use_tool"}}, "control_request"),
    ({"type": "control_request", "request_id": 7}, "control_request"),
]


@pytest.mark.parametrize(("message", "kind"), STRANGE, ids=map(str, range(len(STRANGE))))
def test_what_is_not_understood_comes_out_as_it_was(message: dict[str, Any], kind: str) -> None:
    assert parse(message) == Unknown(kind, message)


def test_a_kind_is_at_most_80_characters() -> None:
    """It becomes a key of a counter."""
    parsed = parse({"type": "x" * 200, "subtype": "y"})
    assert isinstance(parsed, Unknown)
    assert parsed.kind == "x" * 80


@pytest.mark.parametrize("wrong", [None, 1, [], {}, True])
def test_a_field_that_should_be_text_and_is_not_is_empty(wrong: Any) -> None:
    fields = dict.fromkeys(INIT, wrong)
    assert parse(system("init", **fields)) == Init("", "", (), "")
    assert parse({"type": "user", "isReplay": True, "uuid": wrong}) == Echo("")


@pytest.mark.parametrize("wrong", [None, "1", [], float("nan"), float("inf"), float("-inf"), 1e15, -(10**400)])
def test_a_field_that_should_be_a_number_and_is_not_is_nought(wrong: Any) -> None:
    parsed = parse({"type": "result", "num_turns": wrong, "duration_ms": wrong, "total_cost_usd": wrong})
    assert isinstance(parsed, Result)
    assert (parsed.num_turns, parsed.duration, parsed.cost_usd) == (0, 0.0, 0.0)


def test_numbers_that_are_large_and_honest_are_taken() -> None:
    parsed = parse({"type": "result", "num_turns": 999_999_999_999_999, "total_cost_usd": -0.5})
    assert isinstance(parsed, Result)
    assert (parsed.num_turns, parsed.cost_usd) == (999_999_999_999_999, -0.5)


def test_only_ids_that_are_text_are_ids() -> None:
    assert parse(system("init", user_message_uuids=["a", 1, None, "b"])) == Init("", "", ("a", "b"), "")


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([message for message, _ in MEANINGS]), st.data())
def test_nothing_breaks_it(message: dict[str, Any], data: Any) -> None:
    """One field of a real message is something else."""
    changed = dict(message)
    changed[data.draw(st.sampled_from(sorted(message)))] = data.draw(JSON)
    parse(changed)


# What the host says


def test_a_prompt_has_its_turn_s_id() -> None:
    message = user_message("hello", "id")
    assert message == {"type": "user", "message": {"role": "user", "content": "hello"}, "uuid": "id"}


def test_an_interrupt() -> None:
    expected = {"type": "control_request", "request_id": "r", "request": {"subtype": "interrupt"}}
    assert interrupt_request("r") == expected


def answered(message: dict[str, Any]) -> Any:
    assert message["type"] == "control_response"
    assert message["response"]["subtype"] == "success"
    assert message["response"]["request_id"] == "r"
    return message["response"]["response"]


def test_a_permission_is_granted_for_an_input_and_for_longer_if_asked() -> None:
    assert answered(allow("r", {"command": "ls"})) == {"behavior": "allow", "updatedInput": {"command": "ls"}}
    assert answered(allow("r", {}, ({"rule": 1},))) == {
        "behavior": "allow",
        "updatedInput": {},
        "updatedPermissions": [{"rule": 1}],
    }


def test_a_permission_is_refused_with_a_reason() -> None:
    assert answered(deny("r", "No.")) == {"behavior": "deny", "message": "No."}


def test_what_cannot_be_answered_is_refused_by_name() -> None:
    message = unsupported("r", "hook_callback")
    assert message["type"] == "control_response"
    assert message["response"].items() >= {"subtype": "error", "request_id": "r"}.items()
    assert "hook_callback" in message["response"]["error"]
