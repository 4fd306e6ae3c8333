"""The contract that every kind of instance keeps."""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from .decisions import Allow, Decision, Deny, OnPermission, decision_of
from .events import ContextUsage, Event, SlashCommand, TextDelta, TurnResult
from .record import ClaudeInstance
from .turn import Turn, TurnInfo

if TYPE_CHECKING:
    from .protocol.blocks import Prompt
    from .shapes import InstanceInfo

__all__ = ["Allow", "Decision", "Deny", "InstanceInterface", "OnPermission", "decision_of"]


class InstanceInterface(abc.ABC):
    """Claude Code, wherever it runs. ``cc_bridge.testing.instance_contract`` checks an implementation.

    Methods may be called from many tasks of one event loop; :mod:`cc_bridge.blocking` serves threads.
    Commands that come while one runs wait, and run in the order in which they came.

    ``async with`` starts the instance, and on the way out cleans it up: an ephemeral one is removed, any
    other goes on running.
    """

    record: ClaudeInstance

    @abc.abstractmethod
    async def submit(self, prompt: Prompt, id: str | None = None) -> Turn:  # noqa: A002  the word that fits
        """Queue a command, which runs once, however often it is submitted.

        Args:
            prompt: text, or content blocks: :class:`~cc_bridge.Text`, :class:`~cc_bridge.Image`,
                :class:`~cc_bridge.Document`. A pane takes text only.
            id: a UUID for the turn. Where a command with this id was sent before, by this process or any
                other, the turn is that one, from its beginning, and nothing is sent.

        Raises:
            InvalidInput: it cannot be a prompt, or ``id`` is no UUID. Nothing was sent.
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
    async def set_model(self, model: str | None) -> str:
        """Let another model answer from the next request on, also in the middle of a turn, and after a restart.

        Args:
            model: a name or an alias, such as ``sonnet``; None: Claude Code's own default.

        Returns:
            The model's whole name.

        Raises:
            InvalidInput: that is no name; or it is a pane.
            RequestRefused: Claude Code does not take it, or did not answer.
            BridgeError: the instance cannot be reached or started.
        """

    @abc.abstractmethod
    async def set_permission_mode(self, mode: str) -> str:
        """Ask for permissions in another way from now on, and after a restart.

        Args:
            mode: ``default``, ``acceptEdits``, ``plan``, ``dontAsk``, ``auto``; ``bypassPermissions`` only where Claude
                Code was started with ``skip_permissions``.

        Returns:
            The mode in effect.

        Raises: as :meth:`set_model`.
        """

    @abc.abstractmethod
    async def commands(self) -> Sequence[SlashCommand]:
        """The slash commands that a prompt may begin with.

        Raises: as :meth:`set_model`.
        """

    @abc.abstractmethod
    async def context_usage(self, *, exact: bool = False) -> ContextUsage:
        """What the model's context is full of.

        Args:
            exact: have the API count the tokens of each part, instead of estimating them.

        Raises: as :meth:`set_model`; a release that does not know the question refuses it.
        """

    @abc.abstractmethod
    async def start(self) -> None:
        """Make it run, so that the next command finds it ready. Harmless when repeated.

        A first start that fails or is cancelled leaves nothing; another leaves the instance as it is.
        """

    @abc.abstractmethod
    async def stop(self) -> None:
        """Interrupt what runs and end the processes within the grace time. The conversation is kept."""

    @abc.abstractmethod
    async def sleep(self) -> None:
        """End Claude Code now if it is idle; the next command, or :meth:`wake`, resumes the conversation.

        Raises:
            InstanceBusy, InvalidInput: it is not, or is in a pane, or no agent can run there; they say why.
        """

    async def wake(self) -> None:
        """Start it ahead of a command, because a person has begun to type. As :meth:`start`; harmless when awake."""
        await self.start()

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

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Event, None]:
        """Send a command and yield its events; the last is a :class:`~cc_bridge.events.TurnResult`.

        Leaving the iterator early, or cancelling its consumer, interrupts the turn and waits until it is
        over (at most some ten seconds), so that the next command finds Claude Code idle.

        Raises:
            InvalidInput: it cannot be a prompt.
            BridgeError: the instance cannot be reached or started.
        """
        async with await self.submit(prompt) as turn:
            async for event in turn:
                yield event

    async def send_command(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """Send a command and yield the answer's text as it streams. Early leaving: see :meth:`stream`.

        Raises:
            TurnError: the turn did not complete; what had arrived was yielded before.
            BridgeError: as :meth:`stream`.
        """
        turn = await self.submit(prompt)
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    yield event.text
            turn.raise_for_result()

    async def send_command_and_wait(self, prompt: Prompt, timeout: float | None = 600.0) -> tuple[bool, str]:
        """Send a command and wait for the whole answer.

        Args:
            timeout: seconds; then the turn is interrupted, so that it costs nothing more. None: no limit.

        Returns:
            Whether the answer is whole, and the text; where it failed without any, what went wrong.

        Raises:
            InvalidInput: it cannot be a prompt.
            BridgeError: the instance cannot be reached or started.
        """
        said: list[str] = []
        result: TurnResult | None = None
        with anyio.move_on_after(timeout):
            async with aclosing(self.stream(prompt)) as stream:
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
