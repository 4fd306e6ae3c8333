"""Hosts that were overtaken: each taking of an instance's lease has a number, its fence, above all that there were."""

import os
from typing import IO, List

from .client import Client


class Fence:
    """The highest fence of all hosts' here. It is kept in ``state``: the next agent has it, too."""

    def __init__(self, state: str) -> None:
        self._path = os.path.join(state, "fence.txt")  # a session's name has no dot
        try:
            with self._open(os.O_RDONLY) as file:
                self.highest = int(file.read(20))
        except (OSError, ValueError):  # there is none, or the machine has died over it
            self.highest = 0

    def admit(self, client: Client, number: object) -> bool:
        """Keep a hello's fence, if it has one; False: it is too low, and refused. OSError: it cannot be kept."""
        if type(number) is not int or not 0 <= number < 2**63:
            raise ValueError("a fence must be a number")
        client.fence = number
        if number > self.highest:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with self._open(os.O_WRONLY | os.O_CREAT) as file:
                file.write(b"%020d" % number)  # in place, and as long as ever: that works on a full disk, too
            self.highest = number
        self.end_overtaken([client])
        return not client.closed

    def _open(self, flags: int) -> IO[bytes]:
        fd = os.open(self._path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        return open(fd, "wb" if flags & os.O_WRONLY else "rb")

    def end_overtaken(self, clients: List[Client]) -> None:
        """End the connections with lower fences. What they have written, and nobody has read yet, is never read."""
        for client in list(clients):
            if 0 < client.fence < self.highest:
                client.refuse("fence", "another program has fence %d, and this one %d" % (self.highest, client.fence))
