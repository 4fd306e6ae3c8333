"""Hearing what an instance of a fleet says, and having it say no more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress

import anyio

from ..errors import BridgeError, PositionGone
from ..instances.bridged import BridgedInstance
from .attended import Attended
from .feed import FeedPosition, Heard
from .reader import FeedReader

__all__ = ["interrupt_quietly", "listen_to", "look_at", "look_at_all"]

#: How many instances are looked at at once.
_AT_ONCE = 20


async def interrupt_quietly(instance: BridgedInstance) -> None:
    """End its running turn; one that cannot be reached costs nothing that could be stopped."""
    with suppress(BridgeError):
        await instance.interrupt()


async def look_at_all(names: Iterable[str], look: Callable[[str], Awaitable[None]]) -> None:
    """Look at instances, some at once."""
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def look_at_one(name: str) -> None:
        async with limit:
            await look(name)

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(look_at_one, name)


async def look_at(instance: BridgedInstance, attended: Attended) -> bool:
    """Whether it has something to do, which somebody should attend to; one that is awake without that has a seat.

    Raises:
        InvalidInput: its record cannot be read.
    """
    activity = await instance.get_activity()
    is_busy = bool(activity["turn"] or activity["waiting"])
    if activity["last_activity"] and not is_busy:
        attended.found_awake()
    return is_busy


def listen_to(attended: Attended, position: FeedPosition | None, turn: str | None) -> AsyncGenerator[list[Heard], None]:
    """What it says; see ``Fleet.batches``."""
    return _hear(attended, position) if turn is None else _hear_turn(attended, turn, position)


async def _hear_turn(attended: Attended, turn: str, position: FeedPosition | None) -> AsyncGenerator[list[Heard], None]:
    """What it says in one turn, up to the turn's result."""
    reader = await attended.read_turn(turn, position)
    try:
        while found := await reader.read():
            yield found
    finally:
        await reader.aclose()


async def _hear(attended: Attended, position: FeedPosition | None) -> AsyncGenerator[list[Heard], None]:
    """All that it says after a position, or from now on."""
    in_memory = position is None or attended.feed.index_after(position) is not None
    if position is not None and not in_memory and not position.journal:
        what = "what is before an agent was reached is kept nowhere"
        raise PositionGone(what, instance=attended.instance_name)
    # Before anything else happens: what is in memory now is not forgotten while somebody lacks it.
    reader = FeedReader(attended, after=position) if position is not None and in_memory else None
    try:
        await attended.listen(start=not in_memory)
        try:
            reader = reader or FeedReader(attended, index=None if position else attended.feed.end, after=position)
            while True:
                yield await reader.read()
        finally:
            attended.unlisten()
    finally:
        if reader is not None:
            await reader.aclose()
