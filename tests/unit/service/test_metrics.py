"""What is counted is bounded, whatever a container or a client says. covers: B12"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from starlette.types import Message, Receive, Scope, Send

from cc_bridge.errors import InstanceNotFound
from cc_bridge.service.metrics import Metrics
from cc_bridge.service.store import Command, Delivery

pytestmark = pytest.mark.anyio


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The samples of this name, by the values of their labels."""
    found = {}
    for family in metrics._registry.collect():
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels.values())] = sample.value
    return found


class Projects:
    """Of a service, what metrics ask it: each instance has a project of its own."""

    board: Projects

    def __init__(self) -> None:
        self.board = self

    def project(self, name: str) -> str:
        if name == "gone":
            raise InstanceNotFound("it is not there", instance=name)
        return f"of-{name}"


def ended(metrics: Metrics, instance: str = "work", **result: Any) -> None:
    metrics.ended(Command("id", instance, "hello", "ann"), {"verdict": "completed", **result})


@pytest.mark.parametrize("verdict", ["made up", None, 7, ["completed"]])
def test_a_verdict_that_there_is_not_is_another(verdict: Any) -> None:
    metrics = Metrics()
    ended(metrics, verdict=verdict if not isinstance(verdict, list) else str(verdict))
    assert values(metrics, "cc_bridge_commands_total") == {("other",): 1}


@pytest.mark.parametrize(
    "usage", [None, "many", {"output_tokens": "many"}, {"output_tokens": -5}, {"output_tokens": float("nan")}, {1: 2}]
)
def test_what_claude_code_says_it_has_used_may_be_nonsense(usage: Any) -> None:
    metrics = Metrics()
    ended(metrics, usage=usage, cost_usd=usage)
    assert set(values(metrics, "cc_bridge_tokens_total").values()) <= {0}
    assert values(metrics, "cc_bridge_cost_usd_total") == {(): 0}


def test_only_so_many_projects_have_labels_of_their_own() -> None:
    metrics = Metrics(by_project=True)
    metrics.begins(Projects())  # type: ignore[arg-type]
    for number in range(150):
        ended(metrics, f"i{number}")
    ended(metrics, "i0")
    ended(metrics, "gone")
    found = values(metrics, "cc_bridge_commands_total")
    assert len(found) == 101
    assert found["completed", "of-i0"] == 2
    assert found["completed", "other"] == 51


def test_a_delivery_counts_from_its_event() -> None:
    metrics = Metrics()
    now = datetime.now(UTC)
    for seconds in (40, -3600):  # a clock that was set back
        created = now - timedelta(seconds=seconds)
        metrics.delivered(Delivery("id", 1, "hook", "work", "{}", created, 0, "", now, None))
    assert values(metrics, "cc_bridge_webhook_lag_seconds_count") == {(): 2}
    assert 40 <= values(metrics, "cc_bridge_webhook_lag_seconds_sum")[()] < 100


async def receive() -> Message:
    return {"type": "http.disconnect"}


async def send(message: Message) -> None:
    pass


async def test_a_stream_counts_while_it_is_open_and_no_longer_when_it_breaks() -> None:
    metrics, seen = Metrics(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        seen.append(values(metrics, "cc_bridge_streams")[()])
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await metrics.around(app)({"type": "http", "method": "GET"}, receive, send)
    assert (seen, values(metrics, "cc_bridge_streams")) == ([1], {(): 0})


async def test_methods_and_addresses_of_a_clients_making_are_no_labels() -> None:
    metrics = Metrics()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})

    for number in range(20):
        scope = {"type": "http", "method": f"BREW{number}", "path": f"/pot/{number}"}
        await metrics.around(app)(scope, receive, send)
    assert values(metrics, "cc_bridge_http_requests_total") == {("none", "other", "404"): 20}
