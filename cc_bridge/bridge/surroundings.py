"""What a bridge needs of the instance that it is of, and of the place where that one lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..channels.base import Channel
from ..values import Value

__all__ = ["Dialer", "DrivingLease", "Ending", "Launch", "Surroundings"]


class Launch(Value):
    """How to start Claude Code at this place. ``env`` may have secrets.

    Attributes:
        again: the words with which the agent starts it by itself, for what has come while it fell asleep; in them
            ``{session_id}`` is the conversation that it had. Empty: as before.
        announces: it says something before its first turn, as soon as it can be used.
        sleep_after, stop_after: seconds, as :class:`~cc_bridge.ClaudeInstance` has them; 0: never.
    """

    argv: list[str]
    env: Mapping[str, str]
    cwd: str
    again: tuple[str, ...] = ()
    announces: bool = False
    sleep_after: float = 0
    stop_after: float = 0


class Ending(Value):
    """How the place of an agent had ended: what a person is told, and what is known of it."""

    what: str
    exit_code: int | None = None
    out_of_memory: bool = False


class Dialer(Protocol):
    """Makes channels to an agent."""

    name: str
    """The instance's, for errors."""

    async def connect(self, greeting: bytes) -> Channel:
        """A channel to the agent, which is started if need be; ``greeting`` has been sent over it."""

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        """A better channel than one of kind ``current``, if one can be had at once."""


class DrivingLease(Protocol):
    """Which program may send commands and start Claude Code, where those of several machines reach the instance."""

    @property
    def fence(self) -> int | None:
        """To be said in a hello; None: it is not held."""

    @property
    def renew_at(self) -> float:
        """When to renew it, in anyio's time; infinite: it is not held."""

    async def renew(self) -> bool:
        """Renew it, within seconds; False: it is another program's by now."""

    async def confirm(self) -> None:
        """Make sure that it is held, after a hello with its fence.

        Raises:
            LeaseLost: it is not.
            EngineError: nobody can say.
        """

    def overtaken(self) -> None:
        """An agent knows of a higher fence."""

    async def give_up(self) -> None:
        """Let others have it."""


class Surroundings(Dialer, Protocol):
    """What a conversation needs of the instance that it is of, and of its place."""

    @property
    def lease(self) -> DrivingLease | None:
        """None: programs of other machines do not reach it, or all of them may drive it."""

    claude_hint: str | None
    """What to do where there is no Claude Code; None: the general advice."""

    def exists(self) -> bool:
        """The instance has not been removed."""

    async def rest(self) -> bool:
        """Wait until nobody starts or ends the instance; False: somebody did."""

    def starting(
        self, abandon: Callable[[], Awaitable[None]], *, drives: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """The bridge connects and starts Claude Code within; nobody else starts or ends the instance meanwhile.

        Args:
            abandon: gives up the connection; awaited before what a failed first start has made is removed.
            drives: the lease is taken before, where there is one, and held within.

        Raises:
            AgentUnavailable: somebody wants the instance to end.
            InstanceBusy: another program does not come to an end with it.
        """

    def pop_ending(self) -> Ending:
        """Why the previous agent exited, if :meth:`connect` has learned it; cleared by this call."""

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
