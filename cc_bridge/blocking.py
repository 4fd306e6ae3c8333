"""The same names for threads and plain scripts.

::

    from cc_bridge import ClaudeInstance, blocking

    with blocking.LocalProcess(ClaudeInstance.of(name="demo", kind="local", workspace=".")) as instance:
        for piece in instance.send_command("What is in this directory?"):
            print(piece, end="")

One event loop, in a thread of its own, serves all instances; it ends when the last one is cleaned up. A program that
ends without ``cleanup()`` leaves its instances as one that was killed does: ephemeral ones end by themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, cast

from .blocking_tools import BlockingTools
from .engine.execs import ExecResult
from .engine.progress import Progress
from .event_loop import Caller, awaitable
from .events import ContextUsage, Event, PermissionRequest, SlashCommand, TurnResult
from .instance import Decision, InstanceInterface
from .instances.bridged import BridgedInstance, CommonOptions, InstanceOptions
from .instances.contained_instance import ContainedInstance
from .instances.docker_container import DockerContainer as _DockerContainer
from .instances.local_process import LocalProcess as _LocalProcess
from .instances.registry import Registry
from .instances.swarm_service import SwarmService as _SwarmService
from .instances.tmux_instance import TmuxInstance as _TmuxInstance
from .instances.worktrees import Worktree
from .protocol.blocks import Prompt
from .record import ClaudeInstance
from .shapes import InstanceActivity, InstanceInfo
from .turn import Turn, TurnInfo

if TYPE_CHECKING:
    import docker

__all__ = [
    "BlockingInstance",
    "BlockingOptions",
    "BlockingTools",
    "BlockingTurn",
    "DockerContainer",
    "LocalProcess",
    "OnDockerfile",
    "OnPermission",
    "SwarmService",
    "TmuxInstance",
    "open",
]

InstanceT = TypeVar("InstanceT", bound=InstanceInterface)
BridgedT = TypeVar("BridgedT", bound=BridgedInstance)
ContainedT = TypeVar("ContainedT", bound=ContainedInstance)

#: Decides on a permission request: a plain function, which runs in a thread and may block, or a coroutine function.
OnPermission = Callable[[PermissionRequest], Decision | Awaitable[Decision]]

#: Asked whether to build a Dockerfile, with its path and its text: a plain function or a coroutine function.
OnDockerfile = Callable[[Path, str], bool | Awaitable[bool]]


class BlockingOptions(CommonOptions, total=False):
    """What instances of this module take besides their record.

    Attributes:
        on_permission: decides on permission requests; without it they are denied. One that takes longer than
            ``permission_limit`` goes on in its thread, and is not listened to.
    """

    on_permission: OnPermission | None


class BlockingInstance(Generic[InstanceT]):
    """An instance whose methods block; any number of threads may call them at once.

    The methods do, return and raise what those of :class:`~cc_bridge.InstanceInterface` do. A
    KeyboardInterrupt cancels the call that it interrupts.
    """

    def __init__(self, instance: InstanceT) -> None:
        self._instance = instance
        self._loop = Caller(lambda: instance.release())

    @property
    def record(self) -> ClaudeInstance:
        """The instance's, as it is now."""
        return self._instance.record

    def start(self) -> None:
        """Make it run, so that the next command finds it ready. Harmless when repeated."""
        self._loop.call(self._instance.start)

    def stop(self) -> None:
        """Interrupt what runs and end the processes. The conversation is kept."""
        self._loop.call(self._instance.stop)

    def sleep(self) -> None:
        """End Claude Code if it is idle; the next command starts it again. Raises InstanceBusy where it is not."""
        self._loop.call(self._instance.sleep)

    def wake(self) -> None:
        """Start it ahead of a command. Harmless when awake."""
        self._loop.call(self._instance.wake)

    def restart(self) -> None:
        """Stop and start; the conversation goes on."""
        self._loop.call(self._instance.restart)

    def interrupt(self) -> None:
        """End the running turn, whichever thread waits for it; return when it is over."""
        self._loop.call(self._instance.interrupt)

    def is_running(self) -> bool:
        """Its container or process runs *and* the agent answers."""
        return self._loop.call(self._instance.is_running)

    def get_info(self) -> InstanceInfo:
        """Its configuration and state as JSON types, without secrets."""
        return self._loop.call(self._instance.get_info)

    def submit(self, prompt: Prompt, id: str | None = None) -> BlockingTurn:  # noqa: A002
        """Queue a command, which runs once, however often it is submitted with this ``id``."""
        return BlockingTurn(self, self._loop.call(self._instance.submit, prompt, id))

    def turn(self, id: str) -> BlockingTurn:  # noqa: A002
        """Find a turn again. Raises TurnNotFound where it is not kept."""
        return BlockingTurn(self, self._loop.call(self._instance.turn, id))

    def turns(self) -> list[TurnInfo]:
        """The turns that :meth:`turn` finds, oldest first."""
        return self._loop.call(self._instance.turns)

    def set_model(self, model: str | None) -> str:
        """Let another model answer from the next request on, and after a restart; its whole name."""
        return self._loop.call(self._instance.set_model, model)

    def set_permission_mode(self, mode: str) -> str:
        """Ask for permissions in another way from now on, and after a restart; the mode in effect."""
        return self._loop.call(self._instance.set_permission_mode, mode)

    def commands(self) -> Sequence[SlashCommand]:
        """The slash commands that a prompt may begin with."""
        return self._loop.call(self._instance.commands)

    def context_usage(self, *, exact: bool = False) -> ContextUsage:
        """What the model's context is full of; ``exact``: counted by the API."""
        return self._loop.call(partial(self._instance.context_usage, exact=exact))

    def send_command_and_wait(self, prompt: Prompt, timeout: float | None = 600.0) -> tuple[bool, str]:
        """Send a command; whether the answer is whole, and its text. ``timeout``: seconds, or None."""
        return self._loop.call(self._instance.send_command_and_wait, prompt, timeout)

    def stream(self, prompt: Prompt) -> Generator[Event, None, None]:
        """Send a command and yield its events. Closing the generator early interrupts the turn."""
        return self._loop.iterate(self._instance.stream(prompt))

    def send_command(self, prompt: Prompt) -> Generator[str, None, None]:
        """Send a command and yield the answer's text as it streams; raises TurnError where it is not whole."""
        return self._loop.iterate(self._instance.send_command(prompt))

    def release(self) -> None:
        """Give back what this object holds, and leave the event loop; the instance goes on, and its turns.

        Calls that still run in other threads end with a BridgeError.
        """
        self._loop.finish(self._instance.release)

    def cleanup(self) -> None:
        """Give back what this object holds, and leave the event loop, also where that fails. Harmless when repeated.

        Calls that still run in other threads end with a BridgeError.
        """
        self._loop.finish(self._instance.cleanup)

    def remove(self, *, conversation: bool = False) -> None:
        """Stop, and remove all that belongs to the instance; with ``conversation`` that, too."""
        self._loop.finish(partial(self._instance.remove, conversation=conversation), self._instance.cleanup)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # Ctrl-C, too: nobody else would clean up, because __exit__ is not called
            self.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()


