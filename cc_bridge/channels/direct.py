"""``docker exec -i claude …`` as a channel, for images in which the agent cannot run."""

from __future__ import annotations

import errno
import re

import anyio

from ..engine.execs import Execs
from ..errors import ContainerNotFound, ContainerNotRunning, EngineError
from ..protocol.stand_in import Signal, StandIn, StartProcess, Write
from .base import Channel
from .docker_exec import DockerExecChannel

__all__ = ["DirectChannel"]

_NOT_FOUND = 127

#: Prints its pid before it executes Claude Code: the engine cannot signal an exec.
_LAUNCHER = 'command -v "$1" >/dev/null || exit 127; echo "cc-bridge pid $$" >&2; exec "$@"'
_PID = re.compile(rb"cc-bridge pid (\d+)\n")


class DirectChannel(Channel):
    """Translates between frames for the host and Claude Code's lines."""

    kind = "direct"

    def __init__(self, execs: Execs, container: str, greeting: bytes) -> None:
        self._execs = execs
        self._container = container
        self._stand_in = StandIn()
        self._process: DockerExecChannel | None = None
        self._pid = 0
        self._closed = False
        self._gone = False  # the container is gone, so nothing can be started
        self._changed = anyio.Event()
        self._guard = anyio.ResourceGuard("receiving from")
        self._stand_in.receive_frames(greeting)

    async def send(self, data: bytes) -> None:
        """Execute the frames here; a cancelled call may have written part of an input to Claude Code."""
        if self._closed:
            raise anyio.ClosedResourceError
        if self._process is not None and self._process.ended:
            # No agent watches the process here: do not write a command to one that has ended.
            await self._ended(self._process)
        self._stand_in.receive_frames(data)
        for action in self._stand_in.actions():
            match action:
                case StartProcess():
                    await self._launch(action)
                case Write() if self._process is not None:
                    await self._process.send(action.data)
                case Signal():
                    await self._signal(action.name)

    async def receive(self) -> bytes:
        """The next frames from Claude Code's output; a cancelled call loses nothing."""
        with self._guard:
            return await self._receive()

    async def _receive(self) -> bytes:
        while not (frames := self._stand_in.frames_to_host()):
            if self._closed:
                raise anyio.ClosedResourceError
            if self._gone:
                raise anyio.EndOfStream
            process = self._process
            if process is None:
                await self._changed.wait()
                continue
            try:
                self._stand_in.receive_output(await process.receive())
            except anyio.EndOfStream:
                await self._ended(process)
            except anyio.ClosedResourceError:
                if self._process is process:
                    raise
                # A sender noticed the end and reports it.
            else:
                self._note_stderr(process)
        return frames

    async def aclose(self) -> None:
        """Close the pipes: Claude Code exits at the end of its input."""
        self._closed = True
        self._wake()
        if self._process is not None:
            await self._process.aclose()

    async def _launch(self, launch: StartProcess) -> None:
        argv = ["sh", "-c", _LAUNCHER, "sh", *launch.argv]
        try:
            process = await DockerExecChannel.open(
                self._execs, self._container, argv, environment=launch.env, workdir=launch.cwd
            )
        except (ContainerNotRunning, ContainerNotFound):
            self._gone = True
            self._wake()
            return
        except EngineError as error:
            self._stand_in.not_launched(str(error), None)
            return
        said = _PID.match(await process.receive_stderr())
        if said is None:
            await process.aclose()
            if process.refused:
                self._gone = True
                self._wake()
                return
            missing = process.exit_code == _NOT_FOUND
            reason = f"no program {launch.argv[0]!r}" if missing else f"it ended with exit code {process.exit_code}"
            self._stand_in.not_launched(reason, errno.ENOENT if missing else None)
            return
        self._process, self._pid = process, int(said.group(1))
        self._stand_in.launched(self._pid)
        self._wake()

    async def _ended(self, process: DockerExecChannel) -> None:
        """Report Claude Code's end, once: sender and receiver may both notice it."""
        if self._process is not process:
            return
        self._process = None
        with anyio.CancelScope(shield=True):  # nobody else would report it
            await process.learn_exit_code()
            self._note_stderr(process)
            await process.aclose()
        self._stand_in.exited(process.exit_code if process.exit_code is not None else -9)
        self._wake()

    def _wake(self) -> None:
        """Wake a receiver that waits for a process."""
        self._changed.set()
        self._changed = anyio.Event()

    def _note_stderr(self, process: DockerExecChannel) -> None:
        self._stand_in.receive_stderr(process.take_stderr().decode("utf-8", "replace"))

    async def _signal(self, name: str) -> None:
        if self._process is not None:
            await self._execs.run(self._container, ["sh", "-c", 'kill -"$1" "$2"', "sh", name, str(self._pid)])
