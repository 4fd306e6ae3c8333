"""Which turns an agent keeps, asked over a connection of its own."""

from __future__ import annotations

import anyio

from ..errors import AgentUnavailable
from ..protocol.link import Status
from ..turn import TurnInfo
from .connection import Connection

__all__ = ["ask_for_turns"]

#: Seconds for the answer.
_STATUS_LIMIT = 10.0


async def ask_for_turns(connection: Connection, instance: str) -> list[TurnInfo]:
    """The turns that the agent keeps. What else comes meanwhile is dropped; the connection stays open.

    Raises:
        AgentUnavailable: it does not answer in time.
        ConnectionLost: the connection broke.
    """
    connection.link.ask_status()
    await connection.write()
    deadline = anyio.current_time() + _STATUS_LIMIT
    while (link_events := await connection.receive(deadline)) is not None:
        for event in link_events:
            if isinstance(event, Status):
                return [TurnInfo(*turn) for turn in event.turns]
    raise AgentUnavailable("the agent does not say what it keeps", instance=instance)
