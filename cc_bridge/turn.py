"""A command on its way: what callers hold while its answer comes."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Protocol, Self

import anyio

from .errors import ApiError, ClaudeStartError, NotLoggedIn, TurnError, TurnFailed, TurnInterrupted
from .events import Event, PermissionRequest, TurnResult, Verdict

__all__ = ["Turn", "TurnSource"]

#: Seconds that leaving a turn early may take: an interrupt, the end of the output, and a kill in between.
_LEAVE_LIMIT = 30.0

#: What Claude Code says where it has no login (2.1.197 and 2.1.329), in lower case.
_LOGIN_WORDS = ("not logged in", "/login", "invalid api key", "authentication_error")


class TurnSource(Protocol):
    """Where a turn's events come from: the bridge."""

    @property
    def instance_name(self) -> str:
        """For error messages."""

    async def wait_for_events(self, turn_id: str) -> list[Event]:
        """At least one event of the turn."""

    async def decide(self, request: PermissionRequest) -> None:
        """Have a permission request decided."""

    async def abandon(self, turn_id: str) -> None:
        """Interrupt the turn, wait until it is over, and forget it."""


class Turn:
    """An asynchronous iterator over a turn's events, the last of which is its result.

    Use it with ``async with``: leaving it early interrupts the turn, and returns when it is over.
    Not for two consumers at once.
    """

    def __init__(self, source: TurnSource, turn_id: str) -> None:
        self.id = turn_id
        self._source = source
        self._events: deque[Event] = deque()
        self._result: TurnResult | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises as ``InstanceInterface.stream`` says; a cancelled call has taken nothing."""
        while not self._events:
            if self._result is not None:
                raise StopAsyncIteration
            self._events.extend(await self._source.wait_for_events(self.id))
        event = self._events[0]
        if isinstance(event, PermissionRequest):
            await self._source.decide(event)
        elif isinstance(event, TurnResult):
            self._result = event
        self._events.popleft()
        return event

    async def result(self) -> TurnResult:
        """Read to the end; the turn's result."""
        async for _ in self:
            pass
        assert self._result is not None
        return self._result

    def raise_for_result(self) -> None:
        """Nothing for a whole answer, else the error that fits.

        Raises:
            TurnError, NotLoggedIn, ClaudeStartError: as they say.
        """
        result = self._result
        if result is None or result.ok:
            return
        name = self._source.instance_name
        if any(word in result.error.lower() for word in _LOGIN_WORDS):
            raise NotLoggedIn(result.error, instance=name)
        if result.exit_code and result.verdict is Verdict.FAILED and not result.text:
            raise ClaudeStartError(result.error, instance=name, hint="`cc-bridge doctor` checks what it needs.")
        kind: type[TurnError] = TurnFailed
        if result.verdict is Verdict.INTERRUPTED:
            kind = TurnInterrupted
        elif result.api_status is not None:
            kind = ApiError
        error = kind(result.error, instance=name, text=result.text, session_id=result.session_id)
        if isinstance(error, ApiError):
            error.status = result.api_status
        raise error

    async def aclose(self) -> None:
        """End the turn if it has not ended; return when it has. Shielded, and bounded in time."""
        if self._result is None:
            with anyio.move_on_after(_LEAVE_LIMIT, shield=True):
                await self._source.abandon(self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