class BlockingTurn:
    """A turn whose methods block: an iterator of its events, and what :class:`~cc_bridge.turn.Turn` says."""

    def __init__(self, instance: BlockingInstance[Any], turn: Turn) -> None:
        self.id = turn.id
        self._loop = instance._loop
        self._turn = turn

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            return self._loop.go_on(self._turn.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def result(self) -> TurnResult:
        """Read to the end; the turn's result."""
        return self._loop.go_on(self._turn.result)

    def raise_for_result(self) -> None:
        """Nothing for a whole answer, else the error that fits."""
        self._turn.raise_for_result()

    def interrupt(self) -> None:
        """End the turn, and return when it is over; its result is still to be read."""
        self._loop.go_on(self._turn.interrupt)

    def close(self) -> None:
        """Leave the turn: one of one's own is interrupted, one that was found goes on."""
        self._loop.close(self._turn.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Bridged(BlockingInstance[BridgedT]):
    """What the kinds have in common that the contract does not ask for."""

    @property
    def name(self) -> str:
        """The record's."""
        return self._instance.name

    @property
    def agent_log(self) -> Path:
        """Where the agent of a local process logs."""
        return self._instance.agent_log

    def worktree(self) -> Worktree | None:
        """The git worktree that was made for the instance."""
        return self._instance.worktree()

    def conversation_to_go_on_with(self) -> str:
        """The session that a new instance begins with: the one asked for, or that of its name's last instance."""
        return self._instance.conversation_to_go_on_with()

    def get_activity(self) -> InstanceActivity:
        """What it does at the moment, as far as somebody answers within seconds. Nothing is started for it."""
        return self._loop.call(self._instance.get_activity)

    def has_ended(self, limit: float = 0.0) -> bool:
        """Whether Claude Code does not run, or ends within ``limit`` seconds. Nothing is started for it."""
        return self._loop.call(self._instance.has_ended, limit)

    def until_agent_ends(self) -> None:
        """Return when no agent runs. Nothing is started for it."""
        self._loop.call(self._instance.until_agent_ends)

    def turns_without_starting(self) -> list[TurnInfo] | None:
        """As :meth:`turns`, in the same time; None: no agent runs.

        Raises:
            AgentUnavailable: there is an agent, and it does not answer.
            InvalidInput: there is none, because none can run there.
            EngineError: of its container nothing can be learned.
        """
        return self._loop.call(self._instance.turns_without_starting)

    def open_conversation(self) -> tuple[str, IO[bytes]]:
        """The conversation's session, and its transcript, which is to be closed. Nothing is started for it.

        Raises: as :meth:`export_conversation`.
        """
        return self._loop.call(self._instance.open_conversation)

    def export_conversation(self, path: Path) -> str:
        """Write the conversation into a file, which ``cc-bridge import`` takes; its session's id.

        Raises:
            InvalidInput: there is no conversation yet, or the file cannot be written.
            EngineError: it cannot be had from the container.
        """
        return self._loop.call(self._instance.export_conversation, path)

    def keep_conversation(self) -> str:
        """Keep a copy of the conversation as it is now, for any instance with ``resume``; its session's id.

        Raises: as :meth:`export_conversation`.
        """
        return self._loop.call(self._instance.keep_conversation)


class LocalProcess(_Bridged[_LocalProcess]):
    """A blocking :class:`cc_bridge.LocalProcess`, with its arguments; ``options``: see :class:`BlockingOptions`."""

    def __init__(self, instance: ClaudeInstance, **options: Unpack[BlockingOptions]) -> None:
        super().__init__(_LocalProcess(instance, **_asynchronous(options)))


class TmuxInstance(_Bridged[_TmuxInstance]):
    """A blocking :class:`cc_bridge.TmuxInstance`, with its arguments; ``options``: see :class:`BlockingOptions`."""

    def __init__(self, instance: ClaudeInstance, **options: Unpack[BlockingOptions]) -> None:
        super().__init__(_TmuxInstance(instance, **_asynchronous(options)))

    @property
    def attach_argv(self) -> list[str]:
        """The command by which a person comes to the pane; Ctrl-B D leaves it."""
        return self._instance.attach_argv


class _Contained(_Bridged[ContainedT]):
    """What instances in containers have in common."""

    def get_tools(self) -> BlockingTools:
        """What a person does to the container that it has now, by hand.

        Raises:
            ContainerNotFound, ContainerNotRunning, EngineError: as they say.
        """
        return BlockingTools(self._loop, self._loop.call(self._instance.get_tools))

    @property
    def owner(self) -> tuple[int, int]:
        """Numbers of the container's user and group."""
        return self._instance.owner

    def workspace_here(self) -> Path | None:
        """The workspace, where it is a directory of this machine; None: it is elsewhere, or in the container only.

        Raises:
            EngineError: the engine cannot be reached, and so nobody can say.
        """
        return self._loop.call(self._instance.workspace_here)

    @property
    def attach_argv(self) -> list[str]:
        """The command, in the container, by which a person comes to its pane; Ctrl-B D leaves it."""
        return self._instance.attach_argv

    def exec(self, argv: list[str], *, user: str = "", limit: float = 60.0) -> ExecResult:
        """Run a command in the container, for debugging; its output is buffered. ``limit``: seconds.

        Raises:
            ContainerNotFound, ContainerNotRunning, EngineError: as they say.
        """
        return self._loop.call(partial(self._instance.exec, argv, user=user, limit=limit))


class DockerContainer(_Contained[_DockerContainer]):
    """A blocking :class:`cc_bridge.DockerContainer`, with its arguments; ``options``: see :class:`BlockingOptions`."""

    def __init__(
        self,
        instance: ClaudeInstance,
        client: docker.DockerClient | None = None,
        *,
        on_progress: Progress | None = None,
        on_dockerfile: OnDockerfile | None = None,
        **options: Unpack[BlockingOptions],
    ) -> None:
        asks = None if on_dockerfile is None else awaitable(on_dockerfile)
        made = _DockerContainer(instance, client, on_progress=on_progress, on_dockerfile=asks, **_asynchronous(options))
        super().__init__(made)

    @property
    def container(self) -> str:
        """The container's name."""
        return self._instance.container

    @property
    def tools(self) -> BlockingTools:
        """What a person does to the container by hand: commands with a terminal, logs, files, what it uses."""
        return BlockingTools(self._loop, self._instance.tools)


class SwarmService(_Contained[_SwarmService]):
    """A blocking :class:`cc_bridge.SwarmService`, with its arguments; ``options``: see :class:`BlockingOptions`."""

    def __init__(
        self,
        instance: ClaudeInstance,
        client: docker.DockerClient | None = None,
        *,
        on_progress: Progress | None = None,
        **options: Unpack[BlockingOptions],
    ) -> None:
        super().__init__(_SwarmService(instance, client, on_progress=on_progress, **_asynchronous(options)))

    @property
    def service(self) -> str:
        """The service's name."""
        return self._instance.service

    def stop_if_idle(self) -> None:
        """As :meth:`stop`, with no turn ended by it; see :class:`cc_bridge.SwarmService`, also for its errors."""
        self._loop.call(self._instance.stop_if_idle)

    def change_image_if_idle(self, image: str) -> None:
        """As :meth:`stop_if_idle`; what is started the next time has this image, as the record has one."""
        self._loop.call(self._instance.change_image_if_idle, image)


def open(  # noqa: A001  as cc_bridge.open
    name: str,
    *,
    client: docker.DockerClient | None = None,
    on_progress: Progress | None = None,
    on_dockerfile: OnDockerfile | None = None,
    **options: Unpack[BlockingOptions],
) -> DockerContainer | LocalProcess | SwarmService | TmuxInstance:
    """The instance that exists under this name; see :func:`cc_bridge.open`.

    Raises:
        InstanceNotFound: there is none.
        InvalidInput: its record cannot be read.
    """
    record = (options.get("registry") or Registry()).load(name)
    if record.kind == "docker":
        return DockerContainer(record, client, on_progress=on_progress, on_dockerfile=on_dockerfile, **options)
    if record.kind == "swarm":
        return SwarmService(record, client, on_progress=on_progress, **options)
    return TmuxInstance(record, **options) if record.kind == "tmux" else LocalProcess(record, **options)


def _asynchronous(options: BlockingOptions) -> InstanceOptions:
    """The same options with a coroutine function that decides."""
    decides = options.get("on_permission")
    return cast("InstanceOptions", {**options, "on_permission": None if decides is None else awaitable(decides)})
