"""What happens in directories, as it happens: inotify(7), by ctypes."""

import ctypes
import os
import struct
from typing import Dict, Iterator, Tuple

_MODIFY = 0x2
_MOVED_TO = 0x80
_CREATE = 0x100
_DELETE = 0x200
_CLOEXEC = 0o2000000
_NONBLOCK = 0o4000

_HEADER = struct.Struct("iIII")


class Watcher:
    """The one inotify descriptor of the program.

    Attributes:
        fd: readable when something has happened.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._checked(self._libc.inotify_init1(_CLOEXEC | _NONBLOCK))
        self._directories: Dict[int, str] = {}

    def watch(self, directory: str) -> None:
        """Report what is made, written, moved in or deleted there. Harmless when repeated.

        Raises:
            OSError: it cannot be watched.
        """
        mask = _MODIFY | _MOVED_TO | _CREATE | _DELETE
        watch = self._checked(self._libc.inotify_add_watch(self.fd, os.fsencode(directory), mask))
        self._directories[watch] = directory

    def forget(self, directory: str) -> None:
        """Report nothing more of it."""
        for watch in [watch for watch, known in self._directories.items() if known == directory]:
            del self._directories[watch]
            self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> Iterator[Tuple[str, str, bool]]:
        """What has happened: directory, name, and whether the name is there now."""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return
            position = 0
            while position < len(data):
                watch, mask, _, length = _HEADER.unpack_from(data, position)
                start = position + _HEADER.size
                name = os.fsdecode(data[start : start + length].rstrip(b"\0"))
                position = start + length
                if watch in self._directories:
                    yield self._directories[watch], name, not mask & _DELETE

    def close(self) -> None:
        """End all watches."""
        os.close(self.fd)

    def _checked(self, result: int) -> int:
        if result == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
