"""A Claude Code of its own beside an instance's, whose streams somebody has alone."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

import anyio

from ..bridge.uplink import Uplink
from ..channels.base import Channel
from ..errors import InvalidInput
from .place import Place

if TYPE_CHECKING:
    from ..bridge.raw import RawSession
    from ..protocol.link import Position
    from ..protocol.raw import RawStreams

__all__ = ["Beside"]

#: Unpacks into the directory in which Claude Code has the sessions of all projects; and seconds for it.
_UNPACK = """umask 077
in="${CLAUDE_CONFIG_DIR:-$HOME/.claude}/projects"
mkdir -p "$in" && exec tar -xf - -C "$in"
"""
_UNPACK_LIMIT = 120.0

#: Bytes of what it says where it fails.
_MOST_SAID = 500


class _Instance(Protocol):
    name: str

    async def connect(self, greeting: bytes) -> Channel: ...

    async def connect_to_look(self, greeting: bytes) -> Channel: ...

    def starting(self, abandon: Callable[[], Awaitable[None]]) -> AbstractAsyncContextManager[None]: ...


class Guard(Protocol):
    """Whoever has a say in how many run, such as a fleet."""

    async def come(self) -> None:
        """Return when one more may run; raises what forbids it."""

    def gone(self) -> None:
        """One has ended, or was not started after all."""


class _Once:
    """Makes channels to an agent, and starts it only for the first: what ends with it is not there any more."""

    def __init__(self, instance: _Instance, *, is_first: bool = True) -> None:
        self.name = instance.name
        self._instance = instance
        self._is_first = is_first

    async def connect(self, greeting: bytes) -> Channel:
        """See ``Dialer``."""
        if not self._is_first:
            return await self._instance.connect_to_look(greeting)
        channel = await self._instance.connect(greeting)
        self._is_first = False
        return channel

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        """None: a session is as short as a turn."""
        return None


class Beside:
    """Runs Claude Codes beside an instance's own, which goes on as if there were none.

    Attributes:
        has_run: there was one, so that the instance stays.
        guard: asked before each, and told of its end.
    """

    def __init__(self, instance: _Instance, place: Place) -> None:
        self._instance = instance
        self._place = place
        self.has_run = False
        self.guard: Guard | None = None
        self._sessions: WeakSet[RawSession] = WeakSet()  # one that nobody has any more the agent ends

    @property
    def runs(self) -> bool:
        """One runs, or is being started, as far as this program knows."""
        return any(not session.over for session in self._sessions)

    def inside(self, path: str) -> str | None:
        """An absolute path of this machine as it is named there; None: it is not there. One that is there stays."""
        return self._place.inside(path)

    @property
    def cwd(self) -> str:
        """The directory in which one starts, as it is named there."""
        return self._place.cwd

    async def run(
        self, args: Sequence[str], env: Mapping[str, str], cwd: str = "", *, tty: tuple[int, int] | None = None
    ) -> RawSession:
        """Run one.

        Args:
            args: the words behind the program's name.
            env: added to the variables of the instance's own; where they name a login, that goes whole.
            cwd: as it is named there; empty: the instance's.
            tty: on a terminal of so many columns and rows; None: with three pipes.

        Raises:
            InvalidInput: the instance is a pane.
            AgentUnavailable, ConnectionLost, ProtocolError, EngineError: it cannot be reached.
            ClaudeNotFound, ClaudeStartError: it cannot be started.
            BudgetExceeded: a fleet has it, and nothing more may be spent.
        """
        return await self._run([self._place.program(), *args], env, cwd, tty)

    async def put_sessions(self, archive: bytes, env: Mapping[str, str], cwd: str = "") -> None:
        """Write session files to where a Claude Code reads them that is run with the same ``env``.

        What is there of the same names is replaced. It is written by a program there, and so as its user may.

        Args:
            archive: a tar archive, for the directory of all projects.

        Raises:
            InvalidInput: it cannot be written; what was is there. The rest: as :meth:`run`.
        """
        session = await self._run(["sh", "-c", _UNPACK], env, cwd)
        said = b""
        try:
            with anyio.move_on_after(_UNPACK_LIMIT):
                await session.write(archive)
                await session.end_input()
                while (came := await session.receive()) is not None:
                    said = (said + came.data)[-_MOST_SAID:]
        finally:
            await session.aclose()
        if session.exited is None or session.exited.code != 0:
            what = f"the session cannot be written there: {said.decode('utf-8', 'replace').strip() or 'no answer'}"
            raise InvalidInput(what, instance=self._place.name)

    async def _run(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, tty: tuple[int, int] | None = None
    ) -> RawSession:
        from ..bridge.raw import RawSession  # on demand: hardly any program needs it
        from ..protocol.raw import RawStreams, Start

        place, guard = self._place, self.guard
        start = Start.of(argv, place.claude_env(env), cwd or place.cwd, tty=tty)
        if guard is not None:
            await guard.come()
        uplink = Uplink(_Once(self._instance), place.log, session=f"raw-{os.urandom(12).hex()}")
        session = RawSession(
            uplink, RawStreams(start), place.name, place.log, place.claude_hint, guard.gone if guard else None
        )
        self._sessions.add(session)
        try:
            async with self._instance.starting(session.aclose):
                await session.open()
                self.has_run = True
        except BaseException:  # cancelled, too
            await session.aclose()  # it may not have come to its start
            raise
        return session

    def go_on(self, streams: RawStreams, session: str, position: Position | None) -> RawSession:
        """Go on with one that runs, over a new connection.

        Args:
            session: its name in the agent.
            position: of the last connection, where the next one begins.
        """
        from ..bridge.raw import RawSession

        place = self._place
        uplink = Uplink(_Once(self._instance, is_first=False), place.log, position, session=session)
        return RawSession(uplink, streams, place.name, place.log, place.claude_hint)
