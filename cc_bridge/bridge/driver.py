"""Drives a conversation over an uplink: connects, starts Claude Code, says what is wanted, and hears what comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import anyio

from ..errors import (
    BridgeError,
    ChannelError,
    ClaudeStartError,
    ConnectionLost,
    EngineError,
    PlacementFailed,
    ProtocolError,
    TurnNotFound,
)
from ..logs import Log
from ..protocol.commands import Command, DeclareDone, EndProcess, ReadTranscript, SendInput, Withdraw
from ..protocol.conversation import Conversation
from ..protocol.link import Exited, Link, LinkEvent, Output, Position, Started, Status
from .agent_events import AgentEvents
from .connection import Connection, FramesGone
from .driving import Driving
from .surroundings import Launch, Surroundings
from .uplink import Uplink

__all__ = ["Driver", "Observer"]

#: Seconds for Claude Code's start, and for an answer of the agent's.
_START_LIMIT = 30.0
_STATUS_LIMIT = 10.0


class Observer(Protocol):
    """Who wants to know of which frames what happens is made."""

    def connected(self, start: Position | None) -> None:
        """The frame with this position was before the first that follows; None: nothing is kept there."""

    def handled(self, seq: int) -> None:
        """A frame of this number was handled; 0: it has none."""


class Driver:
    """The I/O of one conversation.

    One task at a time may use :meth:`make_ready` and :meth:`advance`; :meth:`flush` is for the others.

    Args:
        follow: the id of the only turn, which was sent before; empty: turns are sent by this conversation.
        position: where the first connection may resume.
        claude_runs: as far as is known.
        adopts: the conversation listens to other programs' turns, too, and Claude Code is started only when a turn
            waits for it.
        observer: is told which frames were handled.
        patience: see :class:`~cc_bridge.bridge.uplink.Uplink`.
        only_looks: it is not counted among those connected.

    Attributes:
        conversation: what is driven.
        uplink: over which it is.
        hurry: whoever receives is to return at once, because there is something else to do.
    """

    def __init__(
        self,
        place: Surroundings,
        log: Log,
        conversation: Conversation,
        *,
        follow: str = "",
        position: Position | None = None,
        claude_runs: bool = False,
        adopts: bool = False,
        observer: Observer | None = None,
        patience: float | None = None,
        only_looks: bool = False,
    ) -> None:
        self._place = place
        self._log = log
        self._follow = follow
        self._adopts = adopts
        self._only_looks = only_looks
        self.conversation = conversation
        self.hurry = False
        self.uplink = Uplink(place, log, position, patience, only_looks=only_looks)
        self._driving = Driving(None if follow or only_looks else place.lease, conversation, self.uplink)
        self._observer = observer
        self._events = AgentEvents(
            conversation,
            place,
            log,
            follows=bool(follow),
            claude_runs=claude_runs,
            on_frame=observer.handled if observer else None,
            catches_up=adopts,
        )
        self._carrying_out = anyio.Lock(fast_acquire=True)  # must not cost a turn of the event loop for each event

    def split_off(self, turn_id: str) -> Driver:
        """A driver of this turn alone, which goes on with the next frame over a connection of its own.

        There must be a position, and the turn must be one that can be split off.
        """
        return Driver(
            self._place,
            self._log,
            self.conversation.split_off(turn_id, anyio.current_time()),
            follow=turn_id,
            position=self.uplink.position,
            claude_runs=self._events.claude_runs,
            only_looks=self._only_looks,
        )

    def take_joined(self) -> list[str]:
        """Ids of commands that proved to be of turns that run, or ran, already: they have to be followed."""
        return self._events.take_joined()

    @property
    def claude_runs(self) -> bool:
        """As far as is known."""
        return self._events.claude_runs

    @property
    def claude_pid(self) -> str:
        """The number of the process that was started last, where it is; empty: it was started before."""
        return self._events.claude_pid

    async def connect(self) -> None:
        """Connect, and start Claude Code only if a turn waits for it."""
        try:
            await self._driving.insist(self._ensure_ready)
        except ChannelError:
            await self.uplink.disconnect()
            raise

    @property
    def needs_claude(self) -> bool:
        """A turn waits for Claude Code, which does not run, as far as is known."""
        waits = bool(self.conversation.queued) or self.conversation.waits_in_agent
        return waits and not self._events.claude_runs

    async def make_ready(self) -> None:
        """Connect, and start Claude Code if it does not run, or not any more."""
        try:
            await self._hear_the_rest()
            await self._driving.insist(partial(self._ensure_ready, whoever_waits=True))
        except ChannelError:
            await self.uplink.disconnect()
            raise

    async def advance(self, satisfied: Callable[[], bool]) -> None:
        """One step: connect, or send, or receive. ``satisfied``: nothing more need ever come."""
        try:
            # False: it was started, stopped, removed or closed meanwhile, and something else may be wanted now.
            if not await self._improve() or (self.has_to_start and not await self._place.rest()):
                return
            await self._driving.insist(self._ensure_ready)
            await self._carry_out()
            if satisfied() or not await self._driving.renew():
                return
            await self._receive(-math.inf if self.hurry else math.inf)
            await self._carry_out()
        except (ChannelError, EngineError) as error:
            broke = isinstance(error, ConnectionLost) or self.uplink.connection is not None
            if not broke and not self._can_resume(has_no_place=isinstance(error, PlacementFailed)):
                raise
            await self._lost(error)

    async def listen(self, until: float) -> bool:
        """Handle what comes next, over the connection there is, if it comes in time; False: it does not.

        Raises: as :meth:`advance`; the connection is closed then.
        """
        try:
            link_events = await self.uplink.receive(min(-math.inf if self.hurry else until, self._deadline()))
            if link_events is None:
                return False
            self._handle(link_events)
            await self._carry_out()
        except ChannelError:
            await self.uplink.disconnect()
            raise
        return True

    async def flush(self) -> None:
        """Carry out what is wanted now, although another task may be waiting to receive: it may wait for this."""
        connection = self.uplink.connection
        if connection is not None:
            try:
                await self._carry_out()
            except ConnectionLost:
                await connection.aclose()  # whoever receives finds it closed, and connects again
            connection.set_deadline(-math.inf if self.hurry else self._deadline())

    async def rest(self) -> None:
        """Let other programs drive, if nothing of this one's is under way."""
        await self._driving.rest()

    def give_up(self, reason: str) -> None:
        """It cannot be reached any more, so neither can its turns."""
        self.uplink.forget()
        self.conversation.connection_lost(reason, anyio.current_time())

    def close(self, reason: str) -> None:
        """After the connection was closed: end all turns."""
        self.uplink.forget()
        self._events.claude_runs = False  # as far as is known
        self.conversation.close(reason, anyio.current_time())

    async def abandon(self) -> None:
        """Give up the connection for good: what was at the other end is removed."""
        await self.uplink.disconnect()
        self.uplink.forget()
        self._events.claude_runs = False

    # What comes

    async def _hear_the_rest(self) -> None:
        """Hear what nobody has received since the last turn: Claude Code may sleep, or the agent may have ended."""
        link = self.uplink.link
        # Where something stands in for an agent it keeps no frames, and answers no questions.
        if link is None or self.uplink.position is None or self.conversation.active is not None:
            return
        try:
            link.ask_status()
            await self.uplink.write()
            deadline = anyio.current_time() + _STATUS_LIMIT
            while (link_events := await self.uplink.receive(deadline)) is not None:
                self._handle(link_events)
                if any(isinstance(event, Status) for event in link_events):
                    return
            raise ConnectionLost("the agent does not react", instance=self._place.name)
        except ConnectionLost as error:
            await self._lost(error)

    async def _receive(self, until: float = math.inf) -> list[LinkEvent]:
        """Handle what comes next, or that nothing has come in time."""
        link_events = await self.uplink.receive(min(until, self._deadline()))
        if link_events is None:
            self.conversation.handle_timer(anyio.current_time())
            return []
        self._handle(link_events)
        return link_events

    def _deadline(self) -> float:
        when = self.conversation.next_timer()
        return min(math.inf if when is None else when, self._driving.renew_at)

    def _handle(self, link_events: list[LinkEvent]) -> None:
        """Raises: ProtocolError, ConnectionLost, ClaudeError: the agent broke a rule, or cannot do what it must."""
        failure = self._events.received(link_events, anyio.current_time(), caught_up=self.uplink.caught_up)
        if failure is not None:
            raise failure

    # What is wanted

    async def _carry_out(self) -> None:
        """Do what the conversation wants, and write what the link has to say.

        By one task at a time: who is cancelled while it waits has taken nothing from the conversation.
        """
        while True:
            async with self._carrying_out:
                self.uplink.check(sends=bool(self.conversation.delivery.outbox.inputs))
                commands = self.conversation.commands()
                link = self.uplink.link
                if link is not None:
                    for command in commands:
                        say(link, command, self._log)
                await self.uplink.write()
            if not commands:
                return
            # Others may say something meanwhile: an interrupt must not wait for a file.
            reading = [command for command in commands if isinstance(command, ReadTranscript)]
            await read_transcripts(reading, self.conversation, self._place, self._log)

    # Connection and Claude Code

    @property
    def has_to_start(self) -> bool:
        """Something is to be started before the next line can come: a connection, or Claude Code."""
        return self._is_lacking(whoever_waits=False)

    def _is_lacking(self, *, whoever_waits: bool) -> bool:
        if self.uplink.connection is None or self._driving.is_lacking:
            return True
        return self._lacks_claude(whoever_waits=whoever_waits)

    def _lacks_claude(self, *, whoever_waits: bool) -> bool:
        waits = whoever_waits or not (self._follow or self._adopts)
        waits = waits or self.conversation.waits_in_agent  # whoever has sent it may be gone
        waits = waits or (self._adopts and self.conversation.delivery.has_unsent)
        return waits and not self._events.claude_runs and not self.conversation.settling

    async def _ensure_ready(self, *, whoever_waits: bool = False) -> None:
        # Whether the lease is needed for Claude Code is known when there is a connection.
        while self._is_lacking(whoever_waits=whoever_waits):
            begins = self._driving.begins(whoever_waits=whoever_waits)
            async with self._place.starting(self.abandon, drives=begins):
                if begins:
                    await self._driving.begun()
                if self.uplink.connection is None:
                    await self._connect(fence=self._driving.fence if begins else None)
                if self._lacks_claude(whoever_waits=whoever_waits) and (begins or self._driving.is_free):
                    await self._carry_out()  # what was given up must not be the first that it gets
                    await self._start_claude()
            if begins or self._driving.is_free:
                return

    async def _improve(self) -> bool:
        """Change to a better channel before a turn, where there is one; False: somebody has closed the connection."""
        if self.uplink.connection is None or not self.conversation.between_turns:
            return True
        connection = await self.uplink.improve()
        if connection is not None:
            self._go_on(connection)
        return self.uplink.connection is not None

    async def _connect(self, *, fence: int | None) -> None:
        """Connect; where a turn was cut off, go on after the last frame that came."""
        follows_anew = self._follow and self.uplink.position is None
        try:
            connection = await self.uplink.connect(resume=self._can_resume(), turn=self._follow, fence=fence)
            if self._adopts and not self.uplink.continues:
                connection = await begin_earlier(self.uplink, connection)
            await self._driving.connected(connection)
            self._go_on(connection)
            await self._catch_up()
        except FramesGone as error:
            if follows_anew:
                raise TurnNotFound(
                    f"there is no turn {self._follow}: {error.what}", instance=self._place.name
                ) from None
            raise

    def _can_resume(self, *, has_no_place: bool = False) -> bool:
        """A turn was cut off that can be taken up again."""
        needed = not has_no_place if self._adopts else self.conversation.can_go_on
        return self.uplink.position is not None and needed and self._place.exists()

    def _go_on(self, connection: Connection) -> None:
        """Use this connection from here on."""
        if self._observer is not None:
            position = connection.link.position
            self._observer.connected(Position(connection.hello.start, position.journal) if position else None)
        self._events.greeted(connection.hello, anyio.current_time(), continues=self.uplink.continues)
        self._handle(connection.early)

    async def _catch_up(self) -> None:
        """Read what was before, because only then it is known what is to be done."""
        try:
            with anyio.fail_after(_START_LIMIT):
                while self._adopts and not self.uplink.caught_up:
                    await self._receive()
        except TimeoutError:
            raise ConnectionLost("the agent does not say what was", instance=self._place.name) from None
        if self._adopts or self._events.replays:
            self._events.caught_up(anyio.current_time())

    async def _start_claude(self) -> None:
        """Start Claude Code and wait until it can be used, or was refused."""
        launch = await self._place.launch(self.conversation.session_id)
        connection = self.uplink.connection
        if connection is None:
            raise ConnectionLost("the connection to the agent broke", instance=self._place.name)
        sleep, stop = launch.sleep_after, launch.stop_after
        connection.link.start_claude(launch.argv, launch.env, launch.cwd, again=launch.again, sleep=sleep, stop=stop)
        await self.uplink.write()
        try:
            with anyio.fail_after(_START_LIMIT):
                await self._wait_for_start(launch)
        except TimeoutError:
            raise ConnectionLost("the agent does not react", instance=self._place.name) from None

    async def _wait_for_start(self, launch: Launch) -> None:
        link_events: list[LinkEvent] = []
        while not any(isinstance(event, Started) for event in link_events):
            link_events = await self._receive()
        while launch.announces and not any(isinstance(event, Output) for event in link_events):
            if any(isinstance(event, Exited) for event in link_events):
                what = self.conversation.stderr or "it said nothing"
                raise ClaudeStartError(f"Claude Code ended at once: {what}", instance=self._place.name)
            link_events = await self._receive()

    async def _lost(self, error: BridgeError) -> None:
        """The connection is gone: take it up again, or let the conversation decide what that means for its turns."""
        self._log.warning("connection_lost", reason=error.what, channel=self.uplink.channel_kind)
        await self.uplink.disconnect()
        self._driving.lost(error)
        if not self.uplink.count_loss(resumable=self._can_resume() and not isinstance(error, ProtocolError)):
            self._events.lost(error.what, anyio.current_time(), error=str(error))


