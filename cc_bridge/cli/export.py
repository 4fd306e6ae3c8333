"""``cc-bridge export``: a conversation as a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import anyio.to_thread

from ..errors import InvalidInput
from . import options as o
from .parameters import Argument, Option
from .session import run_async

__all__ = ["export"]


def export(
    name: o.Name,
    file: Annotated[
        Path | None, Argument(metavar="FILE", help="By default NAME.conversation.tar.gz; - is stdout.")
    ] = None,
    force: Annotated[bool, Option("--force", "-f", help="Also where the file exists.")] = False,
) -> None:
    """Write an instance's conversation into a file; prints the file's name, unless it is stdout.

    The file has all that was said, and the tools' results: treat it as a secret.
    """
    from .display import Display

    async def main() -> int:
        target = file or Path(f"{name}.conversation.tar.gz")
        to_stdout = str(target) == "-"
        if to_stdout and sys.stdout.isatty():
            raise InvalidInput("- is stdout, and that is a terminal", hint="Name a file, or use a pipe.")
        if target.exists() and not force and not to_stdout:
            raise InvalidInput(f"{target} exists", hint="Choose another file, or use --force.")
        with Display() as display, tempfile.TemporaryDirectory(prefix="cc-bridge-") as scratch:
            instance = o.load(name, display)
            written = Path(scratch) / "conversation" if to_stdout else target
            try:
                await instance.export_conversation(written)
            finally:
                await instance.release()
            if to_stdout:
                await anyio.to_thread.run_sync(_copy_to_stdout, written)
                return 0
        print(target)
        return 0

    run_async(main)


def _copy_to_stdout(path: Path) -> None:
    with open(path, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
