"""The way to an agent, over as many connections as it takes: position, tries and pauses.

It knows nothing of turns. What is said over :attr:`Uplink.link` may be lost with a connection; the agent takes an input
once by its id, so whoever says it again after a reconnect says it safely. What is received has no gaps and no repeats
as long as each connection resumes where the last one ended.
"""

from __future__ import annotations

import math

import anyio

from ..errors import ConnectionLost
from ..logs import Log
from ..protocol.link import Link, LinkEvent, Position
from .connection import Connection, FramesGone, this_program
from .surroundings import Dialer

__all__ = ["Uplink", "pause_after"]

#: Seconds for which a connection that was lost is tried again, and the longest pause between two tries.
_RESUME_LIMIT = 30.0
_LONGEST_PAUSE = 2.0


class Uplink:
    """At most one connection to an agent, and where the next one is to begin.

    Safe to use from several tasks, of which one at a time connects, improves or receives.

    Args:
        position: where the first connection may resume.
        patience: seconds for which a connection that was lost is tried again; None: 30.
        only_looks: says so in its hellos.
        session: the agent's session to talk to.

    Attributes:
        agent_version: what the agent said in its last hello; None: there was none.
        continues: the connection was made while a position was known, and begins there or at a turn's first frame.
    """

    def __init__(
        self,
        dialer: Dialer,
        log: Log,
        position: Position | None = None,
        patience: float | None = None,
        *,
        only_looks: bool = False,
        session: str = "main",
    ) -> None:
        self._dialer = dialer
        self._log = log
        self._only_looks = only_looks
        self._session = session
        self._writing = anyio.Lock(fast_acquire=True)  # must not cost a turn of the event loop for each event
        self._connection: Connection | None = None
        self._patience = patience
        self._position = position  # of the connection that was lost
        self._lost_since: float | None = None
        self._failures = 0  # to connect again, since something came
        self.agent_version: str | None = None
        self.continues = False

    @property
    def connection(self) -> Connection | None:
        """The one in use."""
        return self._connection

    @property
    def channel_kind(self) -> str | None:
        """Of the channel in use; None: not connected."""
        return self._connection.channel.kind if self._connection else None

    @property
    def link(self) -> Link | None:
        """To say something over, before :meth:`write`; None: nobody is connected to hear it."""
        if self._connection is None or self._connection.link.closed:
            return None
        return self._connection.link

    @property
    def position(self) -> Position | None:
        """The last frame that came; None: nothing can be resumed."""
        return self._connection.link.position if self._connection else self._position

    @property
    def caught_up(self) -> bool:
        """All has come that the agent had when it was connected to."""
        connection = self._connection
        return connection is not None and connection.link.last_seq >= connection.hello.seq

    async def connect(self, *, resume: bool, turn: str = "", fence: int | None = None) -> Connection:
        """Connect, after a pause where that has just failed.

        A cancellation leaves no connection behind.

        Args:
            resume: after the last frame that came, which must be known (:attr:`position`).
            turn: otherwise from the first frame of this input's turn; empty: from now on.
            fence: of this program's lease.

        Raises:
            LeaseLost: another program has a higher fence.
            FramesGone: these frames are not kept; the next connection begins anew.
            AgentUnavailable, ConnectionLost, ProtocolError, EngineError: it failed.
        """
        if self._failures > 1:  # the first time at once
            await anyio.sleep(pause_after(self._failures))  # back-off: the other side needs time
        after = self._position if resume else None
        turn = "" if after else turn
        link = self._link(after, fence, turn or None)
        try:
            return self._use(await Connection.open(link, self._dialer.connect, self._dialer.name))
        except FramesGone:
            self._position = None
            raise

    async def improve(self) -> Connection | None:
        """Change to a better channel without a gap; None: there is no better one now, or nothing to improve."""
        current = self._connection
        if current is None:
            return None
        better = self._link(current.link.position, current.link.fence)
        better.greet()
        channel = await self._dialer.connect_better(current.channel.kind, better.data_to_send())
        if channel is not None and self._connection is not current:  # somebody has closed it meanwhile
            with anyio.CancelScope(shield=True):
                await channel.aclose()
            return None
        if channel is None:
            return None
        await self.disconnect()
        return self._use(await Connection.welcome(better, channel, self._dialer.name))

    async def receive(self, deadline: float = math.inf) -> list[LinkEvent] | None:
        """The events in what comes next, perhaps none; None: the deadline has passed.

        Raises:
            ConnectionLost: nothing more will come over this connection, or there is none.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionLost("the connection to the agent broke", instance=self._dialer.name)
        link_events = await connection.receive(deadline)
        if link_events:
            self._lost_since, self._failures = None, 0
        return link_events

    def set_deadline(self, deadline: float) -> None:
        """An earlier deadline for whoever receives now."""
        if self._connection is not None:
            self._connection.set_deadline(deadline)

    async def write(self) -> None:
        """Send what the link has to say; nothing where nobody is connected. A cancellation tears no frame.

        Raises:
            ConnectionLost: it cannot be sent.
        """
        async with self._writing:
            if self._connection is not None:
                await self._connection.write()

    async def disconnect(self) -> None:
        """Close the connection, and keep its position."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._position = connection.link.position
            await connection.aclose()

    def forget(self) -> None:
        """The next connection begins anew, and at once."""
        self._position = None
        self._lost_since, self._failures = None, 0

    def go_on_from(self, position: Position | None) -> None:
        """The next connection may resume here, although it was forgotten."""
        self._position = position

    def count_loss(self, *, resumable: bool) -> bool:
        """A connection was lost, or could not be made; whether to connect again and resume.

        Args:
            resumable: somebody needs what follows the last frame. Otherwise, and when patience is at its end without
                anything received, the position is forgotten.
        """
        now, limit = anyio.current_time(), _RESUME_LIMIT if self._patience is None else self._patience
        if self._lost_since is None:
            self._lost_since = now
        if resumable and self._position is not None and now - self._lost_since < limit:
            self._failures += 1
            return True
        self._lost_since, self._failures = None, 0
        self._position = None
        return False

    def check(self, *, sends: bool) -> None:
        """What is given to an agent that has gone could not be given to the next one: it might have run.

        Args:
            sends: something is about to be given to it.

        Raises:
            ConnectionLost: it has gone, while nobody was listening.
        """
        if sends and self._connection is not None and self._connection.channel.has_ended:
            raise ConnectionLost("the agent has ended", instance=self._dialer.name)

    def _link(self, after: Position | None, fence: int | None, turn: str | None = None) -> Link:
        return Link(self._session, after=after, turn=turn, host=this_program(), looks=self._only_looks, fence=fence)

    def _use(self, connection: Connection) -> Connection:
        hello = connection.hello
        self._connection, self.agent_version = connection, hello.agent
        self.continues = hello.resumed and self._position is not None
        if connection.early:
            self._lost_since, self._failures = None, 0
        self._log.info(
            "connected", channel=connection.channel.kind, agent=hello.agent, claude=hello.state, resumed=hello.resumed
        )
        return connection


def pause_after(failures: int) -> float:
    """Seconds to wait before the next try to connect."""
    return min(_LONGEST_PAUSE, math.ldexp(0.01, min(failures, 100)))
