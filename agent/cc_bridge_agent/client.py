"""A host that is connected: frames in, frames out, and how far it lags behind."""

import os
from typing import Callable, Iterator, Optional, Tuple

from . import wire
from .loop import Loop
from .outbox import Outbox

#: Output waiting for a client beyond which it counts as clogged, in bytes. Large enough for a burst
#: of events, small enough that an agent with a stalled client stays small.
HIGH_WATER = 1024 * 1024


class Client:
    """One connection, over two FIFOs or a socket (then both descriptors are the same).

    Args:
        on_line: called with each line that arrives.
        on_closed: called once, when the connection has ended for any reason.
        on_drained: called when a clogged client has caught up.

    Attributes:
        number: grows from one connection to the next.
        host: what it calls itself; empty: it does not say.
        looks: it only looks: it keeps nothing alive, and is not worth a word.
        fence: see fence.py; 0: it has none.
        given: the number of the last frame that was queued for it.
        acknowledged: up to this number it has said that it will not ask again.
        feed: where it is read from while it lags.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        read_fd: int,
        write_fd: int,
        on_line: Callable[["Client", bytes], None],
        on_closed: Callable[["Client", str], None],
        on_drained: Callable[["Client"], None],
    ) -> None:
        self.name = name
        self.number = 0
        self.session = ""
        self.host = ""
        self.looks = False
        self.fence = self.given = self.acknowledged = 0
        self.feed: Optional[Iterator[Tuple[int, bytes]]] = None
        self._loop = loop
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._on_line = on_line
        self._on_closed = on_closed
        self._on_drained = on_drained
        self._splitter = wire.LineSplitter()
        self._out = Outbox()
        self._paused = False
        self._broken = False  # nothing can be written any more
        self._watched = (False, False)
        self._watch()

    @property
    def closed(self) -> bool:
        """This end has closed the connection."""
        return self._read_fd == -1

    @property
    def gone(self) -> bool:
        """Nobody reads any more."""
        return self.closed or self._broken

    @property
    def clogged(self) -> bool:
        """More waits for it than the agent keeps in memory: the rest is to come from the journal."""
        return self._out.size > HIGH_WATER

    def send(self, data: bytes) -> None:
        """Queue frames; nothing happens on a closed connection."""
        if self.gone or not data:
            return
        idle = not self._out.size
        self._out.add(data)
        if idle:
            self._write()

    def hand_over(self) -> Tuple[int, int]:
        """Its descriptors, which are the caller's from now on. All that was sent is to have been written."""
        fds = self._read_fd, self._write_fd
        for fd in fds:
            self._loop.watch(fd)
        self._read_fd = self._write_fd = -1
        self._on_closed(self, "handed over")
        return fds

    def pause_reading(self, paused: bool) -> None:
        """Back-pressure towards the host: leave its frames in the pipe."""
        if paused != self._paused and not self.closed:
            self._paused = paused
            self._watch()

    def close(self, why: str) -> None:
        """End the connection at once; what the peer has not read is lost."""
        if self.closed:
            return
        fds = {self._read_fd, self._write_fd}
        for fd in fds:
            self._loop.watch(fd)
        self._read_fd = self._write_fd = -1  # before close: a reused number must never be ours
        for fd in fds:
            os.close(fd)
        self._on_closed(self, why)

    def _watch(self) -> None:
        wanted = (not self._paused, bool(self._out.size))
        if wanted == self._watched:
            return  # a system call saved for every frame
        self._watched = wanted
        readable = self._read if wanted[0] else None
        writable = self._write if wanted[1] else None
        if self._read_fd == self._write_fd:
            self._loop.watch(self._read_fd, readable, writable)
        else:
            self._loop.watch(self._read_fd, readable)
            self._loop.watch(self._write_fd, None, writable)

    def _read(self) -> None:
        try:
            data = os.read(self._read_fd, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(str(error))
            return
        if not data:
            self.close("end of file")
            return
        try:
            for line in self._splitter.feed(data):
                if self.closed:
                    return
                self._on_line(self, line)
        except wire.FrameError as error:
            self.refuse("protocol", str(error))

    def refuse(self, code: str, message: str) -> None:
        """Say what was wrong and end the connection."""
        self.send(wire.encode({"error": code, "message": message}))
        self.close(message)

    def _write(self) -> None:
        was_clogged = self.clogged
        try:
            self._out.write(self._write_fd)
        except OSError:  # EPIPE: the host has gone. What it said last is still to be read; then comes the end of file
            self._broken = True
            self._out.clear()
        self._watch()
        if was_clogged and not self.clogged:
            self._on_drained(self)
