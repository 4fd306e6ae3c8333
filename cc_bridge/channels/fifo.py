"""The owner of a non-blocking descriptor, from open to close. Beside it, only `pipe_ends.py` calls ``os.close``."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Awaitable, Callable

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from .pipe_ends import make_fifo, open_end

__all__ = ["CHUNK", "Descriptor", "make_fifo", "open_fifo"]

#: One read: the capacity of a Linux pipe (pipe(7)).
CHUNK = 65536


#: What says that a socket's peer has ended its direction; macOS has no word for it.
_HUNG_UP = getattr(select, "POLLRDHUP", 0)

#: Consecutive writes without waiting before other tasks get to run.
_WRITES = 16


class Descriptor:
    """A non-blocking file descriptor for reading or writing: a FIFO's or a socket's.

    Two different errors: ClosedResourceError after our own close, BrokenResourceError if the peer is gone.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._reading = anyio.ResourceGuard("reading from")
        self._writing = anyio.ResourceGuard("writing to")
        self._broken = False
        self._waited = False
        self._waiting = 0  # tasks
        self._closing = -1  # to be closed by the last of them
        self._unyielded = 0  # writes since another task could run

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._fd

    async def read(self, limit: int = CHUNK) -> bytes:
        """At least one byte, and as many at most; empty at end of file. Raises as ``Channel.receive``."""
        with self._reading:
            waited = False
            while True:
                await checkpoint_if_cancelled()
                try:
                    data = os.read(self._open_fd(), limit)
                except BlockingIOError:
                    await self.wait_readable()
                    waited = True
                    continue
                except OSError as error:
                    raise anyio.BrokenResourceError from error
                if not waited:  # a fast peer must not starve other tasks; waiting has let them run
                    await cancel_shielded_checkpoint()
                return data

    async def wait_readable(self) -> None:
        """Wait until it is readable, or the last writer is gone."""
        await self._wait(anyio.wait_readable)

    def has_hung_up(self) -> bool:
        """Whether the peer has closed its end, whatever it has left to be read. Reads nothing."""
        if self._fd == -1:
            return True
        asked = select.poll()
        asked.register(self._fd, _HUNG_UP)
        return any(events & (_HUNG_UP | select.POLLHUP | select.POLLERR) for _, events in asked.poll(0))

    def at_end(self) -> bool:
        """Whether a socket is at end of file. Reads nothing."""
        with socket.socket(fileno=os.dup(self._open_fd())) as duplicate:
            try:
                return duplicate.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True

    async def write_all(self, data: bytes) -> None:
        """Write everything. A cancelled call may have written part, and breaks it. Raises as ``Channel.send``."""
        with self._writing:
            self._open_fd()  # ClosedResourceError comes first, even if it is also broken
            if self._broken:
                raise anyio.BrokenResourceError
            await checkpoint_if_cancelled()
            rest = memoryview(data)
            waited = False
            self._broken = True  # until the last byte is out
            while rest:
                try:
                    rest = rest[os.write(self._open_fd(), rest) :]
                except BlockingIOError:
                    waited = True
                    await self._wait(anyio.wait_writable)
                except OSError as error:
                    raise anyio.BrokenResourceError from error
            self._broken = False
            # Writes to a pipe with room never wait; a task that only writes must let others run.
            self._unyielded = 0 if waited else self._unyielded + 1
            if self._unyielded >= _WRITES:
                self._unyielded = 0
                await cancel_shielded_checkpoint()

    def end_writing(self) -> None:
        """Shut down the writing side of a socket; it can still be read."""
        with socket.socket(fileno=os.dup(self._open_fd())) as duplicate:
            duplicate.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the descriptor. Idempotent; wakes a task that waits for it."""
        # -1 before close: another thread may get the number at once, and a later call must not reach its file.
        fd, self._fd = self._fd, -1
        if fd != -1:
            if self._waited:  # otherwise there may be no event loop
                anyio.notify_closing(fd)
            if self._waiting:
                self._closing = fd
            else:
                os.close(fd)

    def __del__(self) -> None:
        """Who was torn away from it leaves nothing behind: at the other end somebody waits for its end."""
        if self._fd != -1:
            os.close(self._fd)

    async def _wait(self, wait: Callable[[int], Awaitable[None]]) -> None:
        """Wait for the descriptor, which is not closed before this task has noticed.

        anyio forgets, on asyncio, who waits for a number when the task goes on that had waited for it: by then it would
        be a new descriptor's (4.16).
        """
        self._waited = True
        fd = self._open_fd()
        self._waiting += 1
        try:
            await wait(fd)
        finally:
            self._waiting -= 1
            if not self._waiting and self._closing != -1:
                closing, self._closing = self._closing, -1
                os.close(closing)

    def _open_fd(self) -> int:
        if self._fd == -1:
            raise anyio.ClosedResourceError
        return self._fd


def open_fifo(directory: str, name: str, flags: int) -> Descriptor:
    """As :func:`.pipe_ends.open_end`, with an owner."""
    return Descriptor(open_end(directory, name, flags))
