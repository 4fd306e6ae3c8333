"""What Claude Code says beside the answer: each kind is an event, and a strange one is none. covers: B9, C16"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import events
from cc_bridge.protocol.fields import MOST_ITEMS, Malformed
from cc_bridge.protocol.reports import context_usage, parse_report, slash_commands
from cc_bridge.protocol.stream_json import Report, Unknown, parse

HOOK = {"hook_id": "h", "hook_name": "PreToolUse:Bash", "hook_event": "PreToolUse"}
USAGE = {"total_tokens": 11, "tool_uses": 1, "duration_ms": 57}
RATE = {"status": "allowed_warning", "resetsAt": 1795736963, "rateLimitType": "five_hour", "utilization": 0.91}


def system(subtype: str, **fields: Any) -> dict[str, Any]:
    return {"type": "system", "subtype": subtype, **fields, "uuid": "u", "session_id": "s"}


#: A message as Claude Code sends it, its event, and what of it is needed.
KINDS: list[tuple[dict[str, Any], events.Report, tuple[str, ...]]] = [
    (
        system(
            "task_started",
            task_id="a",
            tool_use_id="t",
            description="look",
            subagent_type="general-purpose",
            is_backgrounded=False,
            task_type="local_agent",
            prompt="p",
            parent_task_id="b",
        ),
        events.TaskStarted("a", "look", "local_agent", "t", "general-purpose", "p", False, "b"),
        ("task_id",),
    ),
    (
        system("task_progress", task_id="a", tool_use_id="t", description="d", usage=USAGE, last_tool_name="Bash"),
        events.TaskProgress("a", "d", events.TaskUsage(11, 1, 0.057), "t", last_tool="Bash"),
        ("task_id",),
    ),
    (
        system("task_updated", task_id="a", patch={"status": "failed", "error": "e", "is_backgrounded": True}),
        events.TaskUpdated("a", "failed", error="e", background=True),
        ("task_id",),
    ),
    (
        system("task_notification", task_id="a", tool_use_id="t", status="completed", output_file="/o", summary="done"),
        events.TaskNotification("a", "completed", "done", "t", "/o"),
        ("task_id", "status"),
    ),
    (
        system("task_notification", task_id="a", status="failed", usage=USAGE),
        events.TaskNotification("a", "failed", usage=events.TaskUsage(11, 1, 0.057)),
        ("task_id", "status"),
    ),
    (
        system("background_tasks_changed", tasks=[{"task_id": "a", "task_type": "local_bash", "description": "d"}]),
        events.BackgroundTasks((events.BackgroundTask("a", "local_bash", "d"),)),
        ("tasks",),
    ),
    (
        {"type": "tool_progress", "tool_use_id": "t", "tool_name": "Bash", "elapsed_time_seconds": 30}
        | {"parent_tool_use_id": "p"},
        events.ToolProgress("t", "Bash", 30, parent="p"),
        ("tool_use_id",),
    ),
    (
        {"type": "tool_use_summary", "summary": "s", "preceding_tool_use_ids": ["a", "b"]},
        events.ToolUseSummary("s", ("a", "b")),
        ("summary",),
    ),
    (system("hook_started", **HOOK), events.HookStarted("h", "PreToolUse:Bash", "PreToolUse"), ("hook_id",)),
    (
        system("hook_progress", **HOOK, stdout="o", stderr="e"),
        events.HookProgress("h", "PreToolUse:Bash", "PreToolUse", "o", "e"),
        ("hook_id",),
    ),
    (
        system("hook_response", **HOOK, stdout="o", stderr="e", exit_code=2, outcome="error"),
        events.HookResponse("h", "PreToolUse:Bash", "PreToolUse", "error", 2, "o", "e"),
        ("hook_id", "outcome"),
    ),
    (
        system("status", status=None, permissionMode="plan", compact_result="failed", compact_error="e"),
        events.StatusChanged("", "plan", "failed", "e"),
        (),
    ),
    (
        system(
            "compact_boundary",
            compact_metadata={"trigger": "manual", "pre_tokens": 12, "post_tokens": 5, "duration_ms": 68},
        ),
        events.CompactBoundary("manual", 12, 5, 0.068),
        ("compact_metadata",),
    ),
    (
        {"type": "conversation_reset", "new_conversation_id": "c", "trigger": "clear"},
        events.ConversationReset("c", "clear"),
        ("new_conversation_id",),
    ),
    (
        {"type": "rate_limit_event", "rate_limit_info": RATE},
        events.RateLimit("allowed_warning", "five_hour", 1795736963, 0.91, RATE),
        ("rate_limit_info",),
    ),
    (
        {"type": "auth_status", "isAuthenticating": True, "output": ["a"], "error": "e"},
        events.AuthStatus(True, ("a",), "e"),
        ("isAuthenticating",),
    ),
    (system("session_state_changed", state="idle"), events.SessionState("idle"), ("state",)),
    ({"type": "prompt_suggestion", "suggestion": "s"}, events.PromptSuggestion("s"), ("suggestion",)),
    (
        system("files_persisted", files=[{"filename": "f", "file_id": "i"}], failed=[{"filename": "g", "error": "e"}]),
        events.FilesPersisted((events.PersistedFile("f", "i"),), (events.FileFailure("g", "e"),)),
        ("files", "failed"),
    ),
    (system("local_command_output", content="c"), events.LocalCommandOutput("c"), ("content",)),
    (
        system("informational", content="c", level="notice", tool_use_id="t", prevent_continuation=True),
        events.Informational("c", "notice", "t", True),
        ("content",),
    ),
    (system("notification", key="k", text="t", priority="low"), events.Notification("k", "t", "low"), ("text",)),
    (
        system(
            "permission_denied",
            tool_name="Bash",
            tool_use_id="t",
            message="m",
            decision_reason="r",
            decision_reason_type="mode",
            agent_id="a",
        ),
        events.PermissionDenied("Bash", "t", "m", "r", "mode", "a"),
        ("tool_name",),
    ),
    (
        system("model_refusal_fallback", original_model="o", fallback_model="f", content="c", api_refusal_category="x"),
        events.ModelRefusal("c", "o", "f", "x"),
        ("original_model",),
    ),
    (
        system("model_refusal_no_fallback", original_model="o", content="c", api_refusal_explanation="y"),
        events.ModelRefusal("c", "o", explanation="y"),
        ("original_model",),
    ),
    (
        system("memory_recall", mode="select", memories=[{"path": "/m", "scope": "team"}]),
        events.MemoryRecall("select", (events.Memory("/m", "team"),)),
        ("mode", "memories"),
    ),
    (
        system("thinking_tokens", estimated_tokens=9, estimated_tokens_delta=2),
        events.ThinkingTokens(9, 2),
        ("estimated_tokens",),
    ),
    (
        system("commands_changed", commands=[{"name": "c", "description": "d", "argumentHint": "<f>"}]),
        events.CommandsChanged((events.SlashCommand("c", "d", "<f>"),)),
        ("commands",),
    ),
    (
        system("plugin_install", status="failed", name="n", error="e"),
        events.PluginInstall("failed", "n", "e"),
        ("status",),
    ),
    (
        system("elicitation_complete", mcp_server_name="m", elicitation_id="e"),
        events.ElicitationComplete("m", "e"),
        ("mcp_server_name", "elicitation_id"),
    ),
    (system("mirror_error", error="e"), events.MirrorError("e"), ("error",)),
    (
        system("session_writes_lost", error_code="ENOSPC", lost=["transcript"]),
        events.SessionWritesLost("ENOSPC", ("transcript",)),
        ("error_code",),
    ),
    (system("worker_shutting_down", reason="r"), events.WorkerShuttingDown("r"), ("reason",)),
    (
        system("control_request_progress", request_id="r", status="started"),
        events.ControlRequestProgress("r", "started"),
        ("request_id", "status"),
    ),
    (
        {"type": "active_goal", "value": {"condition": "c", "iterations": 2, "last_reason": "r"}},
        events.ActiveGoal("c", 2, "r"),
        ("value",),
    ),
    ({"type": "active_goal", "value": None}, events.ActiveGoal(""), ("value",)),
]
NAMES = [f"{number}-{type(event).__name__}" for number, (_, event, _) in enumerate(KINDS)]


@pytest.mark.parametrize(("message", "event", "needed"), KINDS, ids=NAMES)
def test_each_kind_is_an_event(message: dict[str, Any], event: events.Report, needed: tuple[str, ...]) -> None:
    assert parse(message) == Report(event)
    told = json.loads(json.dumps(events.as_dict(event)))
    assert told["type"] == type(event).__name__


@pytest.mark.parametrize(("message", "event", "needed"), KINDS, ids=NAMES)
def test_one_that_lacks_what_it_needs_stays_as_it_came(
    message: dict[str, Any], event: events.Report, needed: tuple[str, ...]
) -> None:
    for field in needed:
        broken = {name: value for name, value in message.items() if name != field}
        assert isinstance(parsed := parse(broken), Unknown)
        assert parsed.message == broken


def test_every_kind_is_in_this_table() -> None:
    told = {type(event) for _, event, _ in KINDS}
    assert told | {events.SubagentText, events.TodoList} == set(events.Report.__args__), "those two come of blocks"


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([message for message, _, _ in KINDS]), st.data())
def test_nothing_breaks_it(message: dict[str, Any], data: Any) -> None:
    """Some fields of a real message, or of what is in it, are something else."""
    changed = json.loads(json.dumps(message))
    for _ in range(data.draw(st.integers(1, 3))):
        within = [changed, *[value for value in changed.values() if isinstance(value, dict) and value]]
        within += [item for value in changed.values() if isinstance(value, list) for item in value if item]
        place = data.draw(st.sampled_from([part for part in within if isinstance(part, dict)]))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    event = parse_report(changed)
    if event is not None:
        json.dumps(events.as_dict(event), default=repr)


def test_a_list_of_more_items_than_can_be_meant_is_none() -> None:
    most = system("background_tasks_changed", tasks=[{"task_id": "a"}] * MOST_ITEMS)
    assert parse_report(most) is not None
    assert parse_report(system("background_tasks_changed", tasks=[{"task_id": "a"}] * (MOST_ITEMS + 1))) is None
    assert parse_report(system("background_tasks_changed", tasks=[{"task_id": "a"}, 7])) is None
    assert parse_report(system("background_tasks_changed", tasks=[{}])) is None


def test_a_heartbeat_of_the_main_conversation_s_tool_names_no_subagent() -> None:
    beat = {"type": "tool_progress", "tool_use_id": "t-heartbeat-0", "tool_name": "Bash", "parent_tool_use_id": "t"}
    assert parse_report({**beat, "elapsed_time_seconds": 30}) == events.ToolProgress("t", "Bash", 30)


def test_what_cannot_be_meant_is_left_out() -> None:
    wild = {"estimated_tokens": 3, "estimated_tokens_delta": float("inf")}
    assert parse_report(system("thinking_tokens", **wild)) == events.ThinkingTokens(3, 0)
    assert parse_report(system("hook_response", **HOOK, outcome="success", exit_code=True)) == events.HookResponse(
        "h", "PreToolUse:Bash", "PreToolUse", "success"
    )


# Answers


def test_the_slash_commands() -> None:
    answer = {"commands": [{"name": "compact", "description": "d", "argumentHint": "<i>", "builtin": True}]}
    answer["commands"].append({"name": "usage", "aliases": ["cost", 7]})
    compact = events.SlashCommand("compact", "d", "<i>", builtin=True)
    assert slash_commands(answer) == (compact, events.SlashCommand("usage", aliases=("cost",)))
    for wrong in ({}, {"commands": "x"}, {"commands": [{"name": 7}]}):
        with pytest.raises(Malformed):
            slash_commands(wrong)


def test_the_context_usage() -> None:
    answer = {"model": "m", "totalTokens": 11, "maxTokens": 100, "percentage": 11}
    answer |= {"categories": [{"id": "messages", "name": "Messages", "tokens": 11, "kind": "used"}]}
    usage = context_usage({**answer, "autoCompactThreshold": 90, "isAutoCompactEnabled": True})
    assert (usage.model, usage.total_tokens, usage.max_tokens, usage.percentage) == ("m", 11, 100, 11)
    assert usage.categories == (events.ContextCategory("Messages", 11, "used", "messages"),)
    assert usage.auto_compact_at == 90
    assert context_usage({**answer, "autoCompactThreshold": 90, "isAutoCompactEnabled": False}).auto_compact_at is None
    for wrong in ({}, {**answer, "model": 7}, {**answer, "categories": None}):
        with pytest.raises(Malformed):
            context_usage(wrong)