def say(link: Link, command: Command, log: Log) -> None:
    """Tell the agent what a conversation wants, but for what is not the agent's."""
    match command:
        case SendInput(input_id, message, turn):
            link.send_input(input_id, message, turn)
        case Withdraw(input_id):
            link.withdraw_input(input_id)
        case DeclareDone(input_id):
            link.declare_done(input_id)
        case EndProcess(reason, turn):
            log.warning("claude_killed", reason=reason)
            link.signal_claude("KILL", turn)


async def read_transcripts(
    reading: list[ReadTranscript], conversation: Conversation, place: Surroundings, log: Log
) -> None:
    """Last of all commands, because it may take time and be cancelled, which must cost none of the others."""
    try:
        while reading:
            lines, session_id = None, reading[0].session_id
            try:
                lines = await place.read_transcript(session_id) if session_id else None
            except EngineError as error:
                log.warning("transcript_unreadable", reason=str(error))
            conversation.receive_transcript(reading.pop(0).turn_id, lines, anyio.current_time())
    finally:
        conversation.put_back(reading)


async def begin_earlier(uplink: Uplink, connection: Connection) -> Connection:
    """Connect again so that turns which are open already, other programs' or an earlier one's, are read as a whole."""
    hello = connection.hello
    first = next(iter([*hello.open_ids, *(hello.queue or ())]), "")
    if not first or connection.link.position is None:
        return connection
    await uplink.disconnect()
    uplink.forget()
    fence = connection.link.fence
    try:
        return await uplink.connect(resume=False, turn=first, fence=fence)
    except FramesGone:  # it began so long ago that only its end can be heard
        return await uplink.connect(resume=False, fence=fence)
