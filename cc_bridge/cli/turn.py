"""One turn, shown as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..events import TurnResult
from ..protocol.prompt import check_prompt
from .session import TIMED_OUT

if TYPE_CHECKING:
    from ..instance import InstanceInterface
    from ..protocol.blocks import Prompt
    from .display import Display

__all__ = ["read_prompt", "show_turn"]


async def read_prompt(argument: str) -> str:
    """The prompt that was given, or what stdin holds for ``-``; checked before anything is started for it.

    Raises:
        InvalidInput: it cannot be a prompt.
    """
    text = argument if argument != "-" else await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
    check_prompt(text)
    return text


async def show_turn(instance: InstanceInterface, prompt: Prompt, display: Display, timeout: float | None) -> int:
    """Send a command and show its events; the exit code.

    Raises:
        BridgeError: the turn did not complete, or could not begin.
    """
    ended = False
    with anyio.move_on_after(timeout):
        async with await instance.submit(prompt) as turn:
            async for event in turn:
                display.event(event)
                ended = isinstance(event, TurnResult)
    if not ended:
        display.note(f"interrupted after {timeout:g} s")
        return TIMED_OUT
    turn.raise_for_result()
    return 0
