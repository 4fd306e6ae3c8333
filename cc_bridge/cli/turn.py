"""One turn, shown as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ..events import TurnResult
from .session import TIMED_OUT

if TYPE_CHECKING:
    from ..instance import InstanceInterface
    from .display import Display

__all__ = ["show_turn"]


async def show_turn(instance: InstanceInterface, text: str, display: Display, timeout: float | None) -> int:
    """Send a command and show its events; the exit code.

    Raises:
        BridgeError: the turn did not complete, or could not begin.
    """
    ended = False
    with anyio.move_on_after(timeout):
        async with await instance.submit(text) as turn:
            async for event in turn:
                display.event(event)
                ended = isinstance(event, TurnResult)
    if not ended:
        display.note(f"interrupted after {timeout:g} s")
        return TIMED_OUT
    turn.raise_for_result()
    return 0
