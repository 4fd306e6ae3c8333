"""What a person sees of what Claude Code says beside the answer. covers: B9, T4"""

from __future__ import annotations

import pytest

from cc_bridge import events
from cc_bridge.cli.display import Display

SEEN = [
    (events.CompactBoundary("auto", 900, 30), "· the conversation was compacted: 900 tokens became 30"),
    (events.CompactBoundary("manual", 900), "· the conversation was compacted: 900 tokens"),
    (events.RateLimit("allowed_warning", "five_hour", None, 0.91), "· rate limit five_hour: allowed warning, 91% used"),
    (events.RateLimit("rejected"), "· rate limit of the subscription: rejected"),
    (events.TaskNotification("a", "failed", "it broke", "t", "/o"), '· in the background failed: "it broke"'),
    (events.PermissionDenied("Bash", "t", reason_type="mode"), "· was denied Bash (mode)"),
    (events.Informational("a hook says no", "warning"), "· a hook says no"),
    (events.ModelRefusal("refused", "m"), "· refused"),
    (events.ToolUse("t", "Bash", {}, "p"), "  · Bash {}"),
    (events.Informational("a \x1b[31m trap", "notice"), "· a ␛[31m trap"),
]


@pytest.mark.parametrize(("event", "line"), SEEN, ids=[type(event).__name__ for event, _ in SEEN])
def test_what_is_worth_a_line(event: events.Event, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        display.event(event)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", line + "\n")


@pytest.mark.parametrize(
    "event",
    [
        events.RateLimit("allowed", "five_hour"),
        events.TaskNotification("a", "completed", "of the foreground"),
        events.Informational("noise"),
        events.ThinkingTokens(3),
        events.SubagentText("aside", "p"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_is_not(event: events.Event, capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        display.event(event)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "")


def test_a_program_gets_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(as_json=True) as display:
        display.event(events.TodoList((events.TodoItem("a", "pending"),), "t"))
    assert capsys.readouterr().out == (
        '{"type": "TodoList", "items": [{"content": "a", "status": "pending", "active_form": ""}], '
        '"tool_use_id": "t", "parent": ""}\n'
    )
