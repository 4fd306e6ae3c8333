"""Hearing what an instance of a fleet says, and having it say no more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress

from ..errors import BridgeError, PositionGone
from ..instances.bridged import BridgedInstance
from .attended import Attended
from .feed import FeedPosition, Heard
from .reader import FeedReader

__all__ = ["hear", "hear_turn", "interrupt_quietly"]


async def interrupt_quietly(instance: BridgedInstance) -> None:
    """End its running turn; one that cannot be reached costs nothing that could be stopped."""
    with suppress(BridgeError):
        await instance.interrupt()


async def hear_turn(attended: Attended, turn: str, position: FeedPosition | None) -> AsyncGenerator[list[Heard], None]:
    """What it says in one turn, up to the turn's result; see ``Fleet.batches``."""
    reader = await attended.read_turn(turn, position)
    try:
        while found := await reader.read():
            yield found
    finally:
        await reader.aclose()


async def hear(attended: Attended, position: FeedPosition | None) -> AsyncGenerator[list[Heard], None]:
    """All that it says after a position, or from now on; see ``Fleet.batches``."""
    in_memory = position is None or attended.feed.index_after(position) is not None
    if position is not None and not in_memory and not position.journal:
        what = "what is before an agent was reached is kept nowhere"
        raise PositionGone(what, instance=attended.instance_name)
    await attended.listen(start=not in_memory)
    try:
        start = attended.feed.end if position is None else None
        reader = FeedReader(attended, index=start, after=position)
        try:
            while True:
                yield await reader.read()
        finally:
            await reader.aclose()
    finally:
        attended.unlisten()
