"""What the instances of a fleet do at the moment, as it knows them: in memory, and nobody is asked for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, Self
from weakref import WeakSet

import anyio

from ..values import Value

__all__ = ["Changes", "InstanceState", "States"]


class InstanceState(Value):
    """What an instance of a fleet does at the moment.

    Attributes:
        state: ``busy``: it has a turn; ``permission``: its turn waits for a decision; ``idle``: its Claude Code has
            nothing to do; ``asleep``: none runs, as far as the fleet knows.
        turn: the id of the turn that it has; None: it has none.
        waiting: how many commands wait for that one, of those that the fleet knows.
        permissions: how many requests wait for a decision.
    """

    state: Literal["busy", "permission", "idle", "asleep"]
    turn: str | None = None
    waiting: int = 0
    permissions: int = 0


class Changes:
    """An asynchronous iterator over the names of instances that do something else now. Forget it, and it is gone.

    A name comes once, however often that has changed since it came last, so who is slow misses nothing that is still
    true. Not for two consumers at once.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._changed = anyio.Event()
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next name; there are no more when the fleet has ended. A cancelled call has taken nothing."""
        while not self._names:
            if self._is_closed:
                raise StopAsyncIteration
            self._changed = anyio.Event()
            await self._changed.wait()
        name = next(iter(self._names))
        del self._names[name]
        return name

    def tell(self, name: str) -> None:
        """Something else is true of this one."""
        self._names[name] = None
        self._changed.set()

    def close(self) -> None:
        """There will be no more."""
        self._is_closed = True
        self._changed.set()


class States:
    """Who watches, and what each instance has told last."""

    def __init__(self) -> None:
        self._watchers: WeakSet[Changes] = WeakSet()
        self._known: dict[str, InstanceState] = {}
        self._is_closed = False

    def of(self, name: str) -> InstanceState:
        """What it has told last."""
        return self._known.get(name, InstanceState("asleep"))

    def tell(self, name: str, state: InstanceState) -> None:
        """It does this now."""
        if self._known.get(name) != state:
            self._known[name] = state
            self._tell(name)

    def teller(self, name: str, *, is_silent: bool) -> Callable[[InstanceState], None]:
        """What tells of this one; ``is_silent``: it is nobody's yet."""
        return (lambda state: None) if is_silent else partial(self.tell, name)

    def forget(self, name: str) -> None:
        """It is none of the fleet's any more."""
        self._known.pop(name, None)
        self._tell(name)

    def watch(self) -> Changes:
        """What changes from now on."""
        changes = Changes()
        if self._is_closed:
            changes.close()
        self._watchers.add(changes)
        return changes

    def close(self) -> None:
        """The fleet ends."""
        self._is_closed = True
        for changes in list(self._watchers):
            changes.close()

    def _tell(self, name: str) -> None:
        for changes in list(self._watchers):
            changes.tell(name)
