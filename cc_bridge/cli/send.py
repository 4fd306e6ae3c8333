"""``cc-bridge send``: a command to an instance that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio

from ..errors import BridgeError
from ..protocol.prompt import check_prompt
from . import options as o
from .parameters import Argument, Option
from .session import held_signals, run_async
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
            try:
                instance = o.load(name, display, on_permission=asking.decide if asking.is_possible else None)
            except BridgeError as error:
                if posted:
                    error.hint = f"{error.hint} The command was given before that, and is carried out.".lstrip()
                raise
            tools = ",".join([*instance.record.claude.allowed_tools, "TOOL"])  # what is given replaces what was there
            display.how_to_allow = (
                f"`cc-bridge update {name} --allowed-tools {tools}` and `cc-bridge restart {name}` allow it, "
                "and on a terminal you are asked"
            )
            try:
                return await show_turn(instance, whole, display, timeout, posted)
            finally:
                with anyio.CancelScope(shield=True):
                    await instance.release()

    with held_signals() as let_go:  # from the posting on it is to be interrupted, and not to be left
        posted = "" if attach or prompt == "-" else _post(name, prompt)
        run_async(main, on_watching=let_go)


def _post(name: str, prompt: str) -> str:
    """Give it to an instance that waits for one, before all else is loaded; the turn's id, or nothing."""
    from ..instances.outline import Outline

    try:
        check_prompt(prompt)
        outline = Outline.load(name)
    except BridgeError:
        return ""  # said where it is loaded
    # The first turn, and commands of Claude Code's own, may begin a session, which has to be noted at once.
    begins = prompt.lstrip().startswith("/") or outline is None or not (outline.directory / "session").exists()
    if begins or outline is None or outline.in_pane:
        return ""
    from ..bridge.posted import post

    return post(str(outline.directory / "pipes"), prompt)
