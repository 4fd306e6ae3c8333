"""Bytes both ways between a stream and a server, until both have ended or one has broken."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections.abc import Awaitable, Callable
from contextlib import suppress

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

#: Bytes moved without waiting before other tasks get to run.
_STEP = 2**20

#: Splices in vain, though there is something to read and room for it, until bytes are copied instead.
_STALLS = 8

#: A pipe that so many bytes have passed gets more room, the most that anybody may ask for (pipe(7)): with 64 KiB each
#: process waits for the next one's processor. Others need none, and a user has 64 MiB in all.
_BULK, _ROOM = 4 * 2**20, 2**20


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
        if source != -1:
            await self._splice(source, self._server.fileno(), source, self._sent)
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
        if target != -1:
            await self._splice(self._server.fileno(), target, target, self._received)
        while data := await self._server.read():
            await self._stream.send(data)
            self._received(len(data))
        await self._stream.send_eof()

    async def _splice(self, source: int, target: int, pipe: int, moved: Callable[[int], None]) -> None:
        """Until these cannot be spliced (any more): who copies what is left also finds the end.

        Before an urgent byte of TCP's there is something to read, but nothing to splice, and it may pass for the end.
        """
        unyielded = stalls = total = 0
        while stalls < _STALLS:
            try:
                count = os.splice(source, target, _ROOM, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                stalls += await self._until_ready(source, target)
                unyielded = 0
                continue
            except OSError as error:
                if error.errno == errno.EINVAL:  # neither is a pipe
                    return
                raise anyio.BrokenResourceError from error
            if not count:
                return
            moved(count)
            if total < _BULK <= total + count:
                with suppress(OSError):  # this user has no more
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _ROOM)
            total += count
            stalls, unyielded = 0, unyielded + count
            if unyielded >= _STEP:
                unyielded = 0
                await checkpoint()

    async def _until_ready(self, source: int, target: int) -> bool:
        """Wait until there is something to read and room for it; True: that was so already."""
        asked = select.poll()
        asked.register(source, select.POLLIN)
        asked.register(target, select.POLLOUT)
        ready = [fd for fd, _ in asked.poll(0)]
        if source not in ready:
            await anyio.wait_readable(source)
        if target not in ready:
            await anyio.wait_writable(target)
        if len(ready) == 2:
            await checkpoint()
        return len(ready) == 2

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
