"""A channel without an operating system: an agent in memory, with faults on demand."""

from __future__ import annotations

import math
from collections import deque

import anyio
import anyio.lowlevel

from ..channels.base import Channel
from ..protocol.stand_in import Signal, StandIn, StartProcess, Write

__all__ = ["MemoryChannel"]


class MemoryChannel(Channel):
    """Speaks an agent's frames; the program that it "starts" says every line again.

    Args:
        greeting: as the real channels take it.
    """

    kind = "memory"

    def __init__(self, greeting: bytes) -> None:
        self._stand_in = StandIn()
        self._waiting: deque[bytes] = deque()
        self._changed = anyio.Event()
        self._receiving = anyio.ResourceGuard("receiving from")
        self._sending = anyio.ResourceGuard("sending to")
        self._closed = self._ended = False
        self._allowance = math.inf
        self._take(greeting)

    def end(self) -> None:
        """Fault: the peer dies. What it has said can still be received."""
        self._ended = True
        self._changed.set()

    def break_after(self, size: int) -> None:
        """Fault: after ``size`` more bytes have been sent, the connection breaks, perhaps within a frame."""
        self._allowance = size

    async def send(self, data: bytes) -> None:
        """Give frames to the agent that stands in; a cancelled call has sent nothing."""
        with self._sending:
            await anyio.lowlevel.checkpoint()
            if self._closed:
                raise anyio.ClosedResourceError
            if self._ended or len(data) > self._allowance:
                self.end()
                raise anyio.BrokenResourceError
            self._allowance -= len(data)
            self._take(data)

    async def receive(self) -> bytes:
        """The frames that it answers; a cancelled call loses none."""
        with self._receiving:
            while True:
                await anyio.lowlevel.checkpoint()
                if self._closed:
                    raise anyio.ClosedResourceError
                if self._waiting:
                    return self._waiting.popleft()
                if self._ended:
                    raise anyio.EndOfStream
                self._changed = anyio.Event()
                await self._changed.wait()

    async def aclose(self) -> None:
        """Close; the peer is not told."""
        self._closed = True
        self._changed.set()

    def _take(self, data: bytes) -> None:
        self._stand_in.receive_frames(data)
        for action in self._stand_in.actions():
            match action:
                case StartProcess():
                    self._stand_in.launched(1)
                case Write(line):
                    self._stand_in.receive_output(line)
                case Signal("KILL"):
                    self._stand_in.exited(-9)
                case Signal():
                    pass
        if frames := self._stand_in.frames_to_host():
            self._waiting.append(frames)
            self._changed.set()
