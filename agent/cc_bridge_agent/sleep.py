"""Ends a Claude Code that has nothing to do, in an orderly way. One timer, and none where nobody wants it."""

import signal
import time
from typing import Callable

from .loop import Loop

#: Seconds for Claude Code to end after the end of its stdin, and after SIGTERM. It takes a tenth of one (measured).
_END_LIMIT = 10.0
_TERM_LIMIT = 5.0

#: And in all before SIGTERM, whatever it still says.
_LONGEST_END = 60.0


class Sleeper:
    """When one session's Claude Code goes to sleep.

    Args:
        why_awake: why it must not be ended now; empty: it has nothing to do.
        close_input: ends its stdin, on which it exits by itself.
        send_signal: sends it a signal.

    Attributes:
        after: seconds of idleness; 0: never.
        is_under_way: it was told to end, and has not ended yet.
    """

    def __init__(
        self,
        loop: Loop,
        why_awake: Callable[[], str],
        close_input: Callable[[], None],
        send_signal: Callable[[int], None],
    ) -> None:
        self.after = 0.0
        self.is_under_way = False
        self._latest = 0.0
        self._loop = loop
        self._why_awake = why_awake
        self._close_input = close_input
        self._send_signal = send_signal
        self._since = 0.0
        self._cancel: Callable[[], None] = lambda: None

    def begin(self, after: float) -> None:
        """Claude Code was started, or has another time from now on."""
        self._cancel()
        self.after = after
        self.touch()
        if after:
            self._wait(after, self._due)

    def touch(self) -> None:
        """Something was said, by whichever side."""
        self._since = time.monotonic()

    def fall_asleep(self) -> None:
        """Now: the end of its stdin, then SIGTERM, then SIGKILL, each where the one before does not end it."""
        self.is_under_way = True
        self._latest = time.monotonic() + _LONGEST_END
        self._close_input()
        self._wait(_END_LIMIT, self._terminate)

    def end(self) -> bool:
        """Claude Code has ended; whether that was for sleep."""
        self._cancel()
        slept, self.is_under_way = self.is_under_way, False
        return slept

    def _due(self) -> None:
        left = self._since + self.after - time.monotonic()
        if left > 0:
            self._wait(left, self._due)
        elif self._why_awake():
            self._wait(self.after, self._due)
        else:
            self.fall_asleep()

    def _terminate(self) -> None:
        left = min(self._since + _END_LIMIT, self._latest) - time.monotonic()
        if left > 0:  # it had just begun something, and finishes that first
            self._wait(left, self._terminate)
        else:
            self._send_signal(signal.SIGTERM)
            self._wait(_TERM_LIMIT, lambda: self._send_signal(signal.SIGKILL))

    def _wait(self, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel()
        self._cancel = self._loop.call_later(seconds, callback)
