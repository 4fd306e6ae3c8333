"""Spans of a command, whatever its container says. covers: B12"""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cc_bridge.events import ApiRetry, Event, TextDelta, ToolResult, ToolUse, Waiting
from cc_bridge.fleet import FeedPosition, Heard
from cc_bridge.service.store import Command
from cc_bridge.service.tracing import Tracing

pytestmark = pytest.mark.anyio

COMMAND = Command("id", "work", "hello", "ann")


class Traced:
    """Traces, and the spans that have ended."""

    def __init__(self) -> None:
        self.kept = InMemorySpanExporter()
        self.tracing = Tracing("", SimpleSpanProcessor(self.kept))

    def hears(self, *events: Event) -> None:
        for number, event in enumerate(events):
            self.tracing.heard(COMMAND, Heard(FeedPosition("j", number, 0), "id", event))

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.kept.get_finished_spans()]


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_the_queue_ends_where_the_turn_begins_and_a_tool_with_its_result(traced: Traced) -> None:
    traced.tracing.accepted(COMMAND)
    traced.hears(Waiting(1))
    assert traced.names == []
    traced.hears(ToolUse("t", "Bash", {}), ApiRetry(1, 10, 0.5, 529, "overloaded"), ToolResult("t", "out", True))
    assert traced.names == ["queue", "tool Bash"]
    assert not traced.kept.get_finished_spans()[1].status.is_ok
    traced.tracing.ended(COMMAND, {"verdict": "completed", "ok": True, "cost_usd": 0.5})
    assert traced.names == ["queue", "tool Bash", "turn", "command"]
    turn, command = traced.kept.get_finished_spans()[2:]
    assert [event.name for event in turn.events] == ["API retried"]
    assert command.attributes == {
        "cc_bridge.instance": "work",
        "cc_bridge.turn": "id",
        "cc_bridge.verdict": "completed",
        "cc_bridge.cost_usd": 0.5,
    }


def test_a_container_that_calls_tools_without_end_costs_a_bounded_number_of_spans(traced: Traced) -> None:
    traced.tracing.accepted(COMMAND)
    traced.hears(*[ToolUse(f"t{number}", "x" * 5000, {}) for number in range(500)])
    traced.tracing.ended(COMMAND, {"verdict": "failed", "ok": False, "cost_usd": "nonsense"})
    assert len(traced.names) == 103
    assert max(map(len, traced.names)) < 200


def test_what_is_withdrawn_has_no_turn(traced: Traced) -> None:
    traced.tracing.accepted(COMMAND)
    traced.tracing.ended(COMMAND, {"verdict": "withdrawn", "ok": False})
    assert traced.names == ["queue", "command"]


def test_commands_of_an_earlier_service_are_not_traced(traced: Traced) -> None:
    traced.hears(TextDelta("late"))
    traced.tracing.ended(COMMAND, {"verdict": "completed", "ok": True})
    assert traced.names == []


async def test_what_goes_on_when_the_service_ends_is_told_as_far_as_it_came(traced: Traced) -> None:
    traced.tracing.accepted(COMMAND)
    traced.hears(TextDelta("one"), ToolUse("t", "Bash", {}))
    await traced.tracing.ends()
    assert sorted(traced.names) == ["command", "queue", "tool Bash", "turn"]
