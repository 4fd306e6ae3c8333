"""Copies a conversation out of a task's container, and says where that can never be done any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from .conversation_copy import ConversationCopy
from .task_container import TaskContainer

__all__ = ["copy_of_task"]

#: Seconds after which a copy takes long: then somebody is asked whether its node is there.
_SLOW = 5.0

_TOO_LATE = "its container has ended before the conversation was copied, and is gone on with without it"


async def copy_of_task(
    copy: ConversationCopy, task: TaskContainer, session_id: str, cwd: str, until_gone: Callable[[], Awaitable[None]]
) -> str:
    """Copy what is new of a session; the log says if that fails.

    Args:
        cwd: where its Claude Code started.
        until_gone: returns when the task's node has gone.

    Returns:
        Why what is new is known nowhere else: the container has ended, or its node; empty: it is copied, or there.
    """
    why = _TOO_LATE
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await anyio.sleep(_SLOW)  # back-off: a node that has lost its power ends no connection
            await until_gone()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        why = await _copy(copy, task, session_id, cwd)
        group.cancel_scope.cancel()
    return why


async def _copy(copy: ConversationCopy, task: TaskContainer, session_id: str, cwd: str) -> str:
    began = anyio.current_time()
    for _ in range(2):  # again, because an engine calls a container running for a moment after its processes' end
        if await copy.copy(task.execs, task.id, session_id, cwd):
            return ""
        if not await task.runs():
            return _TOO_LATE
        if anyio.current_time() - began > _SLOW:
            break
    return ""
