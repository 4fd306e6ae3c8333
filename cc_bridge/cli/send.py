"""``cc-bridge send``: a command to an instance that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio

from ..protocol.prompt import check_prompt
from . import options as o
from .parameters import Argument, Option
from .session import run_async
from .turn import read_prompt, show_turn

if TYPE_CHECKING:
    from ..protocol.blocks import Prompt

__all__ = ["send"]


def send(
    name: o.Name,
    prompt: Annotated[str, Argument(metavar="PROMPT", help="The command; '-' reads it from stdin.")],
    attach: Annotated[
        list[Path] | None,
        Option("--attach", metavar="FILE", help="An image, a PDF or a text that goes with it; may be repeated."),
    ] = None,
    timeout: o.Timeout = None,
    as_json: o.Json = False,
) -> None:
    """Send a command to an instance and stream the answer; it is started if it does not run.

    On a terminal you are asked for permissions; elsewhere, and with --json, they are denied.
    """
    from .asking import Asking
    from .display import Display

    async def main() -> int:
        whole: Prompt = await read_prompt(prompt)
        if attach:
            from ..protocol.blocks import Text, attachment

            whole = [Text(str(whole)), *map(attachment, attach)]
        check_prompt(whole)
        with Display(as_json) as display:
            asking = Asking(display)
            instance = o.load(name, display, on_permission=asking.decide if asking.is_possible else None)
            tools = ",".join([*instance.record.claude.allowed_tools, "TOOL"])  # what is given replaces what was there
            display.how_to_allow = (
                f"`cc-bridge update {name} --allowed-tools {tools}` and `cc-bridge restart {name}` allow it, "
                "and on a terminal you are asked"
            )
            try:
                return await show_turn(instance, whole, display, timeout)
            finally:
                with anyio.CancelScope(shield=True):
                    await instance.release()

    run_async(main)
