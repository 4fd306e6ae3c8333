"""``cc-bridge cp``: files into a container and out of it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread

from ..errors import InvalidInput
from . import options as o
from .completion import complete_path
from .harmless import shown_on
from .parameters import Argument
from .session import run_async

if TYPE_CHECKING:
    from tarfile import TarInfo

    from ..instances.contained_instance import ContainedInstance
    from .display import Display

__all__ = ["cp"]


def cp(
    source: Annotated[str, Argument(metavar="SOURCE", help="A path here, or NAME:PATH.", complete=complete_path)],
    target: Annotated[str, Argument(metavar="TARGET", help="The other of the two.", complete=complete_path)],
) -> None:
    """Copy a file or directory into an instance's container (NAME:PATH as the target) or out of it.

    It need not run. Out of a container come files and directories only: links and devices are left out, and named.
    - is stdin, with a tar archive that is unpacked in a directory, or stdout, where one is written.
    """
    from .display import Display

    async def main() -> int:
        name, inside = _split(source)
        to_name, to_inside = _split(target)
        if bool(name) == bool(to_name):
            raise InvalidInput("one of the two is NAME:PATH, and the other a path here, or -")
        if (source == "-" and sys.stdin.isatty()) or (target == "-" and sys.stdout.isatty()):
            raise InvalidInput("- is a tar archive, and here is a terminal", hint="Use a file, or a pipe.")
        with Display() as display:
            instance = o.load_contained(name or to_name, display)
            try:
                if to_name and source == "-":
                    await (await instance.get_tools()).unpack(sys.stdin.buffer, to_inside)
                elif target == "-":
                    await _write_archive(instance, inside, display)
                elif to_name:
                    display.progress(f"copying {source}")
                    print(f"{to_name}:{await (await instance.get_tools()).copy_in(Path(source), to_inside)}")
                else:
                    display.progress(f"copying {source}")
                    path, left_out = await (await instance.get_tools()).copy_out(inside, Path(target))
                    display.settle()
                    print(shown_on(sys.stdout, str(path)))
                    for item in left_out:
                        display.note(f"left out, because it is no file or directory: {item}")
            finally:
                await instance.release()
        return 0

    run_async(main)


async def _write_archive(instance: ContainedInstance, inside: str, display: Display) -> None:
    """A tar archive on stdout, of what may come out: no links and no devices."""
    import tarfile

    with tempfile.TemporaryDirectory(prefix="cc-bridge-") as scratch:
        path, left_out = await (await instance.get_tools()).copy_out(
            inside, Path(scratch) / (PurePosixPath(inside).name or "root")
        )

        def write() -> None:
            with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
                tar.add(path, path.name, filter=_of_nobody)
            sys.stdout.buffer.flush()

        await anyio.to_thread.run_sync(write)
    for item in left_out:
        display.note(f"left out, because it is no file or directory: {item}")


def _of_nobody(member: TarInfo) -> TarInfo:
    """Whose it is here says nothing to who unpacks it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _split(text: str) -> tuple[str, str]:
    """Instance and path; no instance: a path of this machine."""
    name, separator, path = text.partition(":")
    # As with other tools that copy, a path here with a colon is written with a slash before it: ./a:b
    return (name, path) if separator and "/" not in name and name else ("", text)
