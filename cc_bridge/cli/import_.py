"""``cc-bridge import``: a new instance that goes on with an exported conversation."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import anyio.to_thread

from ..errors import InvalidInput
from . import options as o
from . import record_options as r
from .parameters import Argument
from .session import run_async
from .up import bring_up

__all__ = ["import_"]


@r.takes_options
def import_(
    options: r.Options,
    name: o.Name,
    file: Annotated[Path, Argument(metavar="FILE", help="What `cc-bridge export` has written; - is stdin.")],
) -> None:
    """Make an instance that goes on with the conversation in FILE; prints its name."""
    from ..instances.registry import Registry
    from .display import Display

    async def main() -> int:
        if name in Registry().names():
            raise InvalidInput("it exists already", instance=name, hint="Choose another name, or remove it first.")
        if options.resume:
            raise InvalidInput("--resume makes no sense with an import: FILE says what to go on with")
        with tempfile.TemporaryDirectory(prefix="cc-bridge-") as scratch:
            read = Path(scratch) / "stdin" if str(file) == "-" else file
            if read != file:
                await anyio.to_thread.run_sync(_copy_stdin, read, abandon_on_cancel=True)
            session_id = Registry().sessions.import_file(read)
        with Display() as display:
            record = await replace(options, resume=session_id).record(name, display, ephemeral=False)
            return await bring_up(o.instance_of(record, display), display)

    run_async(main)


def _copy_stdin(path: Path) -> None:
    with open(path, "xb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
