"""Commands in a running container: run to the end, or attached to their stdin and stdout."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError
from .client import Engine

__all__ = ["Attached", "Demultiplexer", "ExecResult", "Execs"]


@dataclass(frozen=True)
class ExecResult:
    """A command that has ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Attached:
    """A running command: its exec id, a non-blocking socket that is the holder's to close, and what came early."""

    id: str
    fd: int
    early: bytes


class Demultiplexer:
    """Takes apart the engine's stream of stdout and stderr. Sans-I/O.

    A frame is a byte for the stream (1 stdout, 2 stderr), three zero bytes, a length of four bytes, and
    the data (Docker Engine API, "Attach to a container"). Headers may be split across reads.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Stream number and data, as far as they have come.

        Raises:
            EngineError: this is not such a stream.
        """
        self._buffer += data
        while self._buffer:
            if not self._left:
                if len(self._buffer) < 8:
                    return
                self._stream = self._buffer[0]
                if self._stream > 2 or any(self._buffer[1:4]):
                    raise EngineError(f"the engine's exec stream is garbled: {bytes(self._buffer[:8])!r}")
                self._left = int.from_bytes(self._buffer[4:8], "big")
                del self._buffer[:8]
                continue
            piece = bytes(self._buffer[: self._left])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            yield self._stream, piece


class Execs:
    """Commands in containers.

    Raises, from every method:
        EngineError: of the kind that fits; ContainerNotRunning among them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, container: str, argv: Sequence[str], *, user: str = "", limit: float = 30.0) -> ExecResult:
        """Run to the end, within ``limit`` seconds."""
        client = await self._engine.client()
        return await self._engine.call(_run, client.api, container, list(argv), user, limit=limit)

    async def attach(
        self,
        container: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        workdir: str | None = None,
    ) -> Attached:
        """Start a command and connect to it. Secrets belong into ``environment``, which no listing shows."""
        client = await self._engine.client()
        return await self._engine.call(_attach, client.api, container, list(argv), dict(environment or {}), workdir)

    async def exit_code(self, exec_id: str) -> int | None:
        """The exit code; None while it runs."""
        client = await self._engine.client()
        code = (await self._engine.call(client.api.exec_inspect, exec_id)).get("ExitCode")
        return None if code is None else int(code)


def _run(api: Any, container: str, argv: list[str], user: str) -> ExecResult:
    created = api.exec_create(container, argv, user=user)
    stdout, stderr = api.exec_start(created["Id"], demux=True)
    code = api.exec_inspect(created["Id"])["ExitCode"]
    return ExecResult(-1 if code is None else int(code), stdout or b"", stderr or b"")


def _attach(api: Any, container: str, argv: list[str], environment: dict[str, str], workdir: str | None) -> Attached:
    created = api.exec_create(container, argv, stdin=True, environment=environment, workdir=workdir)
    stream = api.exec_start(created["Id"], socket=True)
    connection = getattr(stream, "_sock", stream)
    if not isinstance(connection, socket.socket):
        raise EngineError(
            f"a connection of type {type(connection).__name__} to the engine cannot carry a conversation yet",
            hint="Use a local socket or plain tcp.",
        )
    # The SDK's response object may have read more than the headers, and closes the socket with itself:
    # keep a duplicate of the descriptor, and what has been read.
    connection.setblocking(False)
    early = _buffered(stream)
    duplicate = connection.dup()
    duplicate.setblocking(False)
    stream.close()
    return Attached(created["Id"], duplicate.detach(), early)


def _buffered(stream: Any) -> bytes:
    """What the SDK's response has read past the HTTP headers."""
    response = getattr(stream, "_response", None)
    reader = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
    if reader is None:
        return b""
    try:
        return bytes(reader.peek())
    except (BlockingIOError, ValueError, AttributeError):
        return b""
