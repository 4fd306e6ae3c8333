"""Events as JSON: what streams, webhooks and results are made of."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from ..events import Event, TurnResult
from ..fleet import Heard
from ..values import Value
from .sse import sse

__all__ = ["event_fields", "event_json", "event_type", "result_json", "sse_event", "together"]

#: Bytes that are sent at once: each sending is a system call, and a client that is slow holds up no more than this.
_AT_ONCE = 64 * 1024

_BEFORE_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@cache
def event_type(kind: type[Event]) -> str:
    """What events of this class are called: ``text_delta`` for :class:`~cc_bridge.TextDelta`."""
    return _BEFORE_CAPITAL.sub("_", kind.__name__).lower()


def event_fields(event: Event) -> dict[str, Any]:
    """The event's fields as JSON types."""
    fields = {name: _plain(value) for name, value in event.as_dict().items()}
    if isinstance(event, TurnResult):
        fields["ok"] = event.ok
    return fields


def result_json(result: TurnResult, at: str, cost_usd: float) -> dict[str, Any]:
    """The end of a turn as it is kept.

    Args:
        at: the position of the event; whoever has it has the whole turn.
        cost_usd: of this turn; the event's own is of the session so far.
    """
    return {**event_fields(result), "at": at, "cost_usd": cost_usd}


def event_json(heard: Heard) -> dict[str, Any]:
    """The event with its type, its turn and its position."""
    kind = event_type(type(heard.event))
    return {"type": kind, "turn": heard.turn, "at": str(heard.at), **event_fields(heard.event)}


def sse_event(heard: Heard) -> bytes:
    """The event as a server-sent one, whose id is its position."""
    data = event_json(heard)
    return sse(data["type"], data, data["at"])


def together(batch: Iterable[Heard]) -> Iterator[bytes]:
    """Events that are there at the same time, as few pieces as they fit in."""
    pieces: list[bytes] = []
    size = 0
    for heard in batch:
        pieces.append(sse_event(heard))
        size += len(pieces[-1])
        if size >= _AT_ONCE:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Value):
        return {name: _plain(item) for name, item in value.as_dict().items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
