"""``cc-bridge send``: a command to an instance that is there."""

from __future__ import annotations

from typing import Annotated

import anyio

from . import options as o
from .parameters import Argument
from .session import run_async
from .turn import read_prompt, show_turn

__all__ = ["send"]


def send(
    name: o.Name,
    prompt: Annotated[str, Argument(metavar="PROMPT", help="The command; '-' reads it from stdin.")],
    timeout: o.Timeout = None,
    as_json: o.Json = False,
) -> None:
    """Send a command to an instance and stream the answer; it is started if it does not run.

    On a terminal you are asked for permissions; elsewhere, and with --json, they are denied.
    """
    from .asking import Asking
    from .display import Display

    async def main() -> int:
        text = await read_prompt(prompt)
        with Display(as_json) as display:
            asking = Asking(display)
            instance = o.load(name, display, on_permission=asking.decide if asking.is_possible else None)
            tools = ",".join([*instance.record.claude.allowed_tools, "TOOL"])  # what is given replaces what was there
            display.how_to_allow = (
                f"`cc-bridge update {name} --allowed-tools {tools}` and `cc-bridge restart {name}` allow it, "
                "and on a terminal you are asked"
            )
            try:
                return await show_turn(instance, text, display, timeout)
            finally:
                with anyio.CancelScope(shield=True):
                    await instance.release()

    run_async(main)
