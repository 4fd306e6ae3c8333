"""Which programs of this machine use its lease: the last one gives it up."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

__all__ = ["Users"]

_TRIES, _PAUSE = 50, 0.001


class Users:
    """A file that is locked by all who use it. The kernel takes back the lock of a program that is killed.

    Args:
        path: of the file, whose directory may not be there: then nobody else uses it either.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def join(self) -> None:
        """Be one of them, if this is possible."""
        if self._fd == -1:
            self._fd = self._open()
            for _ in range(_TRIES):
                if self._lock(fcntl.LOCK_SH):
                    return
                time.sleep(_PAUSE)  # back-off: flock(2) cannot wait with a limit; who has it only looks for others

    @property
    def has_joined(self) -> bool:
        """This one is one of them, unless its directory was not there."""
        return self._fd != -1

    def leave(self) -> None:
        """Be none of them."""
        if self._fd != -1:
            fd, self._fd = self._fd, -1
            fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked may have a copy
            os.close(fd)

    @property
    def are_left(self) -> bool:
        """There are others; to be asked by who is none of them."""
        other = Users(self._path)
        other._fd = other._open()
        try:
            return not other._lock(fcntl.LOCK_EX)
        finally:
            other.leave()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:  # the instance was removed, or the disk is full
            return -1

    def _lock(self, kind: int) -> bool:
        if self._fd == -1:
            return True
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
