"""What those who watch the permission desk are told, at their own pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import anyio

from ..events import PermissionRequest
from .rules import suggested_rules

__all__ = ["Asked", "Decided", "DeskEvent", "Missed", "Moot", "OpenRequest", "Watch"]

#: Events that wait for a watcher.
_MOST = 1000


@dataclass(frozen=True)
class OpenRequest:
    """A permission request that waits for somebody.

    What is in it was written by a model, or in a container: make it harmless where it is shown.

    Attributes:
        id: the same after a restart of the fleet. Another input, tool, turn or instance has another.
        input: what the tool would be given. None, after a restart and until the instance is attended again: it was too
            long to be kept.
        suggestions: Claude Code's, for :attr:`~cc_bridge.Allow.updates`.
        since: when it was asked first; UTC.
        undecided: why the policies have left it to somebody, or what went wrong with them.
        attended: the instance waits for it at this moment. Otherwise the fleet was restarted, and an answer is kept
            until the instance is attended again.
    """

    id: str
    instance: str
    turn: str
    tool_name: str
    input: Mapping[str, Any] | None
    suggestions: tuple[Any, ...]
    since: datetime
    undecided: str = ""
    attended: bool = True

    @property
    def suggested_rules(self) -> list[str]:
        """The rules that Claude Code suggests, as texts: what "always" writes where no rule is named."""
        return suggested_rules(PermissionRequest("", self.tool_name, self.input or {}, self.suggestions))


@dataclass(frozen=True)
class Asked:
    """A request waits for somebody."""

    request: OpenRequest


@dataclass(frozen=True)
class Decided:
    """A request was decided.

    Attributes:
        allowed: the tool may run.
        by: whoever has decided, as they call themselves.
        how: as :class:`~cc_bridge.AlreadyDecided` has it.
    """

    id: str
    instance: str
    allowed: bool
    by: str
    how: str


@dataclass(frozen=True)
class Moot:
    """A request needs no decision any more: its turn has ended, or somebody has decided it elsewhere."""

    id: str
    instance: str


@dataclass(frozen=True)
class Missed:
    """Events were dropped, because the watcher did not fetch them: list what is open again."""


DeskEvent = Asked | Decided | Moot | Missed


class Watch:
    """An asynchronous iterator over what happens at the desk from now on. Forget it, and it is gone.

    Nobody waits for it: of more than 1,000 events that it has not fetched, all are dropped, and it yields
    :class:`Missed` in their place. Not for two consumers at once.
    """

    def __init__(self) -> None:
        self._events: deque[DeskEvent] = deque()
        self._changed = anyio.Event()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DeskEvent:
        """The next event; there are no more when the desk was closed. A cancelled call has taken nothing."""
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._changed = anyio.Event()
            await self._changed.wait()
        return self._events.popleft()

    def tell(self, event: DeskEvent) -> None:
        """Add an event."""
        if len(self._events) >= _MOST:
            self._events.clear()
            event = Missed()
        self._events.append(event)
        self._changed.set()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._changed.set()
