"""What the real Claude Code says beside the answer, as events. covers: B9"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import (
    BackgroundTasks,
    ClaudeOptions,
    CompactBoundary,
    ContextUsage,
    ConversationReset,
    Event,
    HookResponse,
    HookStarted,
    Informational,
    InstanceInterface,
    LocalProcess,
    PermissionDenied,
    RateLimit,
    StatusChanged,
    SubagentText,
    TaskNotification,
    TaskProgress,
    TaskStarted,
    ToolResult,
    ToolUse,
    TurnResult,
    UnknownMessage,
)
from cc_bridge.testing import Reply, Say, ScriptedModel, Tool

pytestmark = pytest.mark.anyio

#: Seconds after which something hangs.
_LIMIT = 60.0

SUBAGENT = {"description": "look", "subagent_type": "general-purpose"}
SUBAGENT["prompt"] = '[[say from the subagent]] [[tool Bash {"command": "echo hi"}]] [[say its report]]'


async def events_of(instance: InstanceInterface, prompt: str) -> list[Event]:
    with anyio.fail_after(_LIMIT):
        async with await instance.submit(prompt) as turn:
            events = [event async for event in turn]
    assert not [event for event in events if isinstance(event, UnknownMessage)]
    return events


def of(kind: type[Any], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


async def test_a_subagent_that_is_waited_for(make_local: Any, scripted_model: ScriptedModel) -> None:
    instance = await make_local()
    scripted_model.add(Reply([Say("ask"), Tool("Task", {**SUBAGENT, "run_in_background": False}), Say("done")]))
    events = await events_of(instance, "go")
    task, own = of(ToolUse, events)
    assert (task.name, task.parent, own.name, own.parent) == ("Task", "", "Bash", task.tool_use_id)
    assert [result.parent for result in of(ToolResult, events)] == [task.tool_use_id, ""]
    [started], [ended] = of(TaskStarted, events), of(TaskNotification, events)
    assert (started.tool_use_id, started.kind, started.background) == (task.tool_use_id, "local_agent", False)
    assert (ended.task_id, ended.status, ended.summary) == (started.task_id, "completed", "its report")
    assert ended.usage.tool_uses == 1
    assert [step.last_tool for step in of(TaskProgress, events)] == ["Bash"]
    assert of(TurnResult, events)[0].text == "ask\n\ndone", "nothing of the subagent's"


async def test_a_subagent_in_the_background(make_local: Any, scripted_model: ScriptedModel) -> None:
    instance = await make_local()
    scripted_model.add(
        Reply(
            [
                Tool("Task", {**SUBAGENT, "run_in_background": True}),
                Say("a"),
                Tool("Bash", {"command": "echo"}),
                Say("b"),
            ]
        )
    )
    events = await events_of(instance, "go")
    task = of(ToolUse, events)[0]
    assert of(TaskStarted, events)[0].background is True
    assert [task.kind for task in of(BackgroundTasks, events)[0].tasks] == ["local_agent"]
    assert {(text.parent, text.subagent_type) for text in of(SubagentText, events)} <= {
        (task.tool_use_id, "general-purpose")
    }
    assert of(TurnResult, events)[0].text == "a\n\nb"


async def test_the_turn_that_a_background_task_s_end_begins_is_not_the_next_command_s(
    make_local: Any, scripted_model: ScriptedModel
) -> None:
    instance = await make_local()
    shell = Tool("Bash", {"command": "sleep 0.2; echo", "run_in_background": True})
    for number in range(3):
        scripted_model.add(Reply([shell, Say(f"started {number}")]))
        assert of(TurnResult, await events_of(instance, f"start {number}"))[0].text == f"started {number}"
        for word in ("one", "two"):
            text = f"{word} {number}"
            assert of(TurnResult, await events_of(instance, f"[[delay 0.3]] [[say {text}]]"))[0].text == text


async def test_hooks(make_record: Callable[..., Any], claude: str, claude_env: dict[str, str], workspace: Path) -> None:
    def hook(command: str) -> list[dict[str, Any]]:
        return [{"hooks": [{"type": "command", "command": command}]}]

    hooks = {"Stop": hook("echo out; echo err >&2"), "UserPromptSubmit": hook("""echo '{"systemMessage": "hello"}'""")}
    (workspace / ".claude").mkdir()
    (workspace / ".claude" / "settings.json").write_text(json.dumps({"hooks": hooks}))
    options = ClaudeOptions(extra=("--include-hook-events",))
    async with LocalProcess(make_record(env=claude_env, claude=options)) as instance:
        events = await events_of(instance, "[[say hello]]")
    [begun] = [event for event in of(HookStarted, events) if event.event == "Stop"]
    [ended] = [event for event in of(HookResponse, events) if event.hook_id == begun.hook_id]
    assert (ended.outcome, ended.exit_code, ended.stdout, ended.stderr) == ("success", 0, "out\n", "err\n")
    assert [(line.level, "hello" in line.content) for line in of(Informational, events)] == [("notice", True)]


async def test_compaction_and_a_new_beginning(make_local: Any) -> None:
    instance = await make_local()
    await events_of(instance, "[[say hello]]")
    events = await events_of(instance, "/compact")
    [boundary] = of(CompactBoundary, events)
    assert (boundary.trigger, boundary.pre_tokens > 0, boundary.post_tokens > 0) == ("manual", True, True)
    assert [(change.status, change.compact_result) for change in of(StatusChanged, events)] == [
        ("compacting", ""),
        ("", "success"),
    ]
    [reset] = of(ConversationReset, await events_of(instance, "/clear"))
    assert reset.trigger == "clear"
    usage = await instance.context_usage()
    assert isinstance(usage, ContextUsage)


async def test_a_tool_that_the_mode_forbids(make_local: Any) -> None:
    instance = await make_local()
    await instance.set_permission_mode("dontAsk")
    events = await events_of(instance, '[[tool Bash {"command": "touch x"}]] [[say done]]')
    [denied], [use] = of(PermissionDenied, events), of(ToolUse, events)
    assert (denied.tool_name, denied.tool_use_id, denied.reason_type) == ("Bash", use.tool_use_id, "mode")
    assert of(StatusChanged, events) in ([], [StatusChanged("", "dontAsk")])


async def test_a_subscription_s_limit(make_local: Any, scripted_model: ScriptedModel) -> None:
    scripted_model.headers |= {
        "anthropic-ratelimit-unified-status": "allowed_warning",
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
        "anthropic-ratelimit-unified-reset": "4000000000",
        "anthropic-ratelimit-unified-5h-utilization": "0.91",
        "anthropic-ratelimit-unified-5h-reset": "4000000000",
        "anthropic-ratelimit-unified-5h-surpassed-threshold": "0.9",
    }
    login = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-scripted"}
    events = await events_of(await make_local(env=login), "[[say hello]]")
    [limit] = of(RateLimit, events)
    assert (limit.status, limit.kind, limit.resets_at, limit.utilization) == (
        "allowed_warning",
        "five_hour",
        4000000000,
        0.91,
    )
