"""A raw session over an agent's pipes, for a program that does nothing but copy its streams.

No event loop is imported, which takes longer than all else until the first byte is through. What is said and in what
order, the same cores decide as elsewhere (`protocol/link.py`, `protocol/raw.py`). It has this one connection: who has
lost it goes on with a :class:`.raw.RawSession`.
"""

from __future__ import annotations

import enum
import os
import select
import stat
import time
from collections.abc import Callable, Mapping

from ..channels.pipe_ends import meet
from ..protocol.link import Hello, Link, LinkEvent, Position, StreamBytes, Violated
from ..protocol.raw import RawStreams, Start
from .this_program import this_program

__all__ = ["PipedSession", "Stopped"]

#: Seconds for an agent that listens to answer; one that does not may be suspended, and there are other ways to it.
_ANSWER_LIMIT = 2.0

#: Bytes of one read, and of one write: that much a pipe takes at once that can be written to (PIPE_BUF).
_READ, _WRITE = 65536, 4096

#: Bytes of output that nobody has taken beyond which no more is received.
_MOST_BUFFERED = 1024 * 1024

_IN, _OUT = select.POLLIN, select.POLLOUT


class Stopped(enum.Enum):
    """Why copying has stopped."""

    OVER = "the process has ended, and all of its output is written"
    LOST = "the connection has ended, and what came is written"
    UNREAD = "nobody reads its output any more"


