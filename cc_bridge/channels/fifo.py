"""One class owns a non-blocking descriptor from open to close. ``os.close`` appears nowhere else in channels/."""

from __future__ import annotations

import errno
import os
import socket
import stat

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

__all__ = ["CHUNK", "Descriptor", "make_fifo", "open_fifo"]

#: One read: the capacity of a Linux pipe (pipe(7)).
CHUNK = 65536


#: Writes in a row that need not wait, after which the other tasks run.
_WRITES = 16


class Descriptor:
    """A non-blocking file descriptor for reading or writing: a FIFO's or a socket's.

    Two errors and not one: what we closed raises ClosedResourceError, what the peer tore raises
    BrokenResourceError.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._reading = anyio.ResourceGuard("reading from")
        self._writing = anyio.ResourceGuard("writing to")
        self._broken = False
        self._waited = False
        self._unyielded = 0  # writes since another task could run

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._fd

    async def read(self) -> bytes:
        """At least one byte, or none at the end of the file. Raises as ``Channel.receive`` says."""
        with self._reading:
            waited = False
            while True:
                await checkpoint_if_cancelled()
                try:
                    data = os.read(self._open_fd(), CHUNK)
                except BlockingIOError:
                    await self.wait_readable()
                    waited = True
                    continue
                except OSError as error:
                    raise anyio.BrokenResourceError from error
                if not waited:  # a fast peer must not starve the other tasks; who waited has let them run
                    await cancel_shielded_checkpoint()
                return data

    async def wait_readable(self) -> None:
        """Until there is something to read, or the last writer has gone."""
        self._waited = True
        await anyio.wait_readable(self._open_fd())

    def at_end(self) -> bool:
        """Whether a socket's peer has finished and everything has been read. Takes nothing."""
        with socket.socket(fileno=os.dup(self._open_fd())) as duplicate:
            try:
                return duplicate.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True

    async def write_all(self, data: bytes) -> None:
        """All of it. A cancellation may tear it: the descriptor is broken then. Raises as ``Channel.send`` says."""
        with self._writing:
            self._open_fd()  # closed by us is said first, also of what was broken
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
                    self._waited = waited = True
                    await anyio.wait_writable(self._open_fd())
                except OSError as error:
                    raise anyio.BrokenResourceError from error
            self._broken = False
            # A pipe with room lets a few writes through in a row; a task that only writes must let the others run.
            self._unyielded = 0 if waited else self._unyielded + 1
            if self._unyielded >= _WRITES:
                self._unyielded = 0
                await cancel_shielded_checkpoint()

    def end_writing(self) -> None:
        """Tell the peer that nothing more will come; a socket's only. It can still be read."""
        with socket.socket(fileno=os.dup(self._open_fd())) as duplicate:
            duplicate.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated. A task that waits for it is woken."""
        # -1 before close: the number may be in use again at once, in another thread, and a later
        # call must never reach a stranger's file.
        fd, self._fd = self._fd, -1
        if fd != -1:
            if self._waited:  # else there may be no event loop at all
                anyio.notify_closing(fd)
            os.close(fd)

    def _open_fd(self) -> int:
        if self._fd == -1:
            raise anyio.ClosedResourceError
        return self._fd


def make_fifo(directory: str, name: str) -> None:
    """A FIFO that any user can open who reaches it; its private parent directory decides who that is.

    Raises:
        OSError: EEXIST among others.
    """
    path = os.path.join(directory, name)
    os.mkfifo(path, 0o600)
    os.chmod(path, 0o666)  # mkfifo's mode is cut by the umask


def open_fifo(directory: str, name: str, flags: int) -> Descriptor:
    """Open what must be a FIFO, without waiting for the other side.

    Raises:
        OSError: ENXIO, opened for writing and nobody reads (fifo(7)); ELOOP, a link; EINVAL, another
            kind of file; EPERM, another user's. The directory is shared with a container, so what lies there is not
            believed.
    """
    path = os.path.join(directory, name)
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if stat.S_ISFIFO(found.st_mode) and found.st_uid == os.geteuid():
        return Descriptor(fd)
    os.close(fd)
    if not stat.S_ISFIFO(found.st_mode):
        raise OSError(errno.EINVAL, "not a FIFO", path)
    raise OSError(errno.EPERM, f"belongs to user {found.st_uid}", path)
