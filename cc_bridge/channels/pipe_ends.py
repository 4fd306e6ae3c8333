"""The host's part of the rendezvous of docs/protocol.md, as far as nothing is waited for: no event loop is imported."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import time
from collections.abc import Iterator

__all__ = ["LISTEN", "make_fifo", "meet", "names", "open_end", "sweep", "unlink_names"]

LISTEN = "listen"

#: Age in seconds at which pipes of an interrupted rendezvous are removed.
_STALE = 60.0


def make_fifo(directory: str, name: str) -> None:
    """Create a FIFO with mode 0666; its private parent directory decides who can reach it.

    Raises:
        OSError: EEXIST among others.
    """
    path = os.path.join(directory, name)
    os.mkfifo(path, 0o600)
    os.chmod(path, 0o666)  # mkfifo applies the umask


def open_end(directory: str, name: str, flags: int) -> int:
    """Open a FIFO without waiting for the other side; refuse anything else. The caller closes the descriptor.

    Raises:
        OSError: ENXIO: opened for writing without a reader (fifo(7)); ELOOP: a link; EINVAL: another type of file;
            EPERM: another user's. The directory is shared with a container, so its content is not trusted.
    """
    path = os.path.join(directory, name)
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if stat.S_ISFIFO(found.st_mode) and found.st_uid == os.geteuid():
        return fd
    os.close(fd)
    if not stat.S_ISFIFO(found.st_mode):
        raise OSError(errno.EINVAL, "not a FIFO", path)
    raise OSError(errno.EPERM, f"belongs to user {found.st_uid}", path)


@contextlib.contextmanager
def names(directory: str, name: str) -> Iterator[None]:
    """Two pipes for one connection, whose names are gone after the block; who has opened them has them."""
    try:
        make_fifo(directory, f"{name}.in")
        make_fifo(directory, f"{name}.out")
        yield
    finally:
        unlink_names(directory, name)


def unlink_names(directory: str, name: str) -> None:
    """Remove a connection's pipes from their directory; harmless when repeated."""
    for end in ("in", "out"):
        with contextlib.suppress(OSError):  # removed with its directory, or by another host
            os.unlink(os.path.join(directory, f"{name}.{end}"))


def sweep(directory: str) -> None:
    """Remove old pipes of hosts that were killed during a rendezvous."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            stem, _, end = entry.name.rpartition(".")
            if end in ("in", "out") and entry.stat(follow_symlinks=False).st_mtime < time.time() - _STALE:
                unlink_names(directory, stem)


def meet(directory: str, greeting: bytes, limit: float) -> tuple[int, int] | None:
    """Connect to the agent that listens in ``directory``; this blocks, and is for programs that do nothing else.

    Args:
        greeting: the first bytes to send; the agent's answer, which is left to be read, completes the rendezvous.
        limit: seconds for the agent to answer.

    Returns:
        Descriptors for reading and writing, non-blocking, which the caller closes. None: nobody answers; why, the
        other way of connecting (:class:`.named_pipe.NamedPipeChannel`) tells.
    """
    held: list[int] = []

    def opened(name: str, flags: int) -> int:
        held.append(open_end(directory, name, flags))
        return held[-1]

    name = os.urandom(16).hex()
    try:
        listen = opened(LISTEN, os.O_WRONLY)
        with names(directory, name):
            incoming = opened(f"{name}.out", os.O_RDONLY)  # this order: see NamedPipeChannel.connect
            both = opened(f"{name}.in", os.O_RDWR)
            letter = f"{name}\n".encode()
            if os.write(both, greeting) != len(greeting) or os.write(listen, letter) != len(letter):
                return None
            if not _is_answered(incoming, listen, limit):
                return None
            ends = incoming, opened(f"{name}.in", os.O_WRONLY)
            held[:] = [fd for fd in held if fd not in ends]
            return ends
    except OSError:
        return None
    finally:
        for fd in held:
            os.close(fd)


def _is_answered(incoming: int, listen: int, limit: float) -> bool:
    """Wait for the answer, or for the agent's end, which poll(2) reports on ``listen`` as POLLERR."""
    waiting = select.poll()
    waiting.register(incoming, select.POLLIN)
    waiting.register(listen, 0)
    happened = dict(waiting.poll(limit * 1000))
    return bool(happened.get(incoming, 0) & select.POLLIN)
