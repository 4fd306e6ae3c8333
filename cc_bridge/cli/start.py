"""``cc-bridge start`` and ``restart``: instances that are there already."""

from __future__ import annotations

from . import options as o
from .session import run_async
from .up import bring_up

__all__ = ["restart", "start", "wake"]


def start(names: o.Names) -> None:
    """Start instances that were stopped; their conversations go on."""
    from .display import Display

    async def main() -> int:
        with Display() as display:
            for name in names:
                await bring_up(o.load(name, display), display)
        return 0

    run_async(main)


def wake(names: o.Names) -> None:
    """Start Claude Code ahead of a command, where it sleeps or was stopped."""
    start(names)


def restart(names: o.Names) -> None:
    """Stop instances and start them again; their conversations go on."""
    from .display import Display

    async def main() -> int:
        with Display() as display:
            for name in names:
                instance = o.load(name, display)
                display.progress(f"stopping {name}")
                try:
                    await instance.stop()
                finally:
                    await instance.release()
                await bring_up(o.load(name, display), display)
        return 0

    run_async(main)
