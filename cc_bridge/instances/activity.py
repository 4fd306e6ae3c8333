"""What an instance does at the moment, learned beside its conversation and without starting anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from ..bridge.connection import Connection, FramesGone, this_program
from ..channels.base import Channel
from ..channels.named_pipe import NobodyListens
from ..errors import AgentUnavailable, ChannelError, ContainerNotFound, ContainerNotRunning, EngineError, InvalidInput
from ..protocol.link import Exited, Link, Position, Status
from ..protocol.unanswered import UnansweredRequests
from ..turn import TurnInfo
from ..values import Value
from .place import NoAgentPossible

if TYPE_CHECKING:
    from ..shapes import InstanceActivity

__all__ = ["NOBODY", "Sight", "Way", "ask_status", "has_ended", "look", "look_quietly", "nothing"]

#: Seconds for all of it.
_LIMIT = 5.0

#: How many of the newest frames are looked at for permission requests, and how many bytes of them at most.
_LATEST = 300
_MOST_BYTES = 32 * 1024 * 1024

#: Characters of a tool's name.
_LONGEST_NAME = 100

#: What a way to look raises where no agent runs.
NOBODY = (NobodyListens, ContainerNotFound, ContainerNotRunning)

Way = Callable[[bytes], Awaitable[Channel]]


class Sight(Value):
    """What was seen.

    Attributes:
        channel: the kind of channel by which it was seen.
        agent: its version.
        status: what the agent says; None: it says nothing (where none can run, something stands in for it).
        asks: the tool that a decision is waited for; empty: none, or it could not be seen in time.
        permissions: how many requests wait for a decision, as far as could be seen in time.
    """

    channel: str
    agent: str
    status: Status | None
    asks: str
    permissions: int = 0

    def describe(self, *, in_pane: bool = False) -> InstanceActivity:
        """In JSON types.

        Args:
            in_pane: a person may have begun a turn of their own, which the agent does not know.
        """
        status = self.status
        found = nothing()
        found["channel"] = self.channel
        found["waiting"] = len(status.queue or ()) if status else 0
        if status is not None and (now := status.now) is not None:
            if now.turn:
                found["activity"] = "permission" if self.asks else "busy"
            elif not in_pane:
                found["activity"] = "asleep" if status.state == "asleep" else "idle"
            found["asks"] = self.asks or None
            found["permissions"] = self.permissions
            found["turn"] = now.turn or None
            found["turn_since"] = _ago(now.seconds)
            found["connected"] = [host or "an unnamed program" for host in now.hosts]
            found["last_activity"] = _ago(now.silent)
        return found

    def turns(self, name: str) -> list[TurnInfo]:
        """The turns that are kept or wait, in their order.

        Args:
            name: the instance's, for errors.

        Raises:
            AgentUnavailable: the agent does not say.
            InvalidInput: there is none to say it.
        """
        status = self.status
        if status is None and self.channel == "direct":
            what = "its image has no Python for an agent, so only the program that began a turn can see it"
            raise InvalidInput(what, instance=name, hint=f"`cc-bridge history {name}` shows what was said.")
        if status is None:
            raise AgentUnavailable("its agent does not say which turns it has", instance=name)
        waiting, now = frozenset(status.queue or ()), status.now
        found = []
        for turn_id, read in status.turns:
            runs = now is not None and turn_id == now.turn
            state = "waiting" if turn_id in waiting else "running" if runs else "" if now is None else "ended"
            found.append(TurnInfo(turn_id, read, state, _ago(now.seconds) if runs and now else None))
        return found


def nothing() -> InstanceActivity:
    """Of an instance that nobody answers for."""
    return {
        "activity": None,
        "asks": None,
        "permissions": 0,
        "turn": None,
        "turn_since": None,
        "waiting": 0,
        "connected": [],
        "last_activity": None,
        "channel": None,
    }


async def look(way: Way, name: str) -> Sight | None:
    """Ask the agent, over a connection of its own; None: no agent runs.

    Args:
        way: makes a channel to an agent that runs, and starts none.

    Raises:
        AgentUnavailable: there is one, and it does not answer in time.
        EngineError: of the container nothing can be learned.
    """
    try:
        sight = await _look(way, name)
    except NOBODY:
        return None
    except NoAgentPossible:
        return Sight("direct", "none", None, "")
    except ChannelError:
        sight = None
    if sight is None:
        raise AgentUnavailable("its agent does not answer", instance=name, hint=f"`cc-bridge doctor {name}` says more.")
    return sight


async def look_quietly(way: Way, name: str) -> Sight | None:
    """The same; None: no agent runs, or nobody answers."""
    try:
        return await look(way, name)
    except (ChannelError, EngineError):
        return None


async def _look(way: Way, name: str) -> Sight | None:
    """What can be seen in time; None: nothing."""
    sight: Sight | None = None
    with anyio.move_on_after(_LIMIT):
        connection = await Connection.open(Link(host=this_program(), looks=True), way, name)
        try:
            kind, agent = connection.channel.kind, connection.hello.agent
            sight = Sight(kind, agent, None, "")
            position = connection.link.position  # none where something stands in for the agent, and does not answer
            with suppress(ChannelError):  # the hello is something, too
                status = await ask_status(connection) if position else None
                sight = Sight(kind, agent, status, "")
        finally:
            await connection.aclose()
        status = sight.status
        if status is not None and status.now is not None and status.now.turn and position is not None:
            with suppress(ChannelError, EngineError):
                sight = Sight(kind, agent, status, *await _asks(way, name, position, status.now.turn))
    return sight


async def has_ended(way: Way, name: str, limit: float) -> bool:
    """Whether Claude Code does not run, or ends within ``limit`` seconds; nobody answers: it does not run."""
    try:
        with anyio.fail_after(_LIMIT):
            connection = await Connection.open(Link(host=this_program(), looks=True), way, name)
    except (ChannelError, EngineError, TimeoutError):
        return True
    try:
        events, runs = connection.early, connection.hello.state == "running"
        with anyio.move_on_after(limit), suppress(ChannelError):
            while runs and not any(isinstance(event, Exited) for event in events):
                events = await connection.receive() or []
            runs = False
        return not runs
    finally:
        await connection.aclose()


async def ask_status(connection: Connection) -> Status | None:
    """What the agent says of its session; None: it says nothing. Bound the time of it.

    Raises:
        ConnectionLost: it has gone.
    """
    if connection.link.closed:  # by what came with the hello
        return None
    connection.link.ask_status()
    await connection.write(shield=False)  # whoever fills the pipe would keep whoever looks waiting
    while not connection.link.closed and (events := await connection.receive()) is not None:
        for event in events:
            if isinstance(event, Status):
                return event
    return None


async def _asks(way: Way, name: str, end: Position, turn: str) -> tuple[str, int]:
    """The tool that the running turn asks for, and how many requests are open, by the newest frames."""
    latest = Position(max(0, end.seq - _LATEST), end.journal)
    try:
        connection = await Connection.open(Link(after=latest, host=this_program(), looks=True), way, name)
    except FramesGone:  # not so many are kept: from the beginning of the turn
        connection = await Connection.open(Link(turn=turn, host=this_program(), looks=True), way, name)
    requests, size = UnansweredRequests(), 0
    try:
        events = connection.early
        while True:
            for event in events:
                requests.receive(event)
                size += getattr(event, "size", 0)
            if connection.link.last_seq >= connection.hello.seq:
                break
            if size > _MOST_BYTES or connection.link.closed or (received := await connection.receive()) is None:
                return "", 0
            events = received
    finally:
        await connection.aclose()
    asked = next(iter(requests.open.values()), None)
    return (asked.tool_name or "a tool")[:_LONGEST_NAME] if asked else "", len(requests.open)


def _ago(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")
