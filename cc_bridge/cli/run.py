"""``cc-bridge run``: one command, one answer, nothing left behind."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread

from . import options as o
from . import record_options as r
from .parameters import Argument, Option
from .session import run_async
from .turn import read_prompt, show_turn

__all__ = ["run"]


@r.takes_options
def run(
    options: r.Options,
    prompt: Annotated[str, Argument(metavar="PROMPT", help="The command; '-' reads it from stdin.")],
    timeout: o.Timeout = None,
    as_json: o.Json = False,
    keep: Annotated[bool, Option("--keep", help="Keep the instance; its name is printed on stderr.")] = False,
) -> None:
    """Send one command to a new instance, stream the answer, and leave nothing behind.

    Only the answer goes to stdout; progress and notices go to stderr. On a terminal you are asked for permissions;
    elsewhere, and with --json, they are denied.
    """
    from .asking import Asking
    from .display import Display

    async def main() -> int:
        text = await read_prompt(prompt)
        with Display(as_json) as display:
            record = await options.record(r.new_name(), display, ephemeral=not keep)
            display.how_to_allow = "--allowed-tools TOOL allows it, and on a terminal you are asked"
            asking = Asking(display)
            instance = o.instance_of(record, display, on_permission=asking.decide if asking.is_possible else None)
            display.progress("starting Claude Code")
            async with instance:
                code = await show_turn(instance, text, display, timeout)
            tree = instance.worktree()
            if tree is not None and not keep and await anyio.to_thread.run_sync(tree.is_merged):
                await anyio.to_thread.run_sync(tree.remove)  # nothing new was committed there
            if keep:
                display.note(f"kept as {instance.name}: `cc-bridge send {instance.name} …` goes on")
            return code

    run_async(main)
