"""What Claude Code has going on besides turns, read off the lines that the real one says. covers: B7"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cc_bridge_agent.background import Background

NOW = 1_795_733_000.0
DAY = 86400.0


def after(*messages: dict[str, Any], now: float = NOW) -> Background:
    background = Background()
    for message in messages:
        background.hear(json.dumps(message, separators=(",", ":")).encode(), now)
    return background


def tasks(*found: Any) -> dict[str, Any]:
    return {"type": "system", "subtype": "background_tasks_changed", "tasks": list(found)}


def tool(result: Any) -> dict[str, Any]:
    return {"type": "user", "message": {"role": "user", "content": []}, "tool_use_result": result}


def made(job: str = "50acdc17", *, recurring: bool = False, at: float = NOW + 60) -> dict[str, Any]:
    return tool({"id": job, "humanSchedule": "x", "recurring": recurring, "durable": False, "nextFireAt": at * 1000})


def wakeup(at: float) -> dict[str, Any]:
    return tool({"scheduledFor": int(at * 1000), "clampedDelaySeconds": 60, "wasClamped": False})


SHELL = {"task_id": "b1", "task_type": "local_bash", "description": "sleep 30"}
INIT = {"type": "system", "subtype": "init"}
RESULT = {"type": "result", "subtype": "success"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], ""),
        ([INIT], "it has a turn that it has begun by itself"),
        ([INIT, RESULT], ""),
        ([tasks(SHELL, {"task_type": "local_agent"})], "it works in the background: sleep 30, local_agent"),
        ([tasks(*[SHELL] * 5)], "it works in the background: sleep 30, sleep 30, sleep 30"),
        ([tasks({"description": "x" * 1000})], "it works in the background: " + "x" * 100),
        ([tasks("odd")], "it works in the background: a task"),
        ([tasks({**SHELL, "off_host": True})], ""),
        ([tasks(SHELL), tasks()], ""),
        ([tasks(SHELL), {**tasks(), "tasks": 7}], ""),
        ([{"type": "user", "message": '"background_tasks_changed"', "tasks": [SHELL]}], ""),
    ],
)
def test_what_goes_on(messages: list[dict[str, Any]], reason: str) -> None:
    assert after(*messages).reason(NOW) == reason


def test_a_new_process_has_no_turn_and_no_tasks_but_what_was_scheduled() -> None:
    background = after(INIT, tasks(SHELL), made())
    background.begin()
    assert background.reason(NOW) == "a prompt is scheduled, which needs it awake"


@pytest.mark.parametrize(
    ("messages", "until"),
    [
        ([made(at=NOW + 60)], NOW + 60),
        ([made(recurring=True, at=NOW + 60)], NOW + 7 * DAY),
        ([wakeup(NOW + 90)], NOW + 90),
        ([wakeup(NOW + 90), wakeup(0)], None),
        ([made("a"), tool({"id": "a"})], None),
        ([made("a"), tool({"id": "b"})], NOW + 60),
        ([made("a"), tool({"id": "a", "of": "another tool"})], NOW + 60),
        ([made("a"), tool({"jobs": []})], None),
        ([tool({"jobs": [{"id": "a", "nextFireAt": (NOW + 5) * 1000}, 7]})], NOW + 5),
        ([made("a"), tool({"jobs": [{"id": "a", "recurring": True, "nextFireAt": 0}]})], NOW + 7 * DAY),
        ([tool({"id": "a", "nextFireAt": "soon"})], None),
        ([tool({"jobs": [{"id": "a", "nextFireAt": 10**400}]})], None),
        ([tool("Error: No scheduled job with id 'nextFireAt'")], None),
    ],
)
def test_scheduled_prompts_keep_it_awake_until_some_minutes_after_the_last(
    messages: list[dict[str, Any]], until: float | None
) -> None:
    background = after(*messages)
    if until is None:
        assert background.reason(NOW) == ""
        return
    assert background.reason(until + 599) == "a prompt is scheduled, which needs it awake"
    assert background.reason(until + 601) == ""


def test_what_is_no_json_is_passed_over() -> None:
    background = Background()
    background.hear(b'nonsense "result"', NOW)
    background.hear(b'{"type":"system","subtype":"init"', NOW)
    assert background.reason(NOW) == ""


def test_it_remembers_a_thousand_prompts_at_most() -> None:
    background = after(*[made(str(number)) for number in range(1001)])
    assert len(background._jobs) == 1000
