"""``cc-bridge up``: an instance that stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from . import options as o
from . import record_options as r
from .session import run_async

if TYPE_CHECKING:
    from ..instances.bridged import BridgedInstance
    from .display import Display

__all__ = ["bring_up", "up"]


@r.takes_options
def up(options: r.Options, context: typer.Context, name: o.Name) -> None:
    """Make an instance that stays, or start one that is there; prints its name.

    An instance keeps its options: to start it again, its name is enough.
    """
    from ..instances.registry import Registry
    from .display import Display

    async def main() -> int:
        with Display() as display:
            if name in Registry().names():
                r.refuse_options(context, name)
                instance = o.load(name, display)
            else:
                instance = o.instance_of(await options.record(name, display, ephemeral=False), display)
                if not options.resume and instance.conversation_to_go_on_with():
                    forget = f"`cc-bridge rm --conversation {name}` forgets it"
                    display.note(f"{name} goes on with the conversation it had before it was removed; {forget}")
            return await bring_up(instance, display)

    run_async(main)


async def bring_up(instance: BridgedInstance, display: Display) -> int:
    """Start it, and leave it to itself; prints its name."""
    display.progress(f"starting {instance.name}")
    try:
        await instance.start()
    finally:
        await instance.release()
    display.settle()
    print(instance.name)
    return 0
