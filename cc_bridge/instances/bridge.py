"""A conversation over whatever way to the agent there is: joins conversation, link and channel.

There is no task of its own. Whoever waits for something reads for everybody: one waiter at a time holds
the turnstile, receives, and hands out what has come. So nothing outlives a caller, nothing runs while
nobody waits, and a slow reader is back-pressure down to Claude Code.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import anyio

from ..channels.base import Channel
from ..errors import (
    AgentUnavailable,
    BridgeError,
    ChannelError,
    ClaudeNotFound,
    ClaudeStartError,
    ConnectionLost,
    EngineError,
    InvalidInput,
    ProtocolError,
    TurnNotFound,
)
from ..events import Event, PermissionRequest, TurnResult
from ..instance import Allow, Decision, Deny, OnPermission, decision_of
from ..logs import Log
from ..names import is_uuid
from ..protocol.commands import Command, DeclareDone, EndProcess, ReadTranscript, SendInput, Withdraw
from ..protocol.conversation import Conversation
from ..protocol.link import (
    AgentRefused,
    Done,
    ErrorOutput,
    Exited,
    Link,
    LinkEvent,
    Output,
    Position,
    Queued,
    Started,
    Status,
    Took,
    Violated,
    Withdrawn,
)
from ..turn import Turn, TurnInfo
from .connection import Connection, FramesGone, this_program
from .place import Ending, Launch

__all__ = ["Bridge", "Surroundings"]

#: Seconds for Claude Code's start, and for an answer about the turns that are kept.
_START_LIMIT = 30.0
_STATUS_LIMIT = 10.0

#: Seconds for which a connection that was lost in mid-turn is tried again, and the longest pause between two tries.
_RESUME_LIMIT = 30.0
_LONGEST_PAUSE = 2.0

#: How often one command may lose its connection before it was taken.
_RETRIES = 3

_ENOENT = 2


class Surroundings(Protocol):
    """What a conversation needs of the instance that it is of, and of its place."""

    name: str

    claude_hint: str | None
    """What to do where there is no Claude Code; None: the general advice."""

    def exists(self) -> bool:
        """The instance has not been removed."""

    async def rest(self) -> bool:
        """Wait until nobody starts or ends the instance; False: somebody did."""

    def starting(self, abandon: Callable[[], Awaitable[None]]) -> AbstractAsyncContextManager[None]:
        """The bridge connects and starts Claude Code within; nobody else starts or ends the instance meanwhile.

        Args:
            abandon: gives up the connection; awaited before what a failed first start has made is removed.

        Raises:
            AgentUnavailable: somebody wants the instance to end.
            InstanceBusy: another program does not come to an end with it.
        """

    def pop_ending(self) -> Ending:
        """Why the previous agent exited, if :meth:`connect` has learned it; cleared by this call."""

    async def connect(self, greeting: bytes) -> Channel:
        """A channel to the agent, which is started if need be; ``greeting`` has been sent over it."""

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        """A better channel than one of kind ``current``, if one can be had at once."""

    async def launch(self, session_id: str) -> Launch:
        """How to start Claude Code, going on with this session if it is not empty and still there."""

    async def read_transcript(self, session_id: str) -> list[str] | None:
        """The tail of a session's transcript; None if there is none.

        Raises:
            ConnectionLost: where it is, nothing runs any more.
            EngineError: it cannot be read now.
        """

    def session_changed(self, session_id: str) -> None:
        """Remember the session to go on with."""


class Bridge:
    """One conversation with Claude Code.

    Args:
        follow: the id of a turn that was sent before: only listened to, from its beginning.
        on_permission: decides on permission requests; without it they are denied.
        permission_limit: seconds for it to decide; then the request is denied.
        silence, interrupt_limit: see :class:`~cc_bridge.protocol.conversation.Conversation`.
    """

    def __init__(
        self,
        place: Surroundings,
        log: Log,
        *,
        follow: str = "",
        session_id: str = "",
        on_permission: OnPermission | None = None,
        permission_limit: float = 300.0,
        silence: float = 30.0,
        interrupt_limit: float = 10.0,
    ) -> None:
        self._place = place
        self._log = log
        self._follow = follow
        self._settings: dict[str, Any] = {
            "on_permission": on_permission,
            "permission_limit": permission_limit,
            "silence": silence,
            "interrupt_limit": interrupt_limit,
        }
        self._on_permission = on_permission
        self._permission_limit = permission_limit
        self._conversation = Conversation(silence=silence, interrupt_limit=interrupt_limit)
        self._conversation.session_id = session_id
        # Taking one that is free must not cost a turn of the loop for each event; reading lets the others run.
        self._turnstile = anyio.Lock(fast_acquire=True)
        self._writing = anyio.Lock(fast_acquire=True)
        self._connection: Connection | None = None
        self._agent_version: str | None = None
        self._claude_runs = False
        self._drained = anyio.Event()
        self._tries: dict[str, int] = {}
        self._position: Position | None = None  # of the connection that was lost
        self._lost_since: float | None = None
        self._failures = 0  # to connect again, since something came
        self._resent: set[str] = set()  # inputs sent again over a new connection: "again" is a good answer
        self._followers: set[Bridge] = set()
        self._joined: dict[str, Bridge] = {}
        if follow:
            self._conversation.follow(follow, anyio.current_time())

    @property
    def instance_name(self) -> str:
        """For error messages."""
        return self._place.name

    @property
    def channel_kind(self) -> str | None:
        """Of the channel in use; None: not connected."""
        return self._connection.channel.kind if self._connection else None

    @property
    def session_id(self) -> str:
        """Claude Code's session, as far as known."""
        return self._conversation.session_id

    @property
    def agent_version(self) -> str | None:
        """What the agent said in its hello."""
        return self._agent_version

    @property
    def claude_version(self) -> str | None:
        """What Claude Code said at the start of its last turn."""
        return self._conversation.claude_version or None

    @property
    def unknown_messages(self) -> Mapping[str, int]:
        """How many messages of which kind were not understood."""
        return dict(self._conversation.unknown)

    # For callers

    async def submit(self, text: str, turn_id: str | None = None) -> Turn:
        """Queue a command; see ``InstanceInterface.submit``."""
        turn_id = turn_id or str(uuid.uuid4())
        if not is_uuid(turn_id):
            raise InvalidInput(
                f"a turn's id must be a UUID, in lower case, not {turn_id!r}",
                instance=self.instance_name,
                hint="uuid.uuid5() makes one of any text.",
            )
        if turn_id in self._joined:
            raise InvalidInput(f"there is a turn with the id {turn_id} already", instance=self.instance_name)
        self._conversation.submit(turn_id, text, anyio.current_time())
        return Turn(self, turn_id)

    async def find(self, turn_id: str) -> Turn:
        """Find a turn again; see ``InstanceInterface.turn``."""
        if self._conversation.is_queued(turn_id):
            return Turn(self, turn_id, found=True)
        follower = self._follower(turn_id)
        try:
            await follower.make_ready()
        except BaseException:  # cancelled, too: nobody else has its connection
            await follower.leave()
            raise
        return Turn(follower, turn_id, found=True)

    async def turns(self) -> list[TurnInfo]:
        """What can be found; see ``InstanceInterface.turns``."""
        async with self._place.starting(self._abandon):
            connection = await Connection.open(Link(host=this_program()), self._place.connect, self._place.name)
        try:
            connection.link.ask_status()
            await connection.write()
            deadline = anyio.current_time() + _STATUS_LIMIT
            while (link_events := await connection.receive(deadline)) is not None:
                for event in link_events:
                    if isinstance(event, Status):
                        queued = [TurnInfo(turn_id, read=False) for turn_id in self._conversation.queued]
                        return [TurnInfo(*turn) for turn in event.turns] + queued
        finally:
            await connection.aclose()
        raise AgentUnavailable("the agent does not say what it keeps", instance=self._place.name)

    async def wait_for_events(self, turn_id: str) -> list[Event]:
        """At least one event of the turn; none only where the turn is unknown."""
        conversation = self._conversation
        taken = conversation.take_events(turn_id)
        if not taken:
            await self._pump(lambda: conversation.backlog(turn_id) > 0 or conversation.is_done(turn_id))
            taken = conversation.take_events(turn_id)
        self._drained.set()
        if not taken and turn_id in self._joined:
            taken = await self._joined[turn_id].wait_for_events(turn_id)
        if any(isinstance(event, TurnResult) for event in taken):
            self._joined.pop(turn_id, None)
            if self._follow:
                await self.leave()
        return taken

    async def leave(self) -> None:
        """Listen no longer to the turn that is followed; it goes on. One of this program's own is not left so."""
        if self._follow:
            await self.aclose("the reader has left")

    async def interrupt_turn(self, turn_id: str) -> None:
        """End the turn and wait until it is over; its reader gets the result."""
        if turn_id in self._joined:
            await self._joined[turn_id].interrupt_turn(turn_id)
            return
        conversation = self._conversation
        conversation.interrupt(turn_id, anyio.current_time())
        await self._pump(lambda: conversation.is_done(turn_id), patient=False)
        self._drained.set()

    async def abandon(self, turn_id: str) -> None:
        """Interrupt the turn, wait until it is over, and forget it."""
        if turn_id in self._joined:
            joined = self._joined.pop(turn_id)
            await joined.abandon(turn_id)
            await joined.leave()
            return
        conversation = self._conversation
        conversation.interrupt(turn_id, anyio.current_time())
        try:
            await self._pump(lambda: conversation.is_done(turn_id), patient=False)
        except BridgeError as error:  # it cannot be reached any more, so neither can the turn
            self._log.warning("turn_abandoned", turn=turn_id, reason=str(error))
            self._position = None
            conversation.connection_lost(str(error), anyio.current_time())
            conversation.interrupt(turn_id, anyio.current_time())
        conversation.take_events(turn_id)
        self._drained.set()

    async def interrupt(self) -> None:
        """Interrupt the running turn and wait until it is over; its reader gets the result."""
        aside = [turn_id for turn_id, other in self._joined.items() if other._conversation.active is not None]
        turn_id = next(iter(aside), self._conversation.active)
        if turn_id is not None:
            await self.interrupt_turn(turn_id)

    async def interrupt_quietly(self, limit: float) -> None:
        """The same before Claude Code ends, at once: within ``limit`` seconds and over the connection there is.

        An agent with a queue does so itself when it is told to end, and begins no other turn before it has ended.
        """
        if self._connection is None or self._conversation.active is None or self._conversation.agent_queues:
            return
        with anyio.move_on_after(limit):
            try:
                await self.interrupt()
            except BridgeError as error:
                self._log.warning("not_interrupted", reason=str(error))

    async def decide(self, request: PermissionRequest) -> None:
        """Have a permission request decided, in time; an error in ``on_permission`` denies it. Repeatable."""
        for joined in self._joined.values():
            if joined._conversation.is_open(request.request_id):
                await joined.decide(request)
                return
        decision: Decision | None = Deny()
        failure: Exception | None = None
        if not self._conversation.is_open(request.request_id):
            decision = None
        elif self._on_permission is not None:
            decision, failure = await self._ask(request, self._on_permission)
        if isinstance(decision, Allow):
            given = request.input if decision.input is None else decision.input
            self._conversation.allow(request.request_id, given, decision.updates)
        elif decision is not None:
            self._conversation.deny(request.request_id, decision.reason)
        allowed = None if decision is None else isinstance(decision, Allow)  # None: decided elsewhere, or moot
        self._log.info("permission_decided", tool=request.tool_name, allowed=allowed)
        await self._flush()
        if failure is not None:
            raise failure

    async def _ask(
        self, request: PermissionRequest, on_permission: OnPermission
    ) -> tuple[Decision | None, Exception | None]:
        """The caller's decision, and what went wrong; None: the request is moot, or cannot be answered now."""
        decision: Decision | None = Deny("Nobody has decided in time.")
        failure: Exception | None = None
        conversation = self._conversation

        async def notice_others() -> None:
            nonlocal decision, failure
            try:
                await self._pump(lambda: not conversation.is_open(request.request_id))
            except BridgeError as error:
                failure = error
            decision = None
            scope.cancel()

        # Errors are handed out by hand: a task group would wrap them in an ExceptionGroup.
        async with anyio.create_task_group() as group:
            with anyio.move_on_after(self._permission_limit) as scope:
                group.start_soon(notice_others)
                try:
                    decision = await decision_of(on_permission, request)
                except Exception as error:
                    decision, failure = Deny("It could not be decided: asking for it has failed."), error
            group.cancel_scope.cancel()
        return decision, failure

    async def make_ready(self) -> None:
        """Connect, and start Claude Code if it does not run."""
        async with self._turnstile:
            while not await self._place.rest():
                pass
            try:
                await self._ensure_ready()
            except ChannelError:
                await self._disconnect()
                raise

    async def aclose(self, reason: str = "the instance was closed") -> None:
        """Give up the connection. Turns that have not ended end as interrupted."""
        with anyio.CancelScope(shield=True):
            await self._disconnect()
            for follower in self._followers:
                await follower.aclose(reason)
        self._position = None
        now = anyio.current_time()
        self._conversation.close(reason, now)

    # The pump

    async def _pump(self, satisfied: Callable[[], bool], patient: bool = True) -> None:
        """Read for everybody until ``satisfied``. ``patient``: wait while another reader is far behind."""
        if self._turnstile.locked():
            await self._flush()  # whoever has it may be waiting for just what we want to be said
        while not satisfied():
            async with self._turnstile:
                if satisfied():
                    return
                if not (patient and self._conversation.crowded) or self._set_aside():
                    await self._advance(satisfied)
                    continue
            if self._drained.is_set():
                self._drained = anyio.Event()
            await self._drained.wait()

    def _set_aside(self) -> bool:
        """Have whoever is far behind read over a connection of its own, so that nobody waits for it.

        Returns: False where the other end keeps nothing to be read from.
        """
        position = self._connection.link.position if self._connection else self._position
        if position is None:
            return False
        conversation, now = self._conversation, anyio.current_time()
        for turn_id in [turn_id for turn_id in conversation.crowded if conversation.can_be_split_off(turn_id)]:
            self._log.info("turn_set_aside", turn=turn_id)
            follower = self._joined[turn_id] = self._follower(turn_id)
            follower._conversation, follower._position = conversation.split_off(turn_id, now), position
            follower._claude_runs = self._claude_runs
        return not conversation.crowded

    async def _advance(self, satisfied: Callable[[], bool]) -> None:
        """One step: connect, or send, or receive."""
        if self._has_to_start and not await self._place.rest():
            return  # it was started, stopped or removed meanwhile: something else may be wanted now
        try:
            await self._ensure_ready()
            await self._carry_out()
            if satisfied():
                return  # nothing more need ever come
            await self._receive()
            await self._carry_out()
        except (ChannelError, EngineError) as error:
            broke = isinstance(error, ConnectionLost) or self._connection is not None
            if not broke and not self._can_resume():
                raise
            await self._lost(error)

    async def _receive(self) -> list[LinkEvent]:
        """Handle what comes next, or that nothing has come in time."""
        if self._connection is None:
            raise ConnectionLost("the connection to the agent broke", instance=self._place.name)
        link_events = await self._connection.receive(self._deadline())
        if link_events is None:
            self._conversation.handle_timer(anyio.current_time())
            return []
        if link_events:
            self._lost_since, self._failures = None, 0
        self._handle(link_events)
        return link_events

    def _deadline(self) -> float:
        when = self._conversation.next_timer()
        return math.inf if when is None else when

    def _handle(self, link_events: list[LinkEvent]) -> None:
        """Tell the conversation what has come.

        Raises:
            ProtocolError, ConnectionLost, ClaudeError: the agent broke a rule, or cannot do what it must.
        """
        session_id = self._conversation.session_id
        # Raised when all is handled: what else has come must not be lost with it. A violation is the last of them.
        failures = [failure for event in link_events if (failure := self._handle_one(event))]
        connection = self._connection
        if self._follow and connection is not None and connection.link.last_seq >= connection.hello.seq:
            self._conversation.replayed()
        if self._conversation.session_id != session_id and not self._follow:  # what is followed may be long ago
            self._place.session_changed(self._conversation.session_id)
        if failures:
            raise failures[-1]

    def _handle_one(self, event: LinkEvent) -> BridgeError | None:
        now, conversation = anyio.current_time(), self._conversation
        match event:
            case Output(message, size):
                conversation.receive_message(message, now, size)
            case ErrorOutput(text):
                self._log.debug("claude_stderr", text=text[:500])
                conversation.receive_stderr(text)
            case Queued() | Withdrawn() | Took() | Done():
                self._answered(event)
            case Started(pid):
                self._claude_runs = True
                self._log.info("claude_started", pid=pid)
                conversation.process_started()
                conversation.process_ready((), now)
            case Exited():
                self._exited(event)
            case AgentRefused():
                return self._refused(event)
            case Violated(reason):
                self._log.error("protocol_error", reason=reason)
                return ProtocolError(reason, instance=self._place.name)
        return None

    def _answered(self, event: Queued | Withdrawn | Took | Done) -> None:
        """The agent has said what becomes of an input."""
        match event:
            case Queued(input_id):
                self._tries.pop(input_id, None)
                self._conversation.accepted(input_id, anyio.current_time())
            case Withdrawn(input_id, late):
                self._conversation.withdrawn(input_id, anyio.current_time(), late=late)
            case Took(input_id, again):
                self._took(input_id, again)
            case Done(input_id):
                self._conversation.declared(input_id)

    def _exited(self, exited: Exited) -> None:
        self._claude_runs = False
        self._log.info("claude_exited", code=exited.code, out_of_memory=exited.out_of_memory)
        ending = Ending("", exited.code, exited.out_of_memory)
        if exited.code is None:  # nobody saw it; the place may know why
            ending = self._place.pop_ending()
        self._conversation.process_exited(
            ending.exit_code, anyio.current_time(), out_of_memory=ending.out_of_memory, cause=ending.what
        )

    def _refused(self, refusal: AgentRefused) -> BridgeError | None:
        """The agent could not do as asked; the error, where that is one."""
        self._log.warning("agent_refused", code=refusal.code, reason=refusal.message)
        if refusal.code == "not_running":
            self._claude_runs = False
            if self._conversation.inputs_refused(anyio.current_time(), refusal.id):
                self._count_tries(refusal.message)
            return None
        if refusal.code == "full":
            self._conversation.refused(refusal.id, refusal.message, anyio.current_time())
            return None
        if refusal.code == "start" and refusal.errno == _ENOENT:
            what = f"Claude Code is not there: {refusal.message}"
            return ClaudeNotFound(what, instance=self._place.name, hint=self._place.claude_hint)
        if refusal.code == "start":
            return ClaudeStartError(f"Claude Code cannot be started: {refusal.message}", instance=self._place.name)
        return ConnectionLost(f"the agent: {refusal.message}", instance=self._place.name)

    async def _flush(self) -> None:
        """Carry out what is wanted now, although another task may be waiting to receive: it may wait for this."""
        connection = self._connection
        if connection is not None:
            try:
                await self._carry_out()
            except ConnectionLost:
                await connection.aclose()  # whoever receives finds it closed, and connects again
            connection.set_deadline(self._deadline())

    async def _carry_out(self) -> None:
        """Do what the conversation wants, and write what the link has to say."""
        async with self._writing:
            while commands := self._conversation.commands():
                for command in commands:
                    self._issue(command)
                await self._write()
                # Last, because it may take time and be cancelled, which must cost none of the others.
                reading = [command for command in commands if isinstance(command, ReadTranscript)]
                try:
                    while reading:
                        lines = await self._read_transcript(reading[0].session_id)
                        self._conversation.receive_transcript(reading.pop(0).turn_id, lines, anyio.current_time())
                finally:
                    self._conversation.put_back(reading)
            await self._write()

    def _issue(self, command: Command) -> None:
        if self._connection is None or self._connection.link.closed:
            return  # nobody is connected to hear it
        link = self._connection.link
        match command:
            case SendInput(input_id, message, turn):
                link.send_input(input_id, message, turn)
            case Withdraw(input_id):
                link.withdraw_input(input_id)
            case DeclareDone(input_id):
                link.declare_done(input_id)
            case EndProcess(reason, turn):
                self._log.warning("claude_killed", reason=reason)
                link.signal_claude("KILL", turn)

    async def _read_transcript(self, session_id: str) -> list[str] | None:
        try:
            return await self._place.read_transcript(session_id) if session_id else None
        except EngineError as error:
            self._log.warning("transcript_unreadable", reason=str(error))
            return None

    async def _write(self) -> None:
        if self._connection is not None:
            await self._connection.write()

    # The connection

    @property
    def _has_to_start(self) -> bool:
        """Something is to be started before the next line can come: a connection, or Claude Code."""
        if self._connection is None:
            return True
        waits = not self._follow or self._conversation.waits_in_agent  # whoever has sent it may be gone
        return waits and not self._claude_runs and not self._conversation.settling

    async def _ensure_ready(self) -> None:
        if self._connection is not None and self._conversation.between_turns:
            await self._improve(self._connection)
        if self._has_to_start:
            async with self._place.starting(self._abandon):
                if self._connection is None:
                    await self._connect()
                if self._has_to_start:
                    await self._carry_out()  # what was given up must not be the first that it gets
                    await self._start_claude()

    async def _improve(self, connection: Connection) -> None:
        """Change to a better channel, where there is one by now."""
        better = Link(after=connection.link.position, host=this_program())
        better.greet()
        channel = await self._place.connect_better(connection.channel.kind, better.data_to_send())
        if channel is not None:
            await self._disconnect()
            self._go_on(await Connection.welcome(better, channel, self._place.name))

    async def _abandon(self) -> None:
        """Give up the connection for good: what was at the other end is removed."""
        await self._disconnect()
        self._position, self._claude_runs = None, False

    async def _connect(self) -> None:
        """Connect; where a turn was cut off, go on after the last frame that came."""
        if self._failures > 1:  # the first time at once
            await anyio.sleep(min(_LONGEST_PAUSE, 0.01 * 2**self._failures))  # back-off: the other side needs time
        after, turn = (self._position, None) if self._can_resume() else (None, self._follow or None)
        link = Link(after=after, turn=turn, host=this_program())
        try:
            self._go_on(await Connection.open(link, self._place.connect, self._place.name))
        except FramesGone as error:
            if self._follow and self._position is None:
                raise TurnNotFound(
                    f"there is no turn {self._follow}: {error.what}", instance=self._place.name
                ) from None
            self._position = None
            raise

    def _can_resume(self) -> bool:
        """A turn was cut off that can be taken up again."""
        return self._position is not None and self._conversation.can_go_on and self._place.exists()

    def _go_on(self, connection: Connection) -> None:
        """Use this connection from here on."""
        hello = connection.hello
        self._connection, self._agent_version = connection, hello.agent
        self._log.info(
            "connected", channel=connection.channel.kind, agent=hello.agent, claude=hello.state, resumed=hello.resumed
        )
        self._conversation.greeted(hello.queue, resumed=hello.resumed and self._position is not None)
        if self._follow:
            self._claude_runs = hello.state == "running"
        if hello.resumed:
            # Whether Claude Code runs, the frames that follow say.
            self._resent.update(self._conversation.connection_resumed(anyio.current_time()))
        else:
            self._claude_runs = hello.state == "running"
            if self._claude_runs:
                self._conversation.process_ready(hello.open_ids, anyio.current_time())
        self._handle(connection.early)

    async def _start_claude(self) -> None:
        """Start Claude Code and wait until it can be used, or was refused."""
        launch = await self._place.launch(self._conversation.session_id)
        if self._connection is None:
            raise ConnectionLost("the connection to the agent broke", instance=self._place.name)
        self._connection.link.start_claude(launch.argv, launch.env, launch.cwd)
        await self._write()
        try:
            with anyio.fail_after(_START_LIMIT):
                link_events: list[LinkEvent] = []
                while not any(isinstance(event, Started) for event in link_events):
                    link_events = await self._receive()
                while launch.announces and not any(isinstance(event, Output) for event in link_events):
                    if any(isinstance(event, Exited) for event in link_events):
                        what = self._conversation.stderr or "it said nothing"
                        raise ClaudeStartError(f"Claude Code ended at once: {what}", instance=self._place.name)
                    link_events = await self._receive()
        except TimeoutError:
            raise ConnectionLost("the agent does not react", instance=self._place.name) from None

    async def _lost(self, error: BridgeError) -> None:
        """The connection is gone: take it up again, or let the conversation decide what that means for its turns."""
        self._log.warning("connection_lost", reason=error.what, channel=self.channel_kind)
        await self._disconnect()
        now = anyio.current_time()
        if self._lost_since is None:
            self._lost_since = now
        in_time = now - self._lost_since < _RESUME_LIMIT
        if in_time and self._can_resume() and not isinstance(error, ProtocolError):
            self._failures += 1
            return
        self._position = None
        self._lost_since, self._failures = None, 0
        self._conversation.connection_lost(error.what, anyio.current_time())
        self._count_tries(str(error))

    def _count_tries(self, reason: str) -> None:
        """What waits was not taken; after a few tries that failed, it fails with the reason."""
        for turn_id in self._conversation.queued:
            self._tries[turn_id] = self._tries.get(turn_id, 0) + 1
            if self._tries[turn_id] > _RETRIES:
                self._tries.clear()
                self._conversation.fail_queued(reason, anyio.current_time())
                break

    # Turns that somebody has sent before

    def _follower(self, turn_id: str) -> Bridge:
        self._followers = {follower for follower in self._followers if follower._conversation.can_go_on}
        follower = Bridge(self._place, self._log, session_id=self.session_id, follow=turn_id, **self._settings)
        self._followers.add(follower)
        return follower

    def _took(self, input_id: str, again: bool) -> None:
        self._tries.pop(input_id, None)
        if again and self._conversation.is_sent(input_id) and input_id not in self._resent:
            self._join(input_id)
        else:
            self._resent.discard(input_id)
            self._conversation.took(input_id, anyio.current_time(), again=again)

    def _join(self, turn_id: str) -> None:
        """An id that was given with a command turns out to be of a command that runs, or ran: listen to that one."""
        self._log.info("turn_joined", turn=turn_id)
        self._conversation.withdraw(turn_id, anyio.current_time())
        self._joined[turn_id] = self._follower(turn_id)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._position = connection.link.position
            await connection.aclose()
