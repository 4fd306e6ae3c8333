"""What an instance's turns end is kept before their results are told: each once, whoever reads it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from ..events import Event, TurnResult
from ..logs import Log
from ..protocol.remembered import drop_oldest
from ..turn import Keep
from .feed import Feed

__all__ = ["Keeping"]


class Keeping:
    """Holds whole answers in a feed until they are kept.

    Args:
        feed: the instance's.
        before_result: what makes what keeps a turn's end, of its id; None: nothing has to be kept now.
        start_soon: runs a task beside.
        changed: called when the feed has told something, and there may be nothing left to keep.
    """

    def __init__(
        self,
        feed: Feed,
        before_result: Callable[[], Callable[[str], Keep] | None],
        start_soon: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        changed: Callable[[], None],
        log: Log,
    ) -> None:
        self._feed = feed
        self._before_result = before_result
        self._start_soon = start_soon
        self._changed = changed
        self._log = log
        self._to_keep: dict[str, Keep] = {}
        self._is_at_it = False
        self._one_by_one = anyio.Lock()
        self._outcomes: dict[str, str] = {}  # why turns do not count that were kept lately; empty: they do

    def __bool__(self) -> bool:
        """Something is being kept."""
        return self._is_at_it

    def holds(self, event: Event) -> bool:
        """The event is to be told when :meth:`heard` has kept what it ends."""
        return isinstance(event, TurnResult) and event.ok and self._before_result() is not None

    def heard(self, turn: str, result: TurnResult) -> None:
        """Keep what has ended, beside; then its result is told, if it is held."""
        self._begin(turn if self.holds(result) else "")  # one copy does for all that nobody waits for

    def keep_what_is_there(self) -> None:
        """The same, of turns whose results were told without it."""
        self._begin("")

    def _begin(self, turn: str) -> None:
        if (make := self._before_result()) is None or turn in self._to_keep:
            return
        if not self._is_at_it:
            self._start_soon(self._keep_all)
            self._is_at_it = True
        self._to_keep[turn] = make(turn)

    async def heard_again(self, turn: str) -> str:
        """Before a whole answer is told that is read again: why it does not count; empty: it does."""
        if (make := self._before_result()) is None:
            return ""
        return await self._kept(turn, make(turn))

    def tell_all(self) -> None:
        """What is held is told now: where the conversation does not go on, it need not be kept."""
        while (held := self._feed.held) is not None:
            self._feed.tell(held.turn, "")

    async def _keep_all(self) -> None:
        """One after the other."""
        while self._is_at_it:
            turn = next(iter(self._to_keep))
            why = await self._kept(turn, self._to_keep.pop(turn))
            while (held := self._feed.held) is not None and held.turn == turn:  # an agent may say an end twice
                self._feed.tell(turn, why)
            self._is_at_it = bool(self._to_keep)
            self._changed()

    async def _kept(self, turn: str, keep: Keep) -> str:
        """Why a turn does not count."""
        async with self._one_by_one:
            if turn not in self._outcomes:
                try:
                    why = await keep()
                except Exception as failure:  # a mistake of ours must neither end the fleet nor leave a result untold
                    self._log.error("turn_not_kept", reason="".join(traceback.format_exception(failure)))
                    why = f"it could not be kept: {failure!r}"
                if not turn:
                    return why
                self._outcomes[turn] = why
                drop_oldest(self._outcomes)
            return self._outcomes[turn]
