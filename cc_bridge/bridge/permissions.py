"""Asking for a permission: a decision in time, or that none is needed any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..errors import BridgeError
from ..events import PermissionRequest
from ..instance import Decision, Deny, OnPermission, decision_of
from ..values import Value

__all__ = ["Answer", "Permissions", "leave_to_others"]


async def leave_to_others(request: PermissionRequest) -> Decision:
    """For a turn of another program's: wait until that program, or a person at the pane, has decided.

    Who follows a turn with this is not counted among those connected, who may decide.
    """
    await anyio.sleep_forever()
    raise AssertionError


class Answer(Value):
    """What has come of asking.

    Attributes:
        decision: None: the request is moot, or cannot be answered now.
        failure: what went wrong, for the reader of the turn.
    """

    decision: Decision | None
    failure: Exception | None = None


class Permissions:
    """Who decides, and in what time.

    Args:
        on_permission: None: everything is denied.
        limit: seconds for it to decide; then the request is denied.
    """

    def __init__(self, on_permission: OnPermission | None, limit: float) -> None:
        self._on_permission = on_permission
        self._limit = limit

    async def ask(self, request: PermissionRequest, until_moot: Callable[[], Awaitable[None]]) -> Answer:
        """Have it decided. An error in ``on_permission`` denies it, and is part of the answer.

        Args:
            until_moot: returns when the request needs no decision any more; a :class:`~cc_bridge.errors.BridgeError`
                of its: the request cannot be answered. Cancelled when a decision has come.
        """
        if self._on_permission is None:
            return Answer(Deny())
        decision: Decision | None = Deny("Nobody has decided in time.")
        failure: Exception | None = None

        async def notice_others() -> None:
            nonlocal decision, failure
            try:
                await until_moot()
            except BridgeError as error:
                failure = error
            decision = None
            scope.cancel()

        # Errors are handed out by hand: a task group would wrap them in an ExceptionGroup.
        async with anyio.create_task_group() as group:
            with anyio.move_on_after(self._limit) as scope:
                group.start_soon(notice_others)
                try:
                    decision = await decision_of(self._on_permission, request)
                except Exception as error:
                    decision, failure = Deny("It could not be decided: asking for it has failed."), error
            group.cancel_scope.cancel()
        return Answer(decision, failure)
