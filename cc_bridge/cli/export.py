"""``cc-bridge export``: a conversation as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidInput
from . import options as o
from .session import run_async

__all__ = ["export"]


def export(
    name: o.Name,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="By default NAME.conversation.tar.gz.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Also where the file exists.")] = False,
) -> None:
    """Write an instance's conversation into a file; prints the file's name.

    The file has all that was said, and the tools' results: treat it as a secret.
    """
    from .display import Display

    async def main() -> int:
        target = file or Path(f"{name}.conversation.tar.gz")
        if target.exists() and not force:
            raise InvalidInput(f"{target} exists", hint="Choose another file, or use --force.")
        with Display() as display:
            instance = o.load(name, display)
            try:
                await instance.export_conversation(target)
            finally:
                await instance.release()
        print(target)
        return 0

    run_async(main)
