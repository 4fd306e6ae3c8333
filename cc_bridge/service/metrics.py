"""Metrics for Prometheus (``cc-bridge[metrics]``), at ``/metrics`` for a token that sees everything.

No label has more values than this module, the routes, or a hundred projects have:
neither an instance nor a user is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import BridgeError
from ..events import TextDelta, Verdict, Waiting
from ..fleet import Heard
from ..fleet.account_book import count, dollars
from .guards import Reader
from .identities import NotAllowed
from .observer import Observer
from .service import Service
from .store import Command, Delivery

__all__ = ["Metrics"]

#: Seconds. Answers take from parts of one to hours.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 7200)

_STATES = ("busy", "permission", "idle", "asleep")

#: What ends a command, by whatever way it came here.
_VERDICTS = frozenset({*(verdict.value for verdict in Verdict), "withdrawn"})

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: Projects that have labels of their own; what comes later is ``other``.
_MOST_PROJECTS = 100

#: What Claude Code calls the kinds of tokens, and what we do.
_TOKENS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write",
}


@dataclass
class _Open:
    """A command that was accepted since this service began, and has not ended."""

    began: float
    is_taken: bool = False
    has_spoken: bool = False


class Metrics(Observer):
    """Counts and times what the service does.

    Args:
        by_project: commands, tokens and cost have the label ``project``, too.
    """

    def __init__(self, *, by_project: bool = False) -> None:
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/metrics", self._answer, response_class=Response)
        self._service: Service | None = None
        self._by_project = by_project
        self._projects: set[str] = set()
        self._open: dict[str, _Open] = {}
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._now = _Now()
        registry.register(self._now)
        project = ("project",) if by_project else ()

        def histogram(name: str, what: str) -> Histogram:
            return Histogram(f"cc_bridge_{name}_seconds", what, buckets=_BUCKETS, registry=registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"cc_bridge_{name}", what, labels, registry=registry)

        self._wait = histogram("queue_wait", "From a command's acceptance until Claude Code has it")
        self._first = histogram("first_token", "From a command's acceptance until its answer's first text")
        self._whole = histogram("answer", "From a command's acceptance until its end")
        self._lag = histogram("webhook_lag", "From an event until a webhook has confirmed it")
        self._commands = counter("commands", "Commands that have ended", "verdict", *project)
        self._tokens = counter("tokens", "Tokens that were used", "kind", *project)
        self._cost = counter("cost_usd", "US dollars, as Claude Code estimates them", *project)
        self._requests = counter("http_requests", "Requests that were answered", "route", "method", "status")
        self._streams = Gauge("cc_bridge_streams", "Streams of events that are open", registry=registry)

    # As an observer

    def begins(self, service: Service) -> None:
        """See ``Observer``."""
        self._service = service

    def around(self, app: ASGIApp) -> ASGIApp:
        """See ``Observer``."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            with self._request(scope) as begun:

                async def passed(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        begun(message)
                    await send(message)

                await app(scope, receive, passed)

        return counted

    def accepted(self, command: Command) -> None:
        """See ``Observer``."""
        self._open[command.id] = _Open(monotonic())

    def heard(self, command: Command, heard: Heard) -> None:
        """See ``Observer``."""
        timed = self._open.get(command.id)
        if timed is None or timed.has_spoken:
            return
        event, seconds = heard.event, monotonic() - timed.began
        if not timed.is_taken and not isinstance(event, Waiting):
            timed.is_taken = True
            self._wait.observe(seconds)
        if isinstance(event, TextDelta):
            timed.has_spoken = True
            self._first.observe(seconds)

    def ended(self, command: Command, result: Mapping[str, Any]) -> None:
        """See ``Observer``."""
        verdict = result.get("verdict")
        project = self._project(command.instance)
        self._commands.labels(verdict if verdict in _VERDICTS else "other", *project).inc()
        timed = self._open.pop(command.id, None)
        if timed is not None and verdict != "withdrawn":
            self._whole.observe(monotonic() - timed.began)
        usage = result.get("usage")
        if isinstance(usage, Mapping):
            for name, kind in _TOKENS.items():
                self._tokens.labels(kind, *project).inc(count(usage.get(name)))
        (self._cost.labels(*project) if project else self._cost).inc(dollars(result.get("cost_usd")))

    def delivered(self, delivery: Delivery) -> None:
        """See ``Observer``."""
        self._lag.observe(max(0.0, (datetime.now(UTC) - delivery.created).total_seconds()))

    # Private

    def _project(self, instance: str) -> tuple[str, ...]:
        if not self._by_project or self._service is None:
            return ()
        try:
            found = self._service.board.project(instance)
        except BridgeError:  # it was removed meanwhile
            return ("other",)
        if found not in self._projects and len(self._projects) >= _MOST_PROJECTS:
            return ("other",)
        self._projects.add(found)
        return (found,)

    @contextmanager
    def _request(self, scope: Scope) -> Iterator[Any]:
        is_stream = False

        def begun(message: Message) -> None:
            nonlocal is_stream
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.labels(route, method, message["status"]).inc()
            headers = {name.lower(): value for name, value in message.get("headers", ())}
            if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
                is_stream = True
                self._streams.inc()

        try:
            yield begun
        finally:
            if is_stream:
                self._streams.dec()

    async def _answer(self, who: Reader) -> Response:
        """What there is to count, for who sees everything: numbers tell of all instances."""
        if not who.sees_all:
            raise NotAllowed("read")
        assert self._service is not None
        self._now.look(self._service, await anyio.to_thread.run_sync(self._service.fleet.names))
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class _Now(Collector):
    """What is true at the moment; counted when it is asked for, and not before."""

    def __init__(self) -> None:
        self._found: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        """As the library has it."""
        return self._found

    def look(self, service: Service, names: list[str]) -> None:
        """Count, for the next collection."""
        states = GaugeMetricFamily("cc_bridge_instances", "Instances, by what they do", labels=("state",))
        counts = dict.fromkeys(_STATES, 0)
        for name in names:
            counts[service.fleet.state(name).state] += 1
        for state, number in counts.items():
            states.add_metric((state,), number)
        waiting = sum(len(service.inbox.waiting(name)) for name in names)
        self._found = [
            states,
            GaugeMetricFamily("cc_bridge_awake", "Instances with a Claude Code, spares too", service.fleet.awake),
            GaugeMetricFamily("cc_bridge_permissions_waiting", "Requests for people", len(service.fleet.desk.open())),
            GaugeMetricFamily("cc_bridge_commands_open", "Commands that have not ended", waiting),
            GaugeMetricFamily("cc_bridge_ready", "1: commands are taken", int(service.is_ready)),
        ]
