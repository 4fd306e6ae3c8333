"""Where the command begins. ``--version`` answers before anything heavy is imported."""

from __future__ import annotations

import gc
import sys

__all__ = ["run"]


def run() -> None:
    """The console script."""
    if sys.argv[1:] == ["--version"]:
        from cc_bridge_agent import __version__

        print(f"cc-bridge {__version__}")
        return
    gc.set_threshold(50_000)  # importing makes much, and nothing that has to be collected
    from . import quick

    if (verb := quick.read(sys.argv[1:])) is not None:
        verb()
        return
    from .app import app

    app(prog_name="cc-bridge")
