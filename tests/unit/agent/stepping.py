"""The agent's loop, turned by hand: real descriptors, and callbacks run only when a test says so."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any

Callback = Callable[[], None]


class StepLoop:
    """What the agent's parts need of a loop."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[Callback | None, Callback | None]] = {}
        self.timers: list[tuple[float, Callback]] = []

    def watch(self, fd: int, readable: Callback | None = None, writable: Callback | None = None) -> None:
        if readable or writable:
            os.fstat(fd)  # what is closed cannot be watched
            self.watched[fd] = (readable, writable)
        else:
            self.watched.pop(fd, None)

    def call_later(self, seconds: float, callback: Callback) -> Callback:
        timer = (seconds, callback)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer) if timer in self.timers else None

    def let_time_pass(self) -> float:
        """Run the only timer, as if its time had come; its seconds."""
        ((seconds, callback),) = self.timers
        self.timers.clear()
        callback()
        return seconds

    def step(self, rounds: int = 100) -> None:
        """Run what is ready, until nothing is, or so many times."""
        for _ in range(rounds):
            poll = select.poll()
            for fd, (readable, writable) in self.watched.items():
                poll.register(fd, (select.POLLIN if readable else 0) | (select.POLLOUT if writable else 0))
            ready = poll.poll(0)
            if not ready:
                return
            for fd, events in ready:
                readable, writable = self.watched.get(fd, (None, None))
                if readable and events & ~select.POLLOUT:
                    readable()
                if writable and events & ~select.POLLIN and self.watched.get(fd, (None, None))[1] == writable:
                    writable()


def loop() -> Any:
    """A loop, as the agent's annotations want it."""
    return StepLoop()


def drain(fd: int) -> bytes:
    """All that can be read just now."""
    data = b""
    try:
        while chunk := os.read(fd, 1_000_000):
            data += chunk
    except BlockingIOError:
        pass
    return data
