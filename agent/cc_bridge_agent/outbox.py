"""Bytes on their way out: written as far as the reader takes them, and counted meanwhile."""

import os
from collections import deque
from typing import Deque


class Outbox:
    """What waits to be written to a descriptor that does not block.

    Attributes:
        size: bytes that wait.
    """

    def __init__(self) -> None:
        self.size = 0
        self._waiting: Deque[memoryview] = deque()

    def add(self, data: bytes) -> None:
        """Queue bytes behind those that wait; they are not copied."""
        self._waiting.append(memoryview(data))
        self.size += len(data)

    def clear(self) -> None:
        """Forget what was not written."""
        self._waiting.clear()
        self.size = 0

    def write(self, fd: int) -> None:
        """Write as much as can be written now.

        Raises:
            OSError: EPIPE, the reader has gone.
        """
        try:
            while self._waiting:
                written = os.write(fd, self._waiting[0])
                self.size -= written
                if written == len(self._waiting[0]):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = self._waiting[0][written:]  # of a memoryview: copies nothing
        except BlockingIOError:
            pass
