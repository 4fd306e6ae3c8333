"""Server-sent events as a client takes them. Sans-I/O: bytes in, events out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .errors import ServiceError
from .shapes import Change, Event

__all__ = ["Stream", "as_change"]

#: Bytes of one event; the largest that the service sends is smaller.
_LARGEST = 64 * 1024 * 1024

_INTERNAL = 500


class Stream:
    """A stream that may be broken off and gone on with.

    Args:
        after: the place of the last event that is known; empty: from the first, or from now on.
        ends: its last event is a ``turn_result``.

    Attributes:
        after: as above, of what was taken so far.
        ended: there is nothing more to come.
    """

    def __init__(self, after: str = "", *, ends: bool = False) -> None:
        self.after = after
        self.ended = False
        self._ends = ends
        self._rest = bytearray()
        self._lines: list[tuple[str, str]] = []

    @property
    def headers(self) -> dict[str, str]:
        """Of a request that goes on with it; what was left over of the connection before is forgotten."""
        self._rest.clear()
        self._lines.clear()
        return {"Accept": "text/event-stream", **({"Last-Event-ID": self.after} if self.after else {})}

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are whole now.

        Raises:
            ServiceError: the service says that it cannot go on; or one is too large.
        """
        # Not str.splitlines: it also ends lines at characters that JSON leaves as they are.
        self._rest += data
        if len(self._rest) > _LARGEST:
            raise ServiceError(_INTERNAL, {"detail": f"an event has more than {_LARGEST} bytes"})
        *lines, rest = self._rest.split(b"\n") if b"\n" in data else (self._rest,)
        self._rest = bytearray(rest)
        for line in lines:
            if event := self._line(bytes(line).decode("utf-8", "replace")):
                yield event

    def _line(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            self._lines.append((name, value.removeprefix(" ")))
            return None
        fields = dict(self._lines)
        self._lines.clear()
        return self._event(fields) if "data" in fields else None

    def _event(self, fields: dict[str, str]) -> Event | None:
        kind, data = fields.get("event", ""), _parsed(fields["data"])
        if kind == "bye":  # it stops, and the stream ends; another one is there soon
            return None
        if kind == "error":
            raise ServiceError(int(data.get("status") or _INTERNAL), data)
        self.after = fields.get("id") or self.after
        self.ended = self._ends and kind == "turn_result"
        return Event(kind, str(data.get("turn") or ""), fields.get("id", ""), data)


def as_change(event: Event) -> Change:
    """What an event of ``/v1/events`` says."""
    instance: Any = {name: value for name, value in event.data.items() if name != "type"}
    return Change(str(event.data.get("name") or ""), instance if event.type == "instance" else None)


def _parsed(data: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ServiceError(_INTERNAL, {"detail": "an event is no JSON object"})
    return found
