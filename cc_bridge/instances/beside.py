"""A Claude Code of its own beside an instance's, whose streams somebody has alone."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from ..bridge.uplink import Uplink
from ..channels.base import Channel
from .place import Place

if TYPE_CHECKING:
    from ..bridge.raw import RawSession
    from ..protocol.link import Position
    from ..protocol.raw import RawStreams

__all__ = ["Beside"]


class _Instance(Protocol):
    name: str

    async def connect(self, greeting: bytes) -> Channel: ...

    async def connect_to_look(self, greeting: bytes) -> Channel: ...

    def starting(self, abandon: Callable[[], Awaitable[None]]) -> AbstractAsyncContextManager[None]: ...


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
    """

    def __init__(self, instance: _Instance, place: Place) -> None:
        self._instance = instance
        self._place = place
        self.has_run = False

    def inside(self, path: str) -> str | None:
        """An absolute path of this machine as it is named there; None: it is not there. One that is there stays."""
        return self._place.inside(path)

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
        """
        from ..bridge.raw import RawSession  # on demand: hardly any program needs it
        from ..protocol.raw import RawStreams, Start

        place = self._place
        argv = [place.program(), *args]
        uplink = Uplink(_Once(self._instance), place.log, session=f"raw-{os.urandom(12).hex()}")
        start = Start.of(argv, place.claude_env(env), cwd or place.cwd, tty=tty)
        session = RawSession(uplink, RawStreams(start), place.name, place.log, place.claude_hint)
        async with self._instance.starting(session.aclose):
            await session.open()
            self.has_run = True
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
