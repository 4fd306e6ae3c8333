"""Reads again what an instance has said: from a position, or from the beginning of a turn."""

from __future__ import annotations

from collections import deque
from typing import Protocol, Self

import anyio

from ..bridge.agent_events import AgentEvents
from ..bridge.connection import Connection, FramesGone, this_program
from ..bridge.surroundings import Ending
from ..channels.base import Channel
from ..errors import EngineError, PositionGone
from ..logs import Log
from ..protocol.commands import ReadTranscript
from ..protocol.conversation import Conversation
from ..protocol.link import Link, LinkEvent, Position
from .feed import FeedPosition, Heard, Numbering

__all__ = ["Replay", "Shelf"]


class Shelf(Protocol):
    """Where it can be read."""

    name: str

    async def connect_to_look(self, greeting: bytes) -> Channel:
        """A channel to an agent that runs; ``greeting`` has been sent over it."""

    async def read_transcript(self, session_id: str) -> list[str] | None:
        """The tail of a session's transcript; None if there is none."""


class Replay:
    """One reader's, over a connection of its own. It says nothing to the agent, and touches no turn.

    Attributes:
        read_to: all that came up to this position was handed out.
    """

    def __init__(self, shelf: Shelf, connection: Connection, after: FeedPosition | None) -> None:
        self._shelf = shelf
        self._connection = connection
        self._after = after
        self._conversation = Conversation(adopts=True)
        self._numbering = Numbering()
        self._heard: deque[Heard] = deque()
        self._seq = 0
        self._events = AgentEvents(
            self._conversation, _Nobody(shelf.name), _Unlogged(), follows=True, on_frame=self._collect
        )
        self._events.greeted(connection.hello, anyio.current_time(), continues=False)
        self._early: list[LinkEvent] | None = connection.early

    @classmethod
    async def open(cls, shelf: Shelf, *, after: FeedPosition | None = None, turn: str = "") -> Self:
        """Begin after this position, or with the first event of this turn.

        Raises:
            PositionGone: what was asked for is not kept any more, or never was.
            ChannelError, EngineError: the agent cannot be reached.
        """
        # The turn is read from its beginning: in its middle it could not be understood.
        have = Position(after.seq, after.journal) if after is not None else None
        link = Link(after=have, whole=have is not None, turn=None if have else turn, host=this_program(), looks=True)
        try:
            connection = await Connection.open(link, shelf.connect_to_look, shelf.name)
        except FramesGone as error:
            raise PositionGone(
                f"what it said then is not kept any more: {error.what}",
                instance=shelf.name,
                hint="Read from now on, or a turn by its id; `cc-bridge history` has the conversation's text.",
            ) from None
        return cls(shelf, connection, after)

    @property
    def read_to(self) -> FeedPosition | None:
        """All that comes after this frame is still to be read; None: it has no position."""
        position = self._connection.link.position
        if position is None or self._heard:
            return None
        return FeedPosition.after_frame(position.journal, position.seq)

    async def read(self) -> list[Heard]:
        """What comes next, perhaps nothing.

        Raises:
            ConnectionLost: nothing more comes over this connection.
        """
        if self._early is not None:
            link_events, self._early = self._early, None
        else:
            link_events = await self._connection.receive() or []
        self._events.received(link_events, anyio.current_time(), caught_up=True)
        for command in self._conversation.commands():  # nothing else is to be carried out: others do that
            if isinstance(command, ReadTranscript):
                lines = await self._read_transcript(command.session_id)
                self._conversation.receive_transcript(command.turn_id, lines, anyio.current_time())
                self._collect(0)
        taken, self._heard = list(self._heard), deque()
        return taken

    async def aclose(self) -> None:
        """Close the connection."""
        with anyio.CancelScope(shield=True):
            await self._connection.aclose()

    async def _read_transcript(self, session_id: str) -> list[str] | None:
        try:
            return await self._shelf.read_transcript(session_id) if session_id else None
        except EngineError:
            return None

    def _collect(self, seq: int) -> None:
        self._seq = seq or self._seq
        position = self._connection.link.position
        journal = position.journal if position else ""
        for turn, events, _ in self._conversation.turns.fetch_all():
            for event in events:
                at = self._numbering.next(journal, self._seq)
                if self._after is None or at > self._after:
                    self._heard.append(Heard(at, turn, event))


class _Nobody:
    """The place of an agent, where nothing is remembered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.claude_hint: str | None = None

    def pop_ending(self) -> Ending:
        return Ending("")

    def session_changed(self, session_id: str) -> None:
        pass


class _Unlogged(Log):
    """What was, was logged when it was."""

    def __init__(self) -> None:
        super().__init__("", "")

    def _write(self, level: int, event: str, facts: dict[str, object]) -> None:
        pass
