"""What an attendant sees of its fleet."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from ..decisions import Decision
from ..events import PermissionRequest, TurnResult
from .accounts import Accounts
from .desk import Desk
from .states import InstanceState

__all__ = ["HostOf"]


class _StartSoon(Protocol):
    def __call__(self, task: Callable[[], Coroutine[Any, Any, None]], /) -> None: ...


@dataclass(frozen=True)
class HostOf:
    """The :class:`~.attended.Host` of one instance.

    Args:
        name: by which the fleet calls it.
        ended: told each turn that has ended, with its result and its process.
    """

    name: str
    project: str
    patience: float
    start: _StartSoon
    accounts: Accounts
    desk: Desk
    tell: Callable[[InstanceState], None]
    ended: Callable[[str, TurnResult, str], None]

    def start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until it ends, or the fleet does."""
        self.start(task)

    def check(self) -> None:
        """Raises what forbids another command."""
        self.accounts.check(self.name, self.project)

    async def decide(self, turn: str, request: PermissionRequest) -> Decision:
        """At the desk."""
        return await self.desk.decide(self.name, turn, request)

    def turn_ended(self, turn: str, result: TurnResult, process: str) -> None:
        """A turn has ended."""
        self.ended(turn, result, process)

    def does(self, state: InstanceState) -> None:
        """What the instance does now."""
        self.tell(state)
