"""An attached exec as a channel: ``docker exec -i … attach``, for where pipes do not work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import anyio

from ..engine.execs import Execs
from ..engine.streams import Demultiplexer
from ..errors import AgentUnavailable, EngineError
from .base import Channel
from .fifo import Descriptor

__all__ = ["DockerExecChannel"]

#: Bytes of stderr kept to explain a failure.
_STDERR_KEPT = 4096


class DockerExecChannel(Channel):
    """stdin and stdout of a command in a container. Use :meth:`open`.

    Attributes:
        stderr: the last part of the command's stderr.
        exit_code: known after the end of the stream.
    """

    kind = "exec"

    def __init__(self, execs: Execs, exec_id: str, descriptor: Descriptor, early: bytes) -> None:
        self._execs = execs
        self._exec_id = exec_id
        self._descriptor = descriptor
        self._demultiplexer = Demultiplexer()
        self._ready: deque[bytes] = deque()
        self._early = early
        self.stderr = b""
        self.exit_code: int | None = None

    @classmethod
    async def open(
        cls,
        execs: Execs,
        container: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        workdir: str | None = None,
    ) -> DockerExecChannel:
        """Start the command.

        Raises:
            EngineError: of the kind that fits.
        """
        attached = await execs.attach(container, argv, environment=environment, workdir=workdir)
        return cls(execs, attached.id, Descriptor(attached.fd), attached.early)

    @property
    def has_ended(self) -> bool:
        """See :class:`~cc_bridge.channels.base.Channel`."""
        return self._descriptor.has_hung_up()

    async def send(self, data: bytes) -> None:
        """Write to the command's stdin; a cancelled call may have written part of it."""
        await self._descriptor.write_all(data)

    async def send_eof(self) -> None:
        """Close the command's stdin."""
        self._descriptor.end_writing()

    async def receive(self) -> bytes:
        """Read the command's stdout; a cancelled call loses nothing."""
        if not await self._fill():
            raise anyio.EndOfStream
        return self._ready.popleft()

    async def exchange(self, greeting: bytes, limit: float = 30.0) -> bytes:
        """Send the greeting and wait for the first bytes of the answer, which can still be received.

        Returns:
            The first bytes; empty if the command ended without an answer: see ``exit_code`` and ``stderr``.

        Raises:
            AgentUnavailable: nothing came within ``limit`` seconds.
        """
        try:
            with anyio.fail_after(limit):
                try:
                    if greeting:
                        await self.send(greeting)
                except anyio.BrokenResourceError:
                    pass  # it has ended; its exit code says why
                return self._ready[0] if await self._fill() else b""
        except anyio.BrokenResourceError:
            await self.learn_exit_code()
            return b""
        except TimeoutError:
            raise AgentUnavailable(f"a command in the container did not answer within {limit:g} s") from None

    async def receive_stderr(self) -> bytes:
        """Wait for new bytes on stderr; empty if the command has ended."""
        await self._fill(lambda: bool(self.stderr))
        return self.take_stderr()

    async def _fill(self, enough: Callable[[], bool] | None = None) -> bool:
        """Read until there is something to return, or ``enough()`` is true; False: the command has ended."""
        enough = enough or (lambda: bool(self._ready))
        while not enough():
            data, self._early = self._early, b""
            if not data:
                data = await self._descriptor.read()
            if not data:
                await self.learn_exit_code()
                return False
            self._take(data)
        return True

    @property
    def ended(self) -> bool:
        """Whether the command's output has ended and been received."""
        return not self._ready and not self._early and self._descriptor.at_end()

    @property
    def refused(self) -> bytes:
        """The engine's error if it could not start a process in the container; else empty."""
        said = self._ready[0] if self._ready else b""
        return said if said.startswith(b"OCI runtime") else b""

    def take_stderr(self) -> bytes:
        """Take what has arrived on stderr since the last call."""
        taken, self.stderr = self.stderr, b""
        return taken

    async def aclose(self) -> None:
        """Close the connection to the engine, which does not end the command."""
        self._descriptor.close()

    def _take(self, data: bytes) -> None:
        try:
            for stream, piece in self._demultiplexer.feed(data):
                if stream == 2:
                    self.stderr = (self.stderr + piece)[-_STDERR_KEPT:]
                else:
                    self._ready.append(piece)
        except EngineError as error:
            raise anyio.BrokenResourceError from error

    async def learn_exit_code(self) -> None:
        """Ask the engine for the ``exit_code`` of an ended command; it stays None if the container is gone."""
        if self.exit_code is None:
            try:
                self.exit_code = await self._execs.exit_code(self._exec_id)
            except EngineError:
                self.exit_code = None  # the container is gone, and its exec with it
