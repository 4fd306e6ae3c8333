"""Has a turn in the copy of its conversation, out of a task's container, and says where that can never be any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..errors import EngineError
from .conversation_copy import ConversationCopy
from .task_container import TaskContainer

__all__ = ["copy_of_task"]

#: Seconds after which a copy takes long: then somebody is asked whether its node is there.
_SLOW = 5.0

#: Seconds in which an engine notices the end of processes that have ended.
_NOTICES = 1.0

#: Seconds for which an engine may say nothing, and between two tries to ask it.
_SILENCE = 60.0
_PAUSE = 1.0

_TOO_LATE = "its container has ended before the conversation was copied, and is gone on with without it"


async def copy_of_task(
    copy: ConversationCopy,
    task: TaskContainer,
    session_id: str,
    cwd: str,
    until_gone: Callable[[], Awaitable[None]],
    turn_id: str = "",
    *,
    ran_there: bool = True,
) -> str:
    """Copy what is new of a session; the log says if that fails.

    Args:
        cwd: where its Claude Code started.
        until_gone: returns when the task's node has gone.
        turn_id: it is to be in the copy; empty: whatever there is.
        ran_there: the turn has run in this container, and no other one.

    Returns:
        Why the turn is known nowhere else: the container has ended, or its node; empty: it is copied, or there.
    """
    if await copy.has(session_id, turn_id):  # since it has ended, for another one or by another program
        return ""
    is_kept = False
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await anyio.sleep(_SLOW)  # back-off: most copies are over by then, and nobody is asked for them
            await until_gone()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        is_kept = await _copy(copy, task, session_id, cwd) and (ran_there or not turn_id)
        group.cancel_scope.cancel()
    return "" if is_kept or await copy.has(session_id, turn_id) else _TOO_LATE


async def _copy(copy: ConversationCopy, task: TaskContainer, session_id: str, cwd: str) -> bool:
    """False: it is not copied, and its container has ended."""
    began, is_again = anyio.current_time(), False
    while True:
        took = anyio.current_time() - began
        if not (is_again and took > _SLOW) and await copy.copy(task.execs, task.id, session_id, cwd):
            return True
        try:
            if await task.ends(_NOTICES):
                return False
            if is_again:
                return True
            is_again = True  # since it runs, what went wrong may have passed
        except EngineError:
            if anyio.current_time() - began > _SILENCE:
                return True
            await anyio.sleep(_PAUSE)  # back-off: its engine does not answer
