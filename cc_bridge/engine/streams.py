"""The engine's raw streams: the socket of an attached container or exec, and its frames."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import anyio

from ..errors import EngineError, EngineUnavailable

__all__ = ["Chunk", "Demultiplexer", "raw_socket", "read_chunks", "read_until"]

#: Bytes of a log kept to explain a failure.
_KEPT = 16384


class Chunk(NamedTuple):
    """A piece of output. ``stream``: 1 is stdout, 2 is stderr."""

    stream: int
    data: bytes


class Demultiplexer:
    """Separates stdout and stderr in the engine's stream. Sans-I/O.

    A frame is a byte for the stream (1 stdout, 2 stderr), three zero bytes, a length of four bytes, and
    the data (Docker Engine API, "Attach to a container"). Headers may be split across reads.

    Args:
        tty: with a terminal there is one stream, without frames.
    """

    def __init__(self, *, tty: bool = False) -> None:
        self._tty = tty
        self._buffer = bytearray()
        self._stream = 0
        self._remaining = 0

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks in new data.

        Raises:
            EngineError: the data is not such a stream.
        """
        if self._tty:
            if data:
                yield Chunk(1, data)
            return
        self._buffer += data
        while self._buffer:
            if not self._remaining:
                if len(self._buffer) < 8:
                    return
                self._stream = self._buffer[0]
                if self._stream > 2 or any(self._buffer[1:4]):
                    raise EngineError(f"the engine's exec stream is garbled: {bytes(self._buffer[:8])!r}")
                self._remaining = int.from_bytes(self._buffer[4:8], "big")
                del self._buffer[:8]
                continue
            piece = bytes(self._buffer[: self._remaining])
            del self._buffer[: len(piece)]
            self._remaining -= len(piece)
            yield Chunk(self._stream, piece)


def raw_socket(stream: Any) -> tuple[int, bytes]:
    """The non-blocking socket of an SDK stream, which the caller closes, and bytes read already.

    The SDK's response closes the socket with itself, so the descriptor is a duplicate; it may also have read more
    than the HTTP headers.

    Raises:
        EngineError: the connection is of an unknown type.
    """
    import ssl

    from .tls_socket import plain_socket

    connection = getattr(stream, "_sock", stream)
    if isinstance(connection, ssl.SSLSocket):
        connection.setblocking(False)
        early = _buffered(stream)
        # A TLS socket cannot be duplicated: the response, which would close it, is kept alive.
        return plain_socket(connection, getattr(stream, "_response", stream)), early
    if not isinstance(connection, socket.socket):
        raise EngineError(
            f"a connection of type {type(connection).__name__} to the engine cannot carry a conversation",
            hint="Use a local socket, ssh:// or tcp://.",
        )
    connection.setblocking(False)
    early = _buffered(stream)
    duplicate = connection.dup()
    duplicate.setblocking(False)
    getattr(stream, "_response", stream).close()  # the response closes the stream with its connection
    return duplicate.detach(), early


async def read_chunks(
    fd: int, early: bytes, demultiplexer: Demultiplexer, stdin: bytes | None = None
) -> AsyncGenerator[Chunk, None]:
    """Read a stream's socket to its end, with back-pressure.

    Args:
        stdin: sent meanwhile, followed by end of file.

    Raises:
        EngineError: the data is not such a stream.
        EngineUnavailable: the connection broke.
    """
    data, outgoing = early, None if stdin is None else bytearray(stdin)
    while True:
        for chunk in demultiplexer.feed(data):
            yield chunk
        outgoing = await _write_until_readable(fd, outgoing)
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            data = b""
            continue
        except OSError as error:
            raise EngineUnavailable(f"the connection to the engine broke: {error.strerror}") from error
        if not data:
            return


async def _write_until_readable(fd: int, outgoing: bytearray | None) -> bytearray | None:
    """Wait until the socket is readable and write meanwhile. Returns unsent bytes; None: end of file was sent."""
    if outgoing is None:
        await anyio.wait_readable(fd)
        return None
    left: bytearray | None = outgoing
    async with anyio.create_task_group() as group:

        async def write() -> None:
            nonlocal left
            while outgoing:
                await anyio.wait_writable(fd)
                try:
                    del outgoing[: os.write(fd, outgoing[:65536])]
                except BlockingIOError:
                    continue
                except OSError:
                    outgoing.clear()  # stdin was closed or the process ended; reading shows which
            with socket.socket(fileno=os.dup(fd)) as connection, suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            left = None

        group.start_soon(write)
        await anyio.wait_readable(fd)
        group.cancel_scope.cancel()
    return left


async def read_until(fd: int, early: bytes, awaited: Sequence[str], limit: float) -> tuple[str | None, str]:
    """Read a log until one of the awaited texts, its end, or the limit.

    Returns:
        The text that was found, or None; and the last part of the log.
    """
    demultiplexer, seen, data = Demultiplexer(), b"", early
    with anyio.move_on_after(limit):
        while True:
            for _, piece in demultiplexer.feed(data):
                seen = (seen + piece)[-_KEPT:]
            for text in awaited:
                if text.encode() in seen:
                    return text, seen.decode("utf-8", "replace")
            await anyio.wait_readable(fd)
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                continue
            if not data:
                break
    return None, seen.decode("utf-8", "replace")


def _buffered(stream: Any) -> bytes:
    """What the SDK's response has read beyond the HTTP headers."""
    import ssl

    response = getattr(stream, "_response", None)
    reader = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
    if reader is None:
        return b""
    try:
        return bytes(reader.peek())
    except (BlockingIOError, ssl.SSLWantReadError, ValueError, AttributeError):
        return b""
