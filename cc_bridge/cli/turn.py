"""One turn, shown as it comes."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..errors import BridgeError, TurnNotFound
from ..events import TurnResult
from ..protocol.prompt import check_prompt
from .session import TIMED_OUT

if TYPE_CHECKING:
    from ..instance import InstanceInterface
    from ..instances.bridged import BridgedInstance
    from ..protocol.blocks import Prompt
    from ..turn import Turn
    from .display import Display

__all__ = ["read_prompt", "show_turn"]

#: Seconds for a turn to end that was interrupted; for one to be found by who has given it up.
_END_LIMIT = 20.0
_GIVE_UP_LIMIT = 3.0


async def read_prompt(argument: str) -> str:
    """The prompt that was given, or what stdin holds for ``-``; checked before anything is started for it.

    Raises:
        InvalidInput: it cannot be a prompt.
    """
    text = argument if argument != "-" else await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
    check_prompt(text)
    return text


async def show_turn(
    instance: BridgedInstance, prompt: Prompt, display: Display, timeout: float | None, posted: str = ""
) -> int:
    """Send a command and show its events; the exit code.

    Args:
        posted: the turn's id where the command was given before, or may have been.

    Raises:
        BridgeError: the turn did not complete, or could not begin.
    """
    ended = False
    with anyio.move_on_after(timeout):
        async with await (_found(instance, prompt, posted) if posted else instance.submit(prompt)) as turn:
            try:
                async for event in turn:
                    display.event(event)
                    ended = isinstance(event, TurnResult)
                    if posted and isinstance(event, TurnResult):
                        instance.session_changed(event.session_id)  # who only finds a turn does not note it
            finally:
                if posted and not ended:
                    await _end(turn)
    if not ended:
        display.note(f"interrupted after {timeout:g} s")
        return TIMED_OUT
    turn.raise_for_result()
    return 0


async def _found(instance: InstanceInterface, prompt: Prompt, turn_id: str) -> Turn:
    """The turn of a command that was given before. Who gives up interrupts it, as far as the agent reacts."""
    try:
        return await instance.turn(turn_id)
    except TurnNotFound:  # the agent has ended before it had it
        return await instance.submit(prompt, turn_id)
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(_GIVE_UP_LIMIT, shield=True), suppress(BridgeError):
            await (await instance.turn(turn_id)).interrupt()
        raise


async def _end(turn: Turn) -> None:
    """Interrupt a turn that was found, which is not ended by leaving it."""
    with anyio.move_on_after(_END_LIMIT, shield=True), suppress(BridgeError):
        await turn.interrupt()
