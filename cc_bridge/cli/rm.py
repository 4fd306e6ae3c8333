"""``cc-bridge rm``: remove instances and all that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import anyio.to_thread

from ..errors import BridgeError, InvalidInput
from . import options as o
from .parameters import Option
from .session import report, run_async

if TYPE_CHECKING:
    from ..instance import InstanceInterface
    from ..instances.worktrees import Worktree
    from .display import Display

__all__ = ["rm"]


def rm(
    names: o.Names,
    force: Annotated[bool, Option("--force", "-f", help="Also where it runs, or its record is broken.")] = False,
    conversation: Annotated[bool, Option("--conversation", help="Also the conversation.")] = False,
    worktree: Annotated[
        bool, Option("--worktree", help="Also its git worktree, with what was not committed there.")
    ] = False,
) -> None:
    """Remove instances: container, pipes and home. The workspace is not touched.

    One that cannot be removed does not keep the others; the exit code is that of the first.

    A git worktree that was made for the instance goes, too, when its branch is merged; the branch stays.

    The conversation is kept for 30 days: `cc-bridge up` with the same name goes on with it.
    """
    from ..instances.registry import Registry
    from .display import Display

    async def main() -> int:
        codes = []
        with Display() as display:
            for name in names:
                try:
                    await remove(name, display)
                except BridgeError as error:  # the others go all the same
                    codes.append(report(error))
                else:
                    print(name)
        return codes[0] if codes else 0

    async def remove(name: str, display: Display) -> None:
        try:
            Registry().load(name)
        except InvalidInput:  # its record is broken; whatever else is wrong must not cost the conversation
            if not force or name not in Registry().names():
                raise
            await _remove_broken(name, display, conversation=conversation)
            return
        instance = o.load(name, display)
        try:
            if not force and await _runs(instance):
                raise InvalidInput("it is running", instance=name, hint="Stop it first, or use --force.")
            await instance.remove(conversation=conversation)
        finally:
            await instance.release()
        if (tree := instance.worktree()) is not None:
            await anyio.to_thread.run_sync(_remove_worktree, tree, worktree, display)

    run_async(main)


def _remove_worktree(tree: Worktree, force: bool, display: Display) -> None:
    if force or tree.is_merged():
        tree.remove(force=force)
    else:
        display.note(f"{tree.path} stays: the branch {tree.branch} is not merged, or has something uncommitted")


async def _remove_broken(name: str, display: Display, *, conversation: bool) -> None:
    from ..instances.broken import remove_broken
    from ..instances.registry import Registry

    session = await remove_broken(Registry(), name, conversation=conversation)
    if session and conversation:
        display.note(f"{name}: its transcript, {session}, may be in Claude Code's own directory, and stays there")
    elif session:
        display.note(f"{name}: its conversation stays; `cc-bridge up --resume {session}` goes on with it")


async def _runs(instance: InstanceInterface) -> bool:
    return bool((await instance.get_info())["status"] == "running")
