"""The contract that every kind of instance keeps."""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from .errors import InvalidInput
from .events import Event, PermissionRequest, TextDelta, TurnResult
from .record import ClaudeInstance
from .turn import Turn, TurnInfo
from .values import Value

if TYPE_CHECKING:
    from .shapes import InstanceInfo

__all__ = ["Allow", "Decision", "Deny", "InstanceInterface", "OnPermission", "decision_of"]


class Allow(Value):
    """Let the tool run.

    Attributes:
        input: a changed input, or None for the one asked about.
        updates: rules that make the permission last, from the request's ``suggestions``.
    """

    input: Mapping[str, Any] | None = None
    updates: tuple[Any, ...] = ()


class Deny(Value):
    """Do not let the tool run; the model reads the reason."""

    reason: str = "The user has not allowed this."


Decision = Allow | Deny

#: A coroutine function that decides on a permission request, within ``permission_limit`` seconds of the instance's.
OnPermission = Callable[[PermissionRequest], Awaitable[Decision]]


async def decision_of(on_permission: OnPermission, request: PermissionRequest) -> Decision:
    """What ``on_permission`` decides.

    Raises:
        InvalidInput: it is no coroutine function, or returned something else than Allow or Deny. A bool is not taken:
            what a program returns by mistake is often true.
    """
    answer = on_permission(request)
    if not isinstance(answer, Awaitable):
        hint = "Write it with `async def`; instances of cc_bridge.blocking take plain functions, too."
        raise InvalidInput(f"on_permission is no coroutine function: it returned {answer!r} at once", hint=hint)
    decision: object = await answer
    if not isinstance(decision, Allow | Deny):
        hint = "Return Allow() or Deny(reason); the permission was denied."
        raise InvalidInput(f"on_permission returned {decision!r}, which is no decision", hint=hint)
    return decision


class InstanceInterface(abc.ABC):
    """Claude Code, wherever it runs. ``cc_bridge.testing.instance_contract`` checks an implementation.

    Methods may be called from many tasks of one event loop; :mod:`cc_bridge.blocking` serves threads.
    Commands that come while one runs wait, and run in the order in which they came.

    ``async with`` starts the instance, and on the way out cleans it up: an ephemeral one is removed, any
    other goes on running.
    """

    record: ClaudeInstance

    @abc.abstractmethod
    async def submit(self, text: str, id: str | None = None) -> Turn:  # noqa: A002  the word that fits
        """Queue a command, which runs once, however often it is submitted.

        Args:
            id: a UUID for the turn. Where a command with this id was sent before, by this process or any
                other, the turn is that one, from its beginning, and nothing is sent.

        Raises:
            InvalidInput: the text cannot be a prompt, or ``id`` is no UUID. Nothing was sent.
        """

    @abc.abstractmethod
    async def turn(self, id: str) -> Turn:  # noqa: A002
        """Find a turn again, running or ended: all its events, from the first. Leaving it early does not end it.

        A turn is kept until it was read to its end and more recent ones have taken its place (docs/reliability.md).

        Raises:
            TurnNotFound: no command with this id was accepted, or it is not kept any more.
            BridgeError: the instance cannot be reached or started.
        """

    @abc.abstractmethod
    async def turns(self) -> list[TurnInfo]:
        """The turns that :meth:`turn` finds, oldest first.

        Raises:
            BridgeError: the instance cannot be reached or started.
        """

    @abc.abstractmethod
    async def interrupt(self) -> None:
        """End the running turn, and return when it is over. Does nothing when none runs."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Make it run, so that the next command finds it ready. Harmless when repeated.

        A first start that fails or is cancelled leaves nothing; another leaves the instance as it is.
        """

    @abc.abstractmethod
    async def stop(self) -> None:
        """Interrupt what runs and end the processes within the grace time. The conversation is kept."""

    @abc.abstractmethod
    async def release(self) -> None:
        """Give back what this object holds; the instance goes on, its turns and those that wait, too."""

    @abc.abstractmethod
    async def cleanup(self) -> None:
        """Give back what this object holds; for an ephemeral instance, remove it. Harmless when repeated."""

    @abc.abstractmethod
    async def remove(self, *, conversation: bool = False) -> None:
        """Stop, and remove everything that belongs to the instance.

        Args:
            conversation: the conversation too. Otherwise it is kept for 30 days: the next instance of this
                name goes on with it, and any other with ``resume``.
        """

    @abc.abstractmethod
    async def is_running(self) -> bool:
        """Its container or process runs *and* the agent answers."""

    @abc.abstractmethod
    async def get_info(self) -> InstanceInfo:
        """Its configuration and state as JSON types, without secrets."""

    async def restart(self) -> None:
        """Stop and start; the conversation goes on."""
        await self.stop()
        await self.start()

    async def stream(self, text: str) -> AsyncGenerator[Event, None]:
        """Send a command and yield its events; the last is a :class:`~cc_bridge.events.TurnResult`.

        Leaving the iterator early, or cancelling its consumer, interrupts the turn and waits until it is
        over (at most some ten seconds), so that the next command finds Claude Code idle.

        Raises:
            InvalidInput: the text cannot be a prompt.
            BridgeError: the instance cannot be reached or started.
        """
        async with await self.submit(text) as turn:
            async for event in turn:
                yield event

    async def send_command(self, text: str) -> AsyncGenerator[str, None]:
        """Send a command and yield the answer's text as it streams. Early leaving: see :meth:`stream`.

        Raises:
            TurnError: the turn did not complete; what had arrived was yielded before.
            BridgeError: as :meth:`stream`.
        """
        turn = await self.submit(text)
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    yield event.text
            turn.raise_for_result()

    async def send_command_and_wait(self, text: str, timeout: float | None = 600.0) -> tuple[bool, str]:
        """Send a command and wait for the whole answer.

        Args:
            timeout: seconds; then the turn is interrupted, so that it costs nothing more. None: no limit.

        Returns:
            Whether the answer is whole, and the text; where it failed without any, what went wrong.

        Raises:
            InvalidInput: the text cannot be a prompt.
            BridgeError: the instance cannot be reached or started.
        """
        said: list[str] = []
        result: TurnResult | None = None
        with anyio.move_on_after(timeout):
            async with aclosing(self.stream(text)) as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        said.append(event.text)
                    elif isinstance(event, TurnResult):
                        result = event
        if result is None:
            return False, "".join(said)
        return result.ok, "".join(said) or ("" if result.ok else result.error)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:  # cancelled, too: nobody else would clean up, because __aexit__ is not called
            with anyio.CancelScope(shield=True):
                await self.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.cleanup()
