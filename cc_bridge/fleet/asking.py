"""The permission requests of one instance, until they are decided or need no decision any more."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from ..bridge.permissions import Permissions
from ..decisions import Decision, Deny
from ..events import PermissionRequest
from ..logs import Log

__all__ = ["Asking"]


#: Of the event loop, for whoever reads to see a request before it is decided.
_TURNS = 3


class Asking:
    """Has each open request decided once, beside the reading.

    Args:
        own: what decides in time by the instance's own ``on_permission``; None: it has none.
        decide: decides for all others, in its own time.
        start_soon: runs a task beside.
        decided: told each decision, which is to be passed on; None: it could not be decided.
    """

    def __init__(
        self,
        own: Permissions | None,
        decide: Callable[[str, PermissionRequest], Awaitable[Decision]],
        start_soon: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        decided: Callable[[PermissionRequest, Decision | None], Awaitable[None]],
    ) -> None:
        self._own = own
        self._decide = decide
        self._start_soon = start_soon
        self._decided = decided
        self._heard: dict[str, tuple[str, PermissionRequest]] = {}  # that may be open
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._failures: dict[str, Exception] = {}
        self._log = Log("", "fleet")

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._heard

    def __len__(self) -> int:
        return len(self._heard)

    @property
    def decides_itself(self) -> bool:
        """The instance has an ``on_permission`` of its own."""
        return self._own is not None

    def pop_failure(self, request_id: str) -> Exception | None:
        """What the instance's own ``on_permission`` has raised."""
        return self._failures.pop(request_id, None)

    def heard(self, turn: str, request: PermissionRequest) -> None:
        """Claude Code has asked, maybe long ago."""
        self._heard[request.request_id] = turn, request

    def look(self, is_open: Callable[[str], bool], *, may_begin: bool) -> None:
        """Have decided what nobody has; and ask no longer what needs no decision any more.

        Args:
            is_open: whether a request waits for a decision.
            may_begin: what is known is of now, and not of the past.
        """
        for request_id, (turn, request) in list(self._heard.items()):
            if not is_open(request_id):
                del self._heard[request_id]
                if scope := self._scopes.get(request_id):
                    scope.cancel()
            elif request_id not in self._scopes and may_begin:
                scope = self._scopes[request_id] = anyio.CancelScope()
                self._start_soon(partial(self._have_decided, scope, turn, request))

    def pause(self) -> None:
        """Nobody attends to the instance for now; what is open is asked again when somebody does."""
        for scope in self._scopes.values():
            scope.cancel()

    async def _have_decided(self, scope: anyio.CancelScope, turn: str, request: PermissionRequest) -> None:
        permissions = self._own or Permissions(partial(self._decide, turn), math.inf)
        try:
            with scope:
                for _ in range(_TURNS):
                    await anyio.lowlevel.checkpoint()
                answer = await permissions.ask(request, anyio.sleep_forever)
                if answer.failure is not None:
                    self._failures[request.request_id] = answer.failure
                self._heard.pop(request.request_id, None)
                await self._decided(request, answer.decision)
        except Exception as failure:  # a mistake of ours or a caller's: it must not end the fleet, and allow nothing
            self._failures[request.request_id] = failure
            self._log.error("permission_not_decided", tool=request.tool_name, reason=repr(failure)[:500])
            await self._decided(request, Deny("It could not be decided."))
        finally:
            del self._scopes[request.request_id]
