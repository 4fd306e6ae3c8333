"""``cc-bridge rm``: remove instances and all that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidInput
from . import options as o
from .session import run_async

if TYPE_CHECKING:
    from ..instance import InstanceInterface

__all__ = ["rm"]


def rm(
    names: o.Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="Also where it runs, or its record is broken.")] = False,
    conversation: Annotated[bool, typer.Option("--conversation", help="Also the conversation.")] = False,
) -> None:
    """Remove instances: container, pipes and home. The workspace is not touched.

    The conversation is kept for 30 days: `cc-bridge up` with the same name goes on with it.
    """
    from ..instances.registry import Registry
    from .display import Display

    async def main() -> int:
        with Display() as display:
            for name in names:
                try:
                    instance = o.load(name, display)
                except InvalidInput:
                    if not force or name not in Registry().names():
                        raise
                    Registry().home(name).remove()
                    print(name)
                    continue
                try:
                    if not force and await _runs(instance):
                        raise InvalidInput("it is running", instance=name, hint="Stop it first, or use --force.")
                    await instance.remove(conversation=conversation)
                finally:
                    await instance.release()
                print(name)
        return 0

    run_async(main)


async def _runs(instance: InstanceInterface) -> bool:
    return bool((await instance.get_info())["status"] == "running")
