"""The events of one turn, and of one instance, for as long as there are any."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from ..errors import PositionGone, TurnNotFound
from ..events import TurnResult
from .events_json import together
from .sse import sse
from .store.commands import Command

if TYPE_CHECKING:
    from .service import Service

__all__ = ["instance_events", "turn_events"]


async def turn_events(service: Service, command: Command, after: str | None) -> AsyncGenerator[bytes, None]:
    """What is said in a command's turn, up to its result; first, while it waits here, how many come before it.

    Args:
        after: the id of the last event that the client has; None: from the first.
    """
    async for position in _positions(service, command):
        yield sse("waiting", {"type": "waiting", "turn": command.id, "at": "", "position": position})
    try:
        async with aclosing(service.fleet.batches(command.instance, after or None, turn=command.id)) as feed:
            async for batch in feed:
                is_over = isinstance(batch[-1].event, TurnResult)
                # The result is told below, once it is kept: whoever has heard it finds it.
                for piece in together(batch[:-1] if is_over else batch):
                    yield piece
                if is_over:
                    break
    except (TurnNotFound, PositionGone):
        if service.inbox.position(command) is not None:
            raise
    await service.inbox.until_ended(command)
    ended = await service.store.commands.get(command.id)
    result = ended.result if ended is not None else None
    if result is not None:
        data = {"type": "turn_result", "turn": command.id, **result}
        yield sse("turn_result", data, result.get("at", ""))


async def _positions(service: Service, command: Command) -> AsyncGenerator[int, None]:
    """How many come before it, whenever that changes, as long as it waits here."""
    last = None
    while True:
        moved = service.inbox.moved(command)
        position = service.inbox.position_here(command)
        if position is None:
            return
        if position != last:
            last = position
            yield position
        await moved.wait()


async def instance_events(service: Service, name: str, after: str | None) -> AsyncGenerator[bytes, None]:
    """All that an instance says, from now on or after an event, whoever has asked."""
    async with aclosing(service.fleet.batches(name, after or None)) as feed:
        async for batch in feed:
            for piece in together(batch):
                yield piece
