"""Runtimes, and the decorator that has any of them run in a container.

A runtime is an object with ``execute(options)``, which yields messages. It starts its processes by ``options.run``, and
so does not know where they run: on this machine, or, inside a :class:`ContainerRunner`, in a container of their own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import anyio

from cc_bridge_agent import wire

from .engine.execs import ExecResult, Exit
from .engine.streams import Chunk
from .errors import BridgeError, ClaudeNotFound
from .manager.manager import ContainerManager
from .manager.options import ContainerOptions
from .protocol.command_line import ClaudeOptions, one_shot_argv

__all__ = [
    "ContainerRunner",
    "Execution",
    "Message",
    "OneShotClaude",
    "Run",
    "Runtime",
    "run_command",
    "run_command_streaming",
    "run_here",
]

#: A message of a runtime's: for Claude Code, a line of its ``stream-json``; ``{"type": "error", ...}`` for a failure.
Message = dict[str, Any]

#: Runs words with this on stdin: output as it comes, and at last how it ended.
Run = Callable[[Sequence[str], bytes], AsyncGenerator[Chunk | Exit, None]]

#: Bytes of stderr that are kept to explain a failure.
_KEPT = 4096


async def run_here(argv: Sequence[str], stdin: bytes) -> AsyncGenerator[Chunk | Exit, None]:
    """Run a command as a process of this machine; it is killed where the iterator is left early.

    Its stderr comes at the end.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(stdin)
        given.seek(0)
        process = await anyio.open_process(list(argv), stdin=given, stderr=said)
        try:
            assert process.stdout is not None
            async for data in process.stdout:
                yield Chunk(1, data)
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.aclose()
        said.seek(0)
        if errors := said.read():
            yield Chunk(2, errors)
    yield Exit(code)


@dataclass(frozen=True)
class Execution:
    """What a runtime is to do.

    Attributes:
        prompt: the command.
        resume: a session to go on with.
        run: starts processes.
        container: what a :class:`ContainerRunner` makes for it; None: its own default.
    """

    prompt: str
    claude: ClaudeOptions = field(default_factory=ClaudeOptions)
    resume: str = ""
    fork: bool = False
    run: Run = run_here
    container: ContainerOptions | None = None


class Runtime(Protocol):
    """Whatever turns a prompt into messages.

    One that needs Claude Code's login in its container says so by an attribute ``needs_login``, which is true.
    """

    def execute(self, options: Execution) -> AsyncIterator[Message]:
        """The messages, as they come."""
        ...


class OneShotClaude:
    """Claude Code's command line, a new process for each prompt: no conversation is kept open."""

    needs_login = True

    async def execute(self, options: Execution) -> AsyncGenerator[Message, None]:
        """Claude Code's messages; an ``error`` message where it fails."""
        argv = one_shot_argv(options.claude, resume=options.resume, fork=options.fork)
        lines, said, exit_code = wire.LineSplitter(), bytearray(), 0
        try:
            async with aclosing(options.run(argv, options.prompt.encode())) as output:
                async for item in output:
                    if isinstance(item, Exit):
                        exit_code = item.exit_code
                    elif item.stream == 2:
                        said = (said + item.data)[-_KEPT:]
                    else:
                        for line in lines.feed(item.data):
                            if (message := _message(line)) is not None:
                                yield message
        except wire.FrameError as error:  # a line longer than any message
            yield error_message(f"what Claude Code said cannot be read: {error}")
            return
        if (message := _message(lines.flush())) is not None:
            yield message
        if exit_code:
            what = said.decode("utf-8", "replace").strip()[-500:]
            if exit_code == 127:
                yield error_message(ClaudeNotFound("there is no Claude Code where it should run"), exit_code)
            else:
                yield error_message(f"Claude Code ended with exit code {exit_code}: {what}", exit_code)


class ContainerRunner:
    """Has a runtime run in a container of its own for each prompt, which is removed afterwards.

    Whatever goes wrong, the engine included, becomes a message ``{"type": "error", ...}`` in the stream, and nothing is
    left behind.

    Args:
        runtime: any; it starts its processes by ``options.run``.
        container: what container to make where an execution does not say.
        keep_container: leave the containers, for a look at them.
    """

    def __init__(
        self,
        runtime: Runtime,
        manager: ContainerManager | None = None,
        container: ContainerOptions | None = None,
        *,
        keep_container: bool = False,
    ) -> None:
        self._runtime = runtime
        self._manager = manager
        self._container = container or ContainerOptions()
        self._keep_container = keep_container

    async def execute(self, options: Execution) -> AsyncGenerator[Message, None]:
        """The runtime's messages."""
        manager = self._manager or ContainerManager()

        def run(argv: Sequence[str], stdin: bytes) -> AsyncGenerator[Chunk | Exit, None]:
            container = options.container or self._container
            if getattr(self._runtime, "needs_login", False):
                container = replace(container, login=True)
            return manager.run_command_streaming(container, argv, stdin=stdin, keep_container=self._keep_container)

        messages = self._runtime.execute(replace(options, run=run))
        try:
            async for message in messages:
                yield message
        except BridgeError as error:
            yield error_message(error)
        finally:
            with anyio.CancelScope(shield=True):
                if isinstance(messages, AsyncGenerator):
                    await messages.aclose()
                if self._manager is None:
                    await manager.aclose()


def error_message(error: BridgeError | str, exit_code: int | None = None) -> Message:
    """A failure as a message."""
    if isinstance(error, str):
        return {"type": "error", "error": error, "kind": "exit", "exit_code": exit_code, "hint": ""}
    kind = type(error).__name__
    return {"type": "error", "error": error.what, "kind": kind, "exit_code": exit_code, "hint": error.hint}


async def run_command(
    argv: Sequence[str],
    options: ContainerOptions | None = None,
    *,
    stdin: bytes | None = None,
    keep_container: bool = False,
) -> ExecResult:
    """Run a command in a new container; see :meth:`~cc_bridge.manager.manager.ContainerManager.run_command`."""
    async with ContainerManager() as manager:
        chosen = options or ContainerOptions(workspace=Path(os.getcwd()))
        return await manager.run_command(chosen, argv, stdin=stdin, keep_container=keep_container)


async def run_command_streaming(
    argv: Sequence[str],
    options: ContainerOptions | None = None,
    *,
    stdin: bytes | None = None,
    tty: bool = False,
    keep_container: bool = False,
) -> AsyncGenerator[Chunk | Exit, None]:
    """The same, streamed; see :meth:`~cc_bridge.manager.manager.ContainerManager.run_command_streaming`."""
    async with ContainerManager() as manager:
        chosen = options or ContainerOptions(workspace=Path(os.getcwd()))
        stream = manager.run_command_streaming(chosen, argv, stdin=stdin, tty=tty, keep_container=keep_container)
        async with aclosing(stream) as output:
            async for item in output:
                yield item


def _message(line: bytes) -> Message | None:
    try:
        return wire.decode(line)
    except wire.FrameError:
        return None  # what it prints besides its messages
