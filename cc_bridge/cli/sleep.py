"""``cc-bridge sleep``: end an idle Claude Code until the next command."""

from __future__ import annotations

from . import options as o
from .session import run_async

__all__ = ["sleep"]


def sleep(names: o.Names) -> None:
    """Put idle instances to sleep: Claude Code ends, until the next command or `wake`."""
    from .display import Display

    async def main() -> int:
        with Display() as display:
            for name in names:
                instance = o.load(name, display)
                try:
                    await instance.sleep()
                finally:
                    await instance.release()
                print(name)
        return 0

    run_async(main)
