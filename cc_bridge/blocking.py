"""The same names for threads and plain scripts.

::

    from cc_bridge import ClaudeInstance, blocking

    with blocking.LocalProcess(ClaudeInstance.of(name="demo", kind="local", workspace=".")) as instance:
        for piece in instance.send_command("What is in this directory?"):
            print(piece, end="")

One event loop, in a thread of its own, serves all instances; it ends when the last one is cleaned up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from .events import Event, TurnResult
from .instance import ClaudeInstance, InstanceInterface
from .instances.docker_container import DockerContainer as _DockerContainer
from .instances.local_process import LocalProcess as _LocalProcess
from .instances.tmux_instance import TmuxInstance as _TmuxInstance
from .shapes import InstanceInfo
from .turn import Turn, TurnInfo

__all__ = ["BlockingInstance", "BlockingTurn", "DockerContainer", "LocalProcess", "TmuxInstance"]

T = TypeVar("T")

_provider = BlockingPortalProvider()


class BlockingInstance:
    """An instance whose methods block; any number of threads may call them at once.

    The methods do, return and raise what those of :class:`~cc_bridge.InstanceInterface` do. A
    KeyboardInterrupt cancels the call that it interrupts.
    """

    def __init__(self, instance: InstanceInterface) -> None:
        self.record = instance.record
        self._instance = instance
        self._resources = ExitStack()
        self._lock = Lock()
        self._portal: BlockingPortal | None = None

    def start(self) -> None:
        """Make it run, so that the next command finds it ready. Harmless when repeated."""
        self._call(self._instance.start)

    def stop(self) -> None:
        """Interrupt what runs and end the processes. The conversation is kept."""
        self._call(self._instance.stop)

    def restart(self) -> None:
        """Stop and start; the conversation goes on."""
        self._call(self._instance.restart)

    def interrupt(self) -> None:
        """End the running turn, whichever thread waits for it; return when it is over."""
        self._call(self._instance.interrupt)

    def is_running(self) -> bool:
        """Its container or process runs *and* the agent answers."""
        return self._call(self._instance.is_running)

    def get_info(self) -> InstanceInfo:
        """Its configuration and state as JSON types, without secrets."""
        return self._call(self._instance.get_info)

    def submit(self, text: str, id: str | None = None) -> BlockingTurn:  # noqa: A002
        """Queue a command, which runs once, however often it is submitted with this ``id``."""
        return BlockingTurn(self, self._call(self._instance.submit, text, id))

    def turn(self, id: str) -> BlockingTurn:  # noqa: A002
        """Find a turn again. Raises TurnNotFound where it is not kept."""
        return BlockingTurn(self, self._call(self._instance.turn, id))

    def turns(self) -> list[TurnInfo]:
        """The turns that :meth:`turn` finds, oldest first."""
        return self._call(self._instance.turns)

    def send_command_and_wait(self, text: str, timeout: float | None = 600.0) -> tuple[bool, str]:
        """Send a command; whether the answer is whole, and its text. ``timeout``: seconds, or None."""
        return self._call(self._instance.send_command_and_wait, text, timeout)

    def stream(self, text: str) -> Generator[Event, None, None]:
        """Send a command and yield its events. Closing the generator early interrupts the turn."""
        return self._iterate(self._instance.stream(text))

    def send_command(self, text: str) -> Generator[str, None, None]:
        """Send a command and yield the answer's text as it streams; raises TurnError where it is not whole."""
        return self._iterate(self._instance.send_command(text))

    def cleanup(self) -> None:
        """Give back what this object holds, and leave the event loop, also where that fails. Harmless when repeated."""
        try:
            self._call(self._instance.cleanup)
        finally:
            self._leave_portal()  # its thread would keep the program from ending

    def remove(self, *, conversation: bool = False) -> None:
        """Stop, and remove all that belongs to the instance; with ``conversation`` that, too."""
        try:
            self._call(partial(self._instance.remove, conversation=conversation))
            self._call(self._instance.cleanup)
        finally:
            self._leave_portal()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()

    def _iterate(self, generator: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        try:
            while True:
                try:
                    item = self._call(generator.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._close(generator.aclose)

    def _call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        with self._lock:  # so that no other thread ends the event loop between finding it and using it
            if self._portal is None:
                self._portal = self._resources.enter_context(_provider)
            future = self._portal.start_task_soon(function, *arguments)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # does nothing unless it is this thread that was interrupted
            raise

    def _close(self, function: Callable[[], Awaitable[None]]) -> None:
        """Call this; where the instance was cleaned up before, leave no event loop behind that nobody would end."""
        cleaned_up = self._portal is None
        try:
            self._call(function)
        finally:
            if cleaned_up:
                self._leave_portal()

    def _leave_portal(self) -> None:
        with self._lock:
            self._portal = None
            self._resources.close()


class BlockingTurn:
    """A turn whose methods block: an iterator of its events, and what :class:`~cc_bridge.turn.Turn` says."""

    def __init__(self, instance: BlockingInstance, turn: Turn) -> None:
        self.id = turn.id
        self._call, self._close = instance._call, instance._close
        self._turn = turn

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            return self._call(self._turn.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def result(self) -> TurnResult:
        """Read to the end; the turn's result."""
        return self._call(self._turn.result)

    def raise_for_result(self) -> None:
        """Nothing for a whole answer, else the error that fits."""
        self._turn.raise_for_result()

    def interrupt(self) -> None:
        """End the turn, and return when it is over; its result is still to be read."""
        self._call(self._turn.interrupt)

    def close(self) -> None:
        """Leave the turn: one of one's own is interrupted, one that was found goes on."""
        self._close(self._turn.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def LocalProcess(instance: ClaudeInstance, **options: Any) -> BlockingInstance:  # noqa: N802  the same name as the async one
    """A blocking :class:`cc_bridge.LocalProcess`, with its arguments."""
    return BlockingInstance(_LocalProcess(instance, **options))


def DockerContainer(instance: ClaudeInstance, client: Any = None, **options: Any) -> BlockingInstance:  # noqa: N802
    """A blocking :class:`cc_bridge.DockerContainer`, with its arguments."""
    return BlockingInstance(_DockerContainer(instance, client, **options))


def TmuxInstance(instance: ClaudeInstance, **options: Any) -> BlockingInstance:  # noqa: N802  the same name as the async one
    """A blocking :class:`cc_bridge.TmuxInstance`, with its arguments."""
    return BlockingInstance(_TmuxInstance(instance, **options))
