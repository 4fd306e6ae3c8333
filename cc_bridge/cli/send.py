"""``cc-bridge send``: a command to an instance that is there."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from . import options as o
from .session import run_async
from .turn import read_prompt, show_turn

__all__ = ["send"]


def send(
    name: o.Name,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The command; '-' reads it from stdin.")],
    timeout: o.Timeout = None,
    as_json: o.Json = False,
) -> None:
    """Send a command to an instance and stream the answer; it is started if it does not run."""
    from .display import Display

    async def main() -> int:
        text = await read_prompt(prompt)
        with Display(as_json) as display:
            instance = o.load(name, display)
            try:
                return await show_turn(instance, text, display, timeout)
            finally:
                with anyio.CancelScope(shield=True):
                    await instance.release()

    run_async(main)
