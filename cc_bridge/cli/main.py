"""Where the command begins. ``--version`` answers before anything heavy is imported."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["run", "run_claude"]


def run() -> None:
    """The console script."""
    open_what_is_closed()
    if sys.argv[1:] == ["--version"]:
        from cc_bridge_agent import __version__

        print(f"cc-bridge {__version__}")
        return
    if sys.argv[1:2] == ["claude"]:
        _be_claude(sys.argv[2:], is_verb=True)
    gc.set_threshold(50_000)  # importing makes much, and nothing that has to be collected
    from . import quick

    if (verb := quick.read(sys.argv[1:])) is not None:
        verb()
        return
    from .app import app

    app(prog_name="cc-bridge")


def run_claude() -> None:
    """The console script that is named where a tool wants the path of a ``claude``."""
    open_what_is_closed()
    _be_claude(sys.argv[1:], is_verb=False)


def _be_claude(words: list[str], *, is_verb: bool) -> None:
    import signal

    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while it loads there is nothing to clean up
    from . import claude

    signal.signal(signal.SIGINT, handler)
    claude.run(words, is_verb=is_verb)


def open_what_is_closed() -> None:
    """A standard stream that is closed is an empty one; else the next file would be taken for it."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))
