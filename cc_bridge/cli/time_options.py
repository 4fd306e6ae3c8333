"""Options for when an instance sleeps."""

from __future__ import annotations

from typing import Annotated

from .parameters import Option

__all__ = ["SleepAfter", "StopAfter"]

SleepAfter = Annotated[
    str,
    Option(
        "--sleep-after",
        metavar="TIME",
        help="End an idle Claude Code until the next command; 10m unless said, 0: never.",
    ),
]
StopAfter = Annotated[
    str,
    Option("--stop-after", metavar="TIME", help="End its container or agent when it has slept so long; 1d, 0: never."),
]
