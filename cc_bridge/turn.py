"""A command on its way: what callers hold while its answer comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

import anyio

from .errors import ApiError, ClaudeStartError, NotLoggedIn, TurnError, TurnFailed, TurnInterrupted
from .events import Event, PermissionRequest, TextDelta, TurnResult, Verdict
from .values import Value

__all__ = ["Keep", "Turn", "TurnInfo", "TurnSource"]

#: What is done before a whole answer is told; it returns why the answer does not count, or nothing.
Keep = Callable[[], Coroutine[Any, Any, str]]

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
        """Have a permission request decided; harmless when repeated. Raises what ``on_permission`` raises."""

    async def interrupt_turn(self, turn_id: str) -> None:
        """End the turn; return when it is over. Its result is the last of its events."""

    async def abandon(self, turn_id: str) -> None:
        """Interrupt the turn, wait until it is over, and forget it."""

    async def leave(self) -> None:
        """Listen no longer; the turn goes on."""


class TurnInfo(Value):
    """A turn that an instance knows of.

    Attributes:
        id: what ``InstanceInterface.turn`` takes.
        read: somebody has read it to its end.
        state: ``waiting`` for the turns before it, ``running`` or ``ended``; empty: an agent of 0.1.0 does not say.
        since: when a running one began; ISO 8601.
    """

    id: str
    read: bool
    state: str = ""
    since: str | None = None


class Turn:
    """An asynchronous iterator over a turn's events, the last of which is its result.

    Use it with ``async with``. Leaving a turn of one's own early interrupts it, and returns when it is over;
    one that was found by its id (``InstanceInterface.turn``) goes on. Not for two consumers at once.

    Attributes:
        id: a UUID; with it the turn is found again, also by another process.
    """

    def __init__(self, source: TurnSource, turn_id: str, *, found: bool = False) -> None:
        self.id = turn_id
        self._source = source
        self._found = found
        self._events: deque[Event] = deque()
        self._result: TurnResult | None = None
        self._is_left = False  # nobody knows it any more
        self._undecided: PermissionRequest | None = None  # seen; decided when the next event is wanted
        self._keep: Keep | None = None

    def before_result(self, keep: Keep) -> Self:
        """Have something done before the result of a whole answer is given; again where it was cancelled.

        So nothing that is said waits for it, and who has the answer knows that it is done. What it returns, if
        anything, is why the answer does not count: the turn is interrupted then (``TurnResult.discounted``). Where
        there is no whole answer, it is done after the result, before the iteration ends.
        """
        self._keep = keep
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises as ``InstanceInterface.stream`` says; a cancelled call has taken nothing.

        After a :class:`~cc_bridge.PermissionRequest`, the next call has ``on_permission`` decide before it waits. What
        ``on_permission`` raises comes out of that call as it is; the permission is denied, and reading may go on.

        A turn that was left, here or by another task, has no more.
        """
        if self._undecided is not None:
            await self._source.decide(self._undecided)
            self._undecided = None
        while not self._events:
            if self._result is not None:
                await self._kept()
            if self._result is not None or self._is_left:
                raise StopAsyncIteration
            self._events.extend(found := await self._source.wait_for_events(self.id))
            self._is_left = not found
        if isinstance(result := self._events[0], TurnResult) and result.ok:
            self._events[0] = result.discounted(await self._kept())
        event = self._events.popleft()
        if isinstance(event, PermissionRequest):
            self._undecided = event
        elif isinstance(event, TurnResult):
            self._result = event
        return event

    async def _kept(self) -> str:
        why = await self._keep() if self._keep is not None else ""
        self._keep = None
        return why

    async def result(self) -> TurnResult:
        """Read to the end; the turn's result. Its text is whole, however long it is, if nothing was read before.

        Raises:
            TurnInterrupted: it was left before it had one.
        """
        said = [event.text async for event in self if isinstance(event, TextDelta)]
        if self._result is None:
            what = "the turn was left before its end"
            raise TurnInterrupted(what, instance=self._source.instance_name, text="".join(said))
        if self._result.truncated and sum(map(len, said)) > len(self._result.text):
            self._result = self._result.replace(text="".join(said), truncated=False)
        return self._result

    async def interrupt(self) -> None:
        """End the turn, and return when it is over; its result is still to be read."""
        await self._source.interrupt_turn(self.id)

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
        elif isinstance(error, TurnInterrupted):
            error.exit_code, error.out_of_memory = result.exit_code, result.out_of_memory
        raise error

    async def aclose(self) -> None:
        """Leave the turn, as the class says. Shielded, and bounded in time."""
        if self._found:
            await self._source.leave()
        elif self._result is None:
            with anyio.move_on_after(_LEAVE_LIMIT, shield=True):
                await self._source.abandon(self.id)
        self._is_left = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
