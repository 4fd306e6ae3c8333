"""One process beside the main Claude Code, over as many connections as it takes.

It has no task of its own: whoever waits for something receives, and what came for others waits for them.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ..channels.named_pipe import NobodyListens
from ..errors import (
    AgentUnavailable,
    BridgeError,
    ChannelError,
    ConnectionLost,
    ContainerNotFound,
    ContainerNotRunning,
    EngineError,
    ProtocolError,
)
from ..logs import Log
from ..protocol.link import Exited, LinkEvent, StreamBytes, Violated
from ..protocol.raw import RawStreams
from .agent_events import refusal_error
from .connection import FramesGone
from .uplink import Uplink

__all__ = ["RawSession"]

#: Seconds for the agent to start the process.
_START_LIMIT = 60.0

#: Seconds for the process to end after the end of its input, after SIGTERM, and after SIGKILL; for the agent to hear
#: that it can forget it.
_END_LIMITS = {"": 5.0, "TERM": 5.0, "KILL": 5.0}
_FORGET_LIMIT = 2.0

#: Bytes of output that nobody has taken beyond which who wants to write waits for the reader.
_MOST_BUFFERED = 8 * 1024 * 1024

#: The agent has gone, and with it the process: there is nothing to connect to again.
_FOR_GOOD = (ProtocolError, FramesGone, NobodyListens, ContainerNotFound, ContainerNotRunning)


class RawSession:
    """A process: started, written to, read, and ended. Safe to use from several tasks; one of them reads.

    Args:
        uplink: to a raw session that is its alone; only its first connection may start anything.
        streams: of a process that is to be started, or that runs; then the uplink has a position.
        name: the instance's, for errors.
        claude_hint: what to do where there is no Claude Code.
        on_end: called when it has ended and nothing of it is held.
    """

    def __init__(
        self,
        uplink: Uplink,
        streams: RawStreams,
        name: str,
        log: Log,
        claude_hint: str | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._uplink = uplink
        self._streams = streams
        self._name = name
        self._log = log
        self._claude_hint = claude_hint
        self._on_end = on_end
        self._turnstile = anyio.Lock(fast_acquire=True)  # must not cost a turn of the event loop for each line
        self._ending = anyio.Lock()
        self._taken = anyio.Event()  # something of the output, since it was made
        self._failure: BridgeError | None = None
        self._discards = False
        self._closed = False

    @property
    def exited(self) -> Exited | None:
        """How the process ended; None: it runs, as far as is known."""
        return self._streams.exited

    @property
    def input_ended(self) -> bool:
        """:meth:`end_input` was called."""
        return self._streams.input_ended

    @property
    def failure(self) -> BridgeError | None:
        """Why nothing more will come, although nobody has seen the process end."""
        return self._failure

    @property
    def over(self) -> bool:
        """It has ended, or is not to be had any more, as far as is known."""
        return self._streams.over or self._failure is not None or self._closed

    async def open(self) -> None:
        """Connect, and start the process. A failure, or a cancellation, leaves no connection.

        Raises:
            AgentUnavailable: also where the agent is of a release that has no such sessions.
            ChannelError, EngineError: it cannot be reached.
            ClaudeNotFound, ClaudeStartError: it cannot be started.
        """
        try:
            connection = await self._uplink.connect(resume=False)
            if not connection.hello.raw:
                what = f"its agent, {connection.hello.agent}, runs nothing beside its own Claude Code"
                hint = (
                    "That takes Python where it runs, and an agent of this release: `cc-bridge stop` ends an older one."
                )
                raise AgentUnavailable(what, instance=self._name, hint=hint)
            if self._streams.on_terminal and not connection.hello.tty:
                what = f"its agent, {connection.hello.agent}, starts nothing on a terminal"
                hint = "`cc-bridge stop` ends it, and the next one is of this release."
                raise AgentUnavailable(what, instance=self._name, hint=hint)
            self._streams.connected(connection.hello)
            self._handle(connection.early)
            with anyio.fail_after(_START_LIMIT):
                await self._until(lambda: self._streams.started)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._abandon()
            if isinstance(error, TimeoutError):
                raise ConnectionLost("the agent does not react", instance=self._name) from None
            raise
        if self._streams.refused is not None:
            await self.aclose()
            raise refusal_error(self._streams.refused, self._name, self._claude_hint)
        if self._failure is not None:
            await self.aclose()
            raise self._failure

    async def write(self, data: bytes) -> None:
        """Write to its stdin, as a whole; return when all of it is on its way.

        A cancelled call has written all of it or nothing: what is not on its way yet follows. Nothing is written after
        the end of its input, or of the process.

        Raises:
            ConnectionLost: the agent has gone, and the process with it.
        """
        self._streams.write(data)
        await self._send()

    async def end_input(self) -> None:
        """The end of its stdin, behind what was written; harmless when repeated. Raises: as :meth:`write`."""
        self._streams.end_input()
        await self._send()

    async def signal(self, name: str) -> None:
        """Send it ``INT``, ``TERM`` or ``KILL``; the last one goes to all that it has started, too."""
        self._streams.signal(name)
        await self._flush()

    async def resize(self, columns: int, rows: int) -> None:
        """Tell it that its terminal has this size now, or is to be drawn anew."""
        self._streams.resize(columns, rows)
        await self._flush()

    async def receive(self) -> StreamBytes | None:
        """The next bytes of its output; None: it has ended, and all was received. A cancelled call loses nothing.

        Raises:
            ConnectionLost: the agent has gone, and the process with it; all that came was received.
        """
        await self._until(lambda: bool(self._streams.buffered))
        taken = self._streams.take()
        if taken is not None:
            self._taken.set()
            self._taken = anyio.Event()
        elif self._failure is not None and self.exited is None:
            raise self._failure
        return taken

    async def aclose(self) -> None:
        """End the process, by the end of its input, then SIGTERM, then SIGKILL, and forget it.

        Bounded by itself, shielded, harmless when repeated, and before :meth:`open`.
        """
        with anyio.CancelScope(shield=True):
            async with self._ending:
                if self._closed:
                    return
                self._discards = True
                self._taken.set()
                for signal, limit in _END_LIMITS.items():
                    if not self._runs:
                        break
                    with anyio.move_on_after(limit):
                        await (self.signal(signal) if signal else self._end_quietly())
                        await self._until(lambda: False)
                await self._forget()

    # Private

    @property
    def _runs(self) -> bool:
        return self._uplink.position is not None and not self.over and self._streams.started

    async def _end_quietly(self) -> None:
        self._streams.end_input()
        await self._flush()

    async def _forget(self) -> None:
        """Give back what is held."""
        link = self._uplink.link
        self._closed = True
        if link is not None and self.exited is not None:
            link.forget_session()
            with anyio.move_on_after(_FORGET_LIMIT):
                await self._flush()
        await self._disconnect()

    async def _abandon(self) -> None:
        """It is not to be, or not any more: kill what may have been started, and leave."""
        link = self._uplink.link
        if link is not None and self._streams.connected_once:
            link.signal_claude("KILL")
            with anyio.move_on_after(_FORGET_LIMIT):
                await self._flush()
        self._closed = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        """The end of it."""
        await self._uplink.disconnect()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    async def _send(self) -> None:
        await self._flush()
        if self._streams.backlog:
            await self._until(lambda: not self._streams.backlog, writes=True)
        if self._failure is not None and self.exited is None:
            raise self._failure

    async def _flush(self) -> None:
        """Say what is to be said now; another task may be waiting to receive, which then connects again if need be."""
        connection, link = self._uplink.connection, self._uplink.link
        if connection is None or link is None:
            return
        self._streams.say(link)
        try:
            await self._uplink.write()
        except ConnectionLost:
            await connection.aclose()

    async def _until(self, done: Callable[[], bool], *, writes: bool = False) -> None:
        """Receive until this is so, or nothing more will come."""
        while not (done() or self.over):
            if writes and self._streams.buffered > _MOST_BUFFERED and not self._discards:
                await self._taken.wait()
                continue
            async with self._turnstile:
                if not (done() or self.over):
                    await self._step()

    async def _step(self) -> None:
        """Connect if need be, say what is to be said, and take what comes next."""
        try:
            if self._uplink.connection is None:
                connection = await self._uplink.connect(resume=True)
                self._streams.connected(connection.hello)
                self._handle(connection.early)
                await self._flush()
                return  # what is waited for may have come with the hello, and nothing after it
            await self._flush()
            if self.over or self._uplink.connection is None:
                return
            self._handle(await self._uplink.receive() or [])
            await self._flush()
        except (ChannelError, EngineError) as error:
            await self._lost(error)

    def _handle(self, events: list[LinkEvent]) -> None:
        self._streams.receive(events)
        while self._discards and self._streams.take() is not None:
            pass
        for event in events:
            if isinstance(event, Violated):
                raise ProtocolError(event.reason, instance=self._name)

    async def _lost(self, error: BridgeError) -> None:
        """The connection broke, or could not be made again."""
        if self._closed:
            return
        self._log.warning("connection_lost", reason=error.what, channel=self._uplink.channel_kind)
        await self._uplink.disconnect()
        if isinstance(error, _FOR_GOOD) or not self._uplink.count_loss(resumable=True):
            what = f"Claude Code is out of reach, or has ended with its agent: {error.what}"
            self._failure = ConnectionLost(what, instance=self._name)
