"""The agent's one concurrency model: a selector, signals through a pipe, and timers. No threads.

An idle loop sleeps in the kernel without a time-out and costs nothing. asyncio would do the same for
five times the memory and 40 ms of start-up.
"""

import os
import selectors
import signal
import time
from typing import Callable, Dict, List, Optional, Tuple

Callback = Callable[[], None]

#: Seconds that the loop sleeps at most: epoll_wait(2) takes no more than 24 days.
_LONGEST_SLEEP = 1e6


class Loop:
    """Runs callbacks when descriptors are ready, signals arrive or time has come."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._signals: Dict[int, Callback] = {}
        self._timers: List[Tuple[float, Callback]] = []
        self._running = False
        self._signal_read, self._signal_write = os.pipe()
        for fd in (self._signal_read, self._signal_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._signal_write)
        self.watch(self._signal_read, readable=self._dispatch_signals)

    def watch(self, fd: int, readable: Optional[Callback] = None, writable: Optional[Callback] = None) -> None:
        """Call back while ``fd`` is ready; replaces what was watched before; nothing to watch: forget it."""
        mask = (selectors.EVENT_READ if readable else 0) | (selectors.EVENT_WRITE if writable else 0)
        known = fd in self._selector.get_map()
        if not mask:
            if known:
                self._selector.unregister(fd)
        elif known:
            self._selector.modify(fd, mask, (readable, writable))
        else:
            self._selector.register(fd, mask, (readable, writable))

    def on_signal(self, number: int, callback: Callback) -> None:
        """Call back, from the loop, when the signal has arrived."""
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)

    def call_later(self, seconds: float, callback: Callback) -> Callback:
        """Call back once; returns a function that cancels."""
        entry = (time.monotonic() + seconds, callback)
        self._timers.append(entry)

        def cancel() -> None:
            if entry in self._timers:
                self._timers.remove(entry)

        return cancel

    def stop(self) -> None:
        """Let :meth:`run` return after what it is doing now."""
        self._running = False

    def run(self) -> None:
        """Until :meth:`stop`."""
        self._running = True
        while self._running:
            first = True
            for key, ready in self._selector.select(self._until_next_timer()):
                readable, writable = key.data
                # A callback may have forgotten a descriptor that this very round found ready.
                if ready & selectors.EVENT_READ and readable and (first or self._still(key)):
                    first = False
                    readable()
                if ready & selectors.EVENT_WRITE and writable and (first or self._still(key)):
                    first = False
                    writable()
            if self._timers:
                self._run_timers()

    def _still(self, key: selectors.SelectorKey) -> bool:
        current = self._selector.get_map().get(key.fd)
        return current is not None and current.data == key.data

    def _until_next_timer(self) -> Optional[float]:
        if not self._timers:
            return None
        left = min(when for when, _ in self._timers) - time.monotonic()
        return max(0.0, min(left, _LONGEST_SLEEP))

    def _run_timers(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._timers if entry[0] <= now]
        for entry in due:
            if entry in self._timers:  # an earlier one may have cancelled it
                self._timers.remove(entry)
                entry[1]()

    def _dispatch_signals(self) -> None:
        for number in set(os.read(self._signal_read, 4096)):
            self._signals.get(number, lambda: None)()
