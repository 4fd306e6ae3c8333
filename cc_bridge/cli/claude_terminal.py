"""The terminal that a person sits at, while what is typed and shown is somebody else's."""

from __future__ import annotations

import os
import signal
import termios
import tty
from types import TracebackType
from typing import Self

__all__ = ["Terminal"]

#: What a program that was killed leaves switched: the cursor, pastes in brackets, reports of the focus.
_AS_BEFORE = b"\x1b[?25h\x1b[?2004l\x1b[?1004l"

#: Where the kernel knows none.
_USUAL = (80, 24)


class Terminal:
    """Raw within a ``with`` block: each key is passed on as it is. As it was before after it, also after a failure."""

    def __init__(self) -> None:
        self._before = termios.tcgetattr(0)

    def __enter__(self) -> Self:
        tty.setraw(0, termios.TCSADRAIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(1)
        except OSError:
            return _USUAL
        return (columns, rows) if columns and rows else _USUAL

    def suspend(self) -> None:
        """Stop this program, as its shell expects it; return when it goes on, and is in the foreground."""
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        tty.setraw(0, termios.TCSADRAIN)

    def _restore(self) -> None:
        try:
            os.write(1, _AS_BEFORE)
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):
            pass  # it has gone
