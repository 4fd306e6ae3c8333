"""Traces for OpenTelemetry (``cc-bridge[otel]``): from a request through the line of commands, its turn and its tools.

::

    POST /v1/instances/{name}/commands      the request, below what its header `traceparent` names
      command                               from its acceptance to its result
        queue                               until Claude Code has it
        turn                                from then on
          tool Bash                         each call of a tool, with its result

Names, times, verdicts and numbers only: no prompt, no answer, and nothing of what a tool was given or has said.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..events import ApiRetry, Event, PermissionRequest, TextDelta, ToolResult, ToolUse, Waiting
from ..fleet import Heard
from .observer import Observer
from .store import Command

__all__ = ["Tracing"]

#: Seconds for a collector to take what it gets, and for the last of it when the service ends.
_PATIENCE = 5

#: Calls of tools that are under way at once in a turn, and characters of a tool's name: a container says them.
_MOST_TOOLS = 100
_LONGEST_NAME = 100

#: Asked by machines every few seconds.
_UNSEEN = frozenset({"/healthz", "/readyz", "/metrics"})

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass
class _Traced:
    """A command that was accepted since this service began, and has not ended."""

    command: Span
    queue: Span
    turn: Span | None = None
    has_spoken: bool = False
    tools: dict[str, Span] = field(default_factory=dict)


class Tracing(Observer):
    """Makes spans of what the service does, and sends them to a collector, in a thread of its own.

    A collector that is away costs spans, and nothing else.

    Args:
        endpoint: of the collector, such as ``http://localhost:4318/v1/traces``.
        processor: gets the spans in its place.
    """

    def __init__(self, endpoint: str, processor: SpanProcessor | None = None) -> None:
        resource = Resource.create({"service.name": "cc-bridge", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if processor is None:
            processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_PATIENCE))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("cc_bridge", __version__)
        self._open: dict[str, _Traced] = {}

    async def ends(self) -> None:
        """See ``Observer``."""
        for traced in self._open.values():  # they go on, and the next service knows nothing of their traces
            for span in (*traced.tools.values(), traced.turn, traced.queue, traced.command):
                if span is not None:
                    span.end()
        self._open.clear()
        with anyio.move_on_after(2 * _PATIENCE, shield=True):
            await anyio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)

    def around(self, app: ASGIApp) -> ASGIApp:
        """See ``Observer``."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] in _UNSEEN:
                await app(scope, receive, send)
                return
            parent = _PROPAGATOR.extract(dict(Headers(scope=scope)))
            with self._tracer.start_as_current_span("HTTP", parent, SpanKind.SERVER) as span:

                async def passed(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        _describe(span, scope, message["status"])
                    await send(message)

                await app(scope, receive, passed)

        return traced

    def accepted(self, command: Command) -> None:
        """See ``Observer``."""
        about = {"cc_bridge.instance": command.instance, "cc_bridge.turn": command.id}
        span = self._tracer.start_span("command", attributes=about)
        self._open[command.id] = _Traced(span, self._below(span, "queue"))

    def heard(self, command: Command, heard: Heard) -> None:
        """See ``Observer``."""
        traced, event = self._open.get(command.id), heard.event
        if traced is None or isinstance(event, Waiting):
            return
        if traced.turn is None:
            traced.queue.end()
            traced.turn = self._below(traced.command, "turn")
        if isinstance(event, TextDelta):
            if not traced.has_spoken:
                traced.has_spoken = True
                traced.turn.add_event("first token")
            return
        self._happens(traced, traced.turn, event)

    def ended(self, command: Command, result: Mapping[str, Any]) -> None:
        """See ``Observer``."""
        traced = self._open.pop(command.id, None)
        if traced is None:
            return
        for tool in traced.tools.values():
            tool.end()
        if traced.turn is not None:
            traced.turn.end()
        else:
            traced.queue.end()
        traced.command.set_attribute("cc_bridge.verdict", str(result.get("verdict")))
        with suppress(TypeError, ValueError):
            traced.command.set_attribute("cc_bridge.cost_usd", float(result.get("cost_usd") or 0.0))
        if not result.get("ok"):
            traced.command.set_status(Status(StatusCode.ERROR))
        traced.command.end()

    # Private

    def _below(self, span: Span, name: str) -> Span:
        return self._tracer.start_span(name, trace.set_span_in_context(span))

    def _happens(self, traced: _Traced, turn: Span, event: Event) -> None:
        if isinstance(event, ToolUse):
            if event.tool_use_id not in traced.tools and len(traced.tools) < _MOST_TOOLS:
                traced.tools[event.tool_use_id] = self._below(turn, f"tool {event.name[:_LONGEST_NAME]}")
        elif isinstance(event, ToolResult):
            if tool := traced.tools.pop(event.tool_use_id, None):
                if event.is_error:
                    tool.set_status(Status(StatusCode.ERROR))
                tool.end()
        elif isinstance(event, PermissionRequest):
            turn.add_event("permission asked")
        elif isinstance(event, ApiRetry):
            turn.add_event("API retried", {"attempt": event.attempt, "status": event.status or 0})


def _describe(span: Span, scope: Scope, status: int) -> None:
    route = getattr(scope.get("route"), "path", "")
    span.update_name(f"{scope['method'][:16]} {route}".strip())
    span.set_attribute("http.request.method", scope["method"][:16])
    span.set_attribute("http.response.status_code", status)
    if route:
        span.set_attribute("http.route", route)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))
