"""``cc-bridge stop``: end the processes, keep the conversation."""

from __future__ import annotations

from . import options as o
from .session import run_async

__all__ = ["stop"]


def stop(names: o.Names) -> None:
    """Stop instances; their conversations are kept, and the next command starts them again."""
    from .display import Display

    async def main() -> int:
        with Display() as display:
            for name in names:
                instance = o.load(name, display)
                try:
                    await instance.stop()
                finally:
                    await instance.release()
                print(name)
        return 0

    run_async(main)
