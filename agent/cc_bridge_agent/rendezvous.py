"""Where hosts find the agent: a FIFO in a directory they share, and a socket of the container's own.

The FIFO's way of a listening socket (docs/protocol.md, "Rendezvous"): the host makes ``<id>.in`` and
``<id>.out``, writes its hello into the first and ``<id>`` and a newline to ``listen``; the agent opens both.
The directory is mounted read-only; opening a FIFO in it for writing works all the same, because what
is written goes to the pipe and not to the file system.
"""

import errno
import fcntl
import os
import socket
import stat
from typing import Callable, Optional

from . import wire
from .attach import peer
from .loop import Loop

LISTEN = "listen"

#: Called with a name for the log, a descriptor to read from and one to write to.
Accept = Callable[[str, int, int], None]
Log = Callable[..., None]


class PipeListener:
    """Takes connections in a directory of FIFOs that the host makes and removes.

    Raises:
        OSError: the directory or its ``listen`` FIFO cannot be used.
    """

    def __init__(self, loop: Loop, directory: str, accept: Accept, log: Log) -> None:
        self._loop = loop
        self._accept = accept
        self._log = log
        # By descriptor from here on: the mount may be covered or taken away later.
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        # For writing too, so that the last host to go is not an end of file.
        self._listen = open_fifo(LISTEN, os.O_RDWR, self._directory)
        self._splitter = wire.LineSplitter(limit=256)
        self._refused = 0
        loop.watch(self._listen, self._read)

    def close(self) -> None:
        """Listen no longer. The FIFO stays, for the next agent."""
        self._loop.watch(self._listen)
        os.close(self._listen)
        os.close(self._directory)

    def _read(self) -> None:
        try:
            for line in self._splitter.feed(os.read(self._listen, 4096)):
                self._connect(line.decode("ascii", "replace"))
        except BlockingIOError:
            return
        except wire.FrameError as error:
            self._refuse("rendezvous_refused", reason=str(error))
            self._splitter = wire.LineSplitter(limit=256)

    def _connect(self, name: str) -> None:
        if not wire.ID.match(name):
            self._refuse("rendezvous_refused", reason="not an id: %.80r" % name)
            return
        read_fd = -1
        try:
            read_fd = open_fifo(name + ".in", os.O_RDONLY, self._directory)
            write_fd = open_fifo(name + ".out", os.O_WRONLY, self._directory)
        except OSError as error:  # the host has given up meanwhile
            if read_fd != -1:
                os.close(read_fd)
            self._refuse("rendezvous_failed", id=name, reason=str(error))
            return
        self._accept("pipes " + name, read_fd, write_fd)

    def _refuse(self, event: str, **fields: str) -> None:
        """Log the first, the second, the fourth …: anybody in the container may ask a million times."""
        self._refused += 1
        if self._refused & (self._refused - 1) == 0:
            self._log(event, refused=self._refused, **fields)


class SocketListener:
    """Takes connections of ``attach`` and ``health``, which run in the same container.

    Raises:
        AlreadyServing: another agent holds this place.
        OSError: the path cannot be used.
    """

    def __init__(self, loop: Loop, path: str, accept: Accept) -> None:
        self._loop = loop
        self._accept = accept
        self._path = path
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "is not this user's alone", directory)
        # The lock, not the socket file, says who serves: a file outlives a killed agent.
        self._lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise AlreadyServing(path) from None
        if os.path.lexists(path):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        self._socket.listen(16)
        self._socket.setblocking(False)
        self._connections = 0
        loop.watch(self._socket.fileno(), self._accept_one)

    def close(self) -> None:
        """Listen no longer: remove the socket, and release the lock last."""
        self._loop.watch(self._socket.fileno())
        self._socket.close()
        os.unlink(self._path)
        os.close(self._lock)

    def _accept_one(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        if peer(connection) not in (os.getuid(), 0):
            connection.close()
            return
        connection.setblocking(False)
        self._connections += 1
        fd = connection.detach()
        self._accept("socket %d" % self._connections, fd, fd)


class AlreadyServing(Exception):
    """Another agent serves at this socket."""


def open_fifo(name: str, flags: int, directory: Optional[int] = None) -> int:
    """Open what must be a FIFO, without waiting for the other side.

    Raises:
        OSError: ENXIO, opened for writing and nobody reads; EINVAL, it is something else; ELOOP, a link.
    """
    fd = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a FIFO", name)
    return fd
