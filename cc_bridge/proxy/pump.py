"""Bytes both ways between a stream and a server, until both have ended or one has broken."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from ..channels.fifo import CHUNK, Descriptor
from .terms import Refused

__all__ = ["Pump"]

#: Seconds without a byte either way.
_IDLE = 3600

#: Seconds: how exactly that is kept, so that a deadline is not set with each chunk.
_EXACT = 30

#: Consecutive splices without waiting before other tasks get to run.
_SPLICES = 16


class Pump:
    """Joins a stream out of an instance with a server, once.

    Half-closes are passed on, and who is slow slows the other. Where the stream has descriptors, ``read_fd`` and
    ``write_fd``, the kernel moves the bytes (splice(2)).

    Args:
        server: a socket. Its owner closes it.
        passed: called after each chunk with the bytes that went to the server, and that came from it. When it raises
            :class:`.terms.Refused`, that ends the pump.
    """

    def __init__(self, stream: anyio.abc.ByteStream, server: Descriptor, passed: Callable[[int, int], None]) -> None:
        self._stream = stream
        self._server = server
        self._passed = passed
        self._scope = anyio.CancelScope()
        self._renewal = 0.0  # when the deadline is to be put off again
        self._broken = False
        self._refused: Refused | None = None

    async def run(self) -> bool:
        """Pump. True: both have ended; False: one has broken, or neither said anything for an hour.

        Raises:
            Refused: by ``passed``.
        """
        with self._scope:
            self._put_off()
            async with anyio.create_task_group() as group:
                group.start_soon(self._guarded, self._send_all)
                group.start_soon(self._guarded, self._receive_all)
        if self._refused:
            raise self._refused
        return not (self._broken or self._scope.cancelled_caught)

    async def _guarded(self, direction: Callable[[], Awaitable[None]]) -> None:
        """One direction's end that is no proper one is the other's, too."""
        try:
            await direction()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._broken = True
            self._scope.cancel()
        except Refused as refused:
            self._refused = refused
            self._scope.cancel()

    async def _send_all(self) -> None:
        source = getattr(self._stream, "read_fd", -1)
        if source == -1 or not await self._splice(source, self._server.fileno(), self._sent):
            try:
                while True:
                    data = await self._stream.receive(CHUNK)
                    await self._server.write_all(data)
                    self._sent(len(data))
            except anyio.EndOfStream:
                pass
        try:
            self._server.end_writing()
        except OSError as error:  # the server has reset it
            raise anyio.BrokenResourceError from error

    async def _receive_all(self) -> None:
        target = getattr(self._stream, "write_fd", -1)
        if target == -1 or not await self._splice(self._server.fileno(), target, self._received):
            while data := await self._server.read():
                await self._stream.send(data)
                self._received(len(data))
        await self._stream.send_eof()

    async def _splice(self, source: int, target: int, moved: Callable[[int], None]) -> bool:
        """Until the source's end of file. False: these cannot be spliced, and nothing was moved."""
        unyielded = 0
        while True:
            try:
                count = os.splice(source, target, CHUNK, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
            except BlockingIOError:  # either has nothing, or the other has no room
                unyielded = 0
                await anyio.wait_readable(source)
                await anyio.wait_writable(target)
                continue
            except OSError as error:
                if error.errno == errno.EINVAL:  # neither is a pipe
                    return False
                raise anyio.BrokenResourceError from error
            if not count:
                return True
            moved(count)
            unyielded += 1
            if unyielded >= _SPLICES:
                unyielded = 0
                await checkpoint()

    def _sent(self, count: int) -> None:
        self._put_off()
        self._passed(count, 0)

    def _received(self, count: int) -> None:
        self._put_off()
        self._passed(0, count)

    def _put_off(self) -> None:
        now = anyio.current_time()
        if now >= self._renewal:
            self._renewal = now + _EXACT
            self._scope.deadline = now + _IDLE + _EXACT
