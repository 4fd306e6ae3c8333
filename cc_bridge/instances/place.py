"""Where an agent and its Claude Code live, and what is particular about that kind of place."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, ClassVar

import anyio

from ..bridge.connection import Connection
from ..bridge.surroundings import Ending, Launch
from ..channels.base import Channel
from ..channels.named_pipe import NamedPipeChannel, until_nobody_listens
from ..errors import AgentUnavailable, ChannelError, ConnectionLost, InvalidInput
from ..logs import Log
from ..protocol.command_line import ClaudeOptions, claude_argv
from ..protocol.link import Hello, Link
from ..record import ClaudeInstance
from .chosen import Chosen
from .outline import own_env
from .outside import check_outside
from .registry import Registry

if TYPE_CHECKING:
    from ..cluster.lease import Lease
    from ..shapes import Kind
    from .worktrees import Worktree

__all__ = ["GRACE", "LINGER", "NoAgentPossible", "Place", "shut_down"]

#: Seconds for Claude Code to end its turn and itself when the instance is stopped.
GRACE = 5.0

#: Seconds that an ephemeral instance outlives its host.
LINGER = 20.0

#: Stands for the conversation in the words with which an agent starts Claude Code by itself.
_CONVERSATION = "{session_id}"


class Place(abc.ABC):
    """One place: a container, a process, or a pane.

    It knows neither turns nor the conversation, and asks nothing of the instance that it is of.

    Args:
        record: the instance's; it may be changed (``Registry.update``), and this is where it is.
        registry: where instances are kept.

    Attributes:
        is_new: the instance is being made, and nothing stays of it if that fails.
        attended_by: the proxy that has its key, where that is outside, as ``way_out.proxy_now`` numbers it; 0: one
            that has gone; None: none was asked.
        lease: who drives it, where programs of several machines reach it.

    Raises:
        InvalidInput: the record is of another kind.
    """

    #: The kind of record that is run here.
    kind: ClassVar[Kind]

    #: What to do where there is no Claude Code; None: the general advice.
    claude_hint: ClassVar[str | None] = None

    def __init__(self, record: ClaudeInstance, registry: Registry) -> None:
        if record.kind != self.kind:
            what = f"its record is of kind {record.kind!r}, and what was to run it is for kind {self.kind!r}"
            raise InvalidInput(what, instance=record.name)
        self.record = record
        self.registry = registry
        self.home = registry.home(record.name)
        self.log = Log(record.name, record.kind)
        self.is_new = False
        self.attended_by: int | None = None
        self.lease: Lease | None = None
        self._ending = Ending("")

    @property
    def name(self) -> str:
        """The instance's."""
        return self.record.name

    # Its life

    async def check(self) -> None:
        """Make sure, before anything is made, that what it needs of this machine is there.

        Raises:
            InvalidInput, EngineError: something is not.
        """
        self.record.check_workspace()
        check_outside(self.record)

    @abc.abstractmethod
    async def connect(self, greeting: bytes) -> Channel:
        """A channel to the agent, which is started if need be; ``greeting`` has been sent over it."""

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        """A better channel than one of kind ``current``, if one can be had at once; None: there is one way only."""
        return None

    @abc.abstractmethod
    async def is_running(self) -> bool:
        """It runs, and an agent answers where there is one."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """End agent and Claude Code within the grace time; tolerant of what has ended already."""

    @abc.abstractmethod
    async def remove(self) -> None:
        """The same, and leave nothing."""

    @abc.abstractmethod
    async def release(self) -> None:
        """Give back what this object holds; the place goes on."""

    def pop_ending(self) -> Ending:
        """Why the previous agent exited, if :meth:`connect` has learned it; cleared by this call."""
        ending, self._ending = self._ending, Ending("")
        return ending

    @abc.abstractmethod
    async def info(self) -> dict[str, Any]:
        """The part of ``get_info`` that only this kind knows."""

    # Claude Code

    async def launch(self, resume: str, *, fork: bool, begins: bool) -> Launch:
        """How to start it.

        Args:
            resume: the session to go on with; empty: a new one.
            fork: go on in a session of its own.
            begins: nothing was ever said here; the session is another instance's, or an earlier one's of this name.
        """
        options = Chosen(self.home.path).applied(self.record.claude)
        sleep, stop = self.record.sleep_times
        argv = self.argv(options, resume, fork)
        launch = Launch(argv, self.claude_env(), self.cwd, sleep_after=sleep, stop_after=stop)
        if self.record.in_pane:  # which does not sleep
            return launch.replace(announces=True)
        return launch.replace(again=tuple(self.argv(options, _CONVERSATION, fork=False)))

    def argv(self, options: ClaudeOptions, resume: str, fork: bool) -> list[str]:
        """The words that start it, speaking stream-json."""
        return claude_argv(options, resume=resume, fork=fork)

    def claude_env(self, own: Mapping[str, str] | None = None) -> dict[str, str]:
        """The record's variables, and the host's login where the record has none.

        Args:
            own: of one Claude Code of several.
        """
        return own_env(self.record, own or {}, self.home.path)

    def program(self) -> str:
        """Claude Code's, to be run beside the instance's own.

        Raises:
            InvalidInput: none can be.
            ClaudeNotFound: there is none.
        """
        if self.record.in_pane:  # what a person shares with a program has no streams that one could have alone
            raise InvalidInput("it is a pane, and nothing is run beside it", instance=self.name)
        return self.record.claude.program

    def inside(self, path: str) -> str | None:
        """An absolute path of this machine as it is named there; None: it is not there. One that is there stays."""
        return path

    @property
    @abc.abstractmethod
    def cwd(self) -> str:
        """The directory in which it starts, as it is named there."""

    # Conversations

    @abc.abstractmethod
    async def read_transcript(self, session_id: str) -> list[str] | None:
        """The tail of a session's transcript; None if there is none.

        Raises:
            ConnectionLost: where it is, nothing runs any more.
            EngineError: it cannot be read now.
        """

    @abc.abstractmethod
    async def open_session(self, session_id: str) -> IO[bytes] | None:
        """The session's file, to be closed by the caller; None: there is none."""

    async def keeps_session(self) -> bool:
        """The conversation can be had after the place was removed."""
        return True

    @property
    def removes_session(self) -> bool:
        """What was said is removed with the place, or with the directory of the instance."""
        return False

    @property
    def config_outside(self) -> str:
        """Claude Code's configuration directory, if neither in the place nor in the directory of the instance."""
        return ""

    def worktree(self) -> Worktree | None:
        """The git worktree that was made for the instance."""
        record = self.record
        if not (record.worktree and record.workspace and record.repository):
            return None
        from .worktrees import Worktree

        return Worktree(record.workspace, record.worktree, record.repository)

    # For the kinds

    async def pipes(self, greeting: bytes, limit: float = 5.0) -> NamedPipeChannel:
        """The pipes, where an agent listens at them, and answers within so many seconds."""
        return await NamedPipeChannel.connect(str(self.home.pipes), greeting, limit)

    async def way(self, greeting: bytes) -> Channel:
        """The way to an agent that runs, from this machine and without the engine."""
        return await self.pipes(greeting)

    async def way_to_look(self, greeting: bytes) -> Channel:
        """The way to an agent that runs; nothing is started for it."""
        return await self.way(greeting)

    async def hello(self) -> Hello | None:
        """A hello over a connection of its own; None: nobody answers there."""
        try:
            connection = await Connection.open(Link("health", looks=True), self.way, self.name)
        except ChannelError:
            return None
        await connection.aclose()
        return connection.hello

    async def until_agent_ends(self) -> None:
        """Return when no agent runs there, as seen from this machine and without the engine; at once where none does.

        One that is suspended is waited for at its pipes; one whose pipes were taken away, at its socket.
        """
        await until_nobody_listens(str(self.home.pipes))
        with suppress(ChannelError):
            connection = await Connection.open(Link("health", looks=True), self.way, self.name)
            try:
                while await connection.receive() is not None:
                    pass
            finally:
                await connection.aclose()


class NoAgentPossible(AgentUnavailable):
    """No agent can run there: it has no Python, and ``claude`` is run directly."""


async def shut_down(connection: Connection) -> None:
    """Ask the agent to end, and wait for the end of the connection: it ends last of all."""
    try:
        if connection.link.closed:  # by what else has come with its hello
            return
        connection.link.shut_down()
        await connection.write()
        deadline = anyio.current_time() + GRACE + 5
        while await connection.receive(deadline) is not None:
            pass
    except ConnectionLost:
        pass  # it has ended
    finally:
        await connection.aclose()