class PipedSession:
    """A process of its own at an instance, from its start on. Made by :meth:`connect`.

    Attributes:
        streams: what was not answered, and what came.
        name: the session's, in the agent.
    """

    def __init__(self, streams: RawStreams, name: str, link: Link, ends: tuple[int, int]) -> None:
        self.streams = streams
        self.name = name
        self._link = link
        self._incoming, self._outgoing = ends
        self._unsent = bytearray()
        self._lost = False
        self._input, self._stdout, self._stderr = 0, 1, 2  # the first is -1 at its end
        self._chunk: StreamBytes | None = None  # that is being written, and how much of it is
        self._written = 0

    @classmethod
    def connect(cls, directory: str, start: Start) -> PipedSession | None:
        """Connect to the agent that listens in ``directory``, to start a process; None: there is no such way to it."""
        name = f"raw-{os.urandom(12).hex()}"
        link = Link(name, host=this_program())
        link.greet()
        ends = meet(directory, link.data_to_send(), _ANSWER_LIMIT)
        if ends is None:
            return None
        made = cls(RawStreams(start), name, link, ends)
        if made._welcome():
            return made
        made.close()
        return None

    @property
    def position(self) -> Position | None:
        """Where another connection goes on."""
        return self._link.position

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        for fd in (self._incoming, self._outgoing):
            if fd != -1:
                os.close(fd)
        self._incoming = self._outgoing = -1

    def copy(
        self,
        arrivals: int,
        on_arrival: Callable[[bytes, RawStreams], None],
        *,
        standard: tuple[int, int, int] = (0, 1, 2),
    ) -> Stopped:
        """Copy stdin to the process, and its output to stdout and stderr, as quickly as they are read.

        Args:
            arrivals: a descriptor that can be read when ``on_arrival`` is to be called with what was read.
            standard: descriptors of stdin, stdout and stderr.
        """
        self._input, self._stdout, self._stderr = standard
        bulk = {fd: _is_file(fd) for fd in standard[1:]}
        while True:
            self._say()
            if self._chunk is None:
                self._chunk, self._written = self.streams.take(), 0
            if self._chunk is None and (self.streams.over or self._lost):
                return self._end()
            for fd, happened in self._wait(arrivals):
                if fd == arrivals:
                    on_arrival(os.read(arrivals, _READ), self.streams)
                elif fd == self._incoming:
                    self._receive()
                elif fd == self._input and happened & ~_OUT:
                    self._take_input()
                elif fd == self._target and not self._write(fd, bulk):
                    self.close()
                    return Stopped.UNREAD

    # Private

    @property
    def _target(self) -> int:
        """Where the chunk goes; -1: there is none."""
        return -1 if self._chunk is None else self._stdout if self._chunk.stream == "stdout" else self._stderr

    def _wait(self, arrivals: int) -> list[tuple[int, int]]:
        wanted: dict[int, int] = {arrivals: _IN}
        streams = self.streams
        if not self._lost:
            if self._unsent:
                wanted[self._outgoing] = _OUT
            if streams.buffered < _MOST_BUFFERED:
                wanted[self._incoming] = _IN
            if self._input != -1 and streams.started and not streams.backlog and not self._unsent:
                wanted[self._input] = _IN
        if self._chunk is not None:
            wanted[self._target] = wanted.get(self._target, 0) | _OUT
        waiting = select.poll()
        for fd, events in wanted.items():
            waiting.register(fd, events)
        return waiting.poll()

    def _say(self) -> None:
        """Say what is to be said, as far as the agent reads."""
        if self._lost:
            return
        self.streams.say(self._link)
        self._unsent += self._link.data_to_send()
        try:
            while self._unsent:
                del self._unsent[: os.write(self._outgoing, self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._lost = True

    def _receive(self) -> None:
        data = _read(self._incoming)
        if data is None:
            return
        self._link.acknowledge_at_times()
        events = self._link.receive_data(data)
        self._lost = not data or self._link.closed
        self._handle(events)

    def _handle(self, events: list[LinkEvent]) -> None:
        self.streams.receive(events)
        self._lost = self._lost or any(isinstance(event, Violated) for event in events)

    def _take_input(self) -> None:
        data = _read(self._input)
        if data:
            self.streams.write(data)
        elif data is not None:
            self.streams.end_input()
            self._input = -1

    def _write(self, fd: int, bulk: Mapping[int, bool]) -> bool:
        """Write some of the chunk; False: nobody reads stdout."""
        assert self._chunk is not None
        data = self._chunk.data
        try:
            end = len(data) if bulk[fd] else self._written + _WRITE
            self._written += os.write(fd, data[self._written : end])
        except BlockingIOError:  # somebody else writes there, too
            return True
        except OSError:
            if fd == self._stdout:
                return False
            self._written = len(data)  # stderr may be closed, and that is nobody's fault
        if self._written == len(data):
            self._chunk = None
        return True

    def _welcome(self) -> bool:
        """Read the agent's hello, which has been sent; whether it is one of an agent that runs processes."""
        deadline, events = time.monotonic() + _ANSWER_LIMIT, list[LinkEvent]()
        waiting = select.poll()
        waiting.register(self._incoming, _IN)
        while not events:
            left = deadline - time.monotonic()  # looked at each time: something may come for ever that is no hello
            if left <= 0 or not waiting.poll(left * 1000):
                return False
            data = _read(self._incoming)
            if data == b"":
                return False
            events = self._link.receive_data(data or b"")
        hello = events[0]
        if not isinstance(hello, Hello) or not hello.raw or (self.streams.on_terminal and not hello.tty):
            return False
        self.streams.connected(hello)
        self._handle(events[1:])
        return True

    def _end(self) -> Stopped:
        if self.streams.exited is not None and not self._lost:
            self._link.forget_session()
            self._say_last()
        self.close()
        return Stopped.OVER if self.streams.over else Stopped.LOST

    def _say_last(self) -> None:
        """Say that the process can be forgotten; an agent that does not read forgets it in time by itself."""
        try:
            os.write(self._outgoing, self._link.data_to_send())
        except OSError:
            pass


def _is_file(fd: int) -> bool:
    """It takes any number of bytes at once."""
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False


def _read(fd: int) -> bytes | None:
    """What can be read; empty: the end; None: nothing now."""
    try:
        return os.read(fd, _READ)
    except BlockingIOError:
        return None
    except OSError:  # it was closed, or its terminal has gone
        return b""
