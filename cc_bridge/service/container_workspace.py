"""Files of a workspace that is in a container, or on another machine: by the engine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import anyio.to_thread

from ..errors import ContainerNotFound, InvalidInput
from .problems import NotThere

if TYPE_CHECKING:
    from ..engine.container_tools import ContainerTools
    from ..instances.contained_instance import ContainedInstance

__all__ = ["ContainerWorkspace", "Found"]

#: Lists a directory as ``ls -p`` does, and no more of it than is wanted: a container may have millions of names.
_LIST = 'cd -- "$1" && ls -1Ap | head -n "$2"'
_MAKE = 'mkdir -p -- "$1"'


@dataclass(frozen=True)
class Found:
    """A file, directory, link or something else.

    Attributes:
        size: bytes of a file; None: not known, or no file.
        modified: UTC; None: not known.
    """

    name: str
    kind: str
    size: int | None = None
    modified: datetime | None = None


class ContainerWorkspace:
    """See :class:`.workspace.Workspace`. The container has to run for listing; links are its own to follow.

    Args:
        largest: bytes of a file that come out.
        most: entries of a directory that are listed.
    """

    def __init__(self, instance: ContainedInstance, tools: ContainerTools, largest: int, most: int) -> None:
        self._instance = instance
        self._tools = tools
        self._root = PurePosixPath(instance.record.mount_at)
        self._largest = largest
        self._most = most

    async def entries(self, parts: tuple[str, ...]) -> tuple[list[Found], bool]:
        """See :class:`.workspace.Workspace`."""
        argv = ["sh", "-c", _LIST, "sh", str(self._root.joinpath(*parts)), str(self._most + 1)]
        result = await self._instance.exec(argv)
        if result.exit_code != 0:
            raise NotThere("there is no such directory", instance=self._instance.name)
        names = result.stdout.decode("utf-8", "replace").splitlines()
        kinds = [("directory", name[:-1]) if name.endswith("/") else ("file", name) for name in names[: self._most]]
        return sorted((Found(name, kind) for kind, name in kinds), key=lambda found: found.name), len(
            names
        ) > self._most

    async def open(self, parts: tuple[str, ...]) -> tuple[IO[bytes], int]:
        """See :class:`.workspace.Workspace`."""
        content = await self._tools.read_file(str(self._root.joinpath(*parts)), self._largest)
        if content is None:
            raise NotThere("there is no such file", instance=self._instance.name)
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        return content, size

    async def write(self, parts: tuple[str, ...], chunks: AsyncIterator[bytes]) -> tuple[Found, bool]:
        """See :class:`.workspace.Workspace`. It comes to the container whole, after all of it has come here."""
        target = self._root.joinpath(*parts)
        with tempfile.TemporaryDirectory(prefix="cc-bridge-") as scratch:
            path = Path(scratch, "content")
            with open(path, "wb") as file:  # noqa: ASYNC230  written in threads
                async for chunk in chunks:
                    await anyio.to_thread.run_sync(file.write, chunk)
            if len(parts) > 1:
                await self._instance.exec(["sh", "-c", _MAKE, "sh", str(target.parent)])
            is_new = True
            with suppress(ContainerNotFound):
                is_directory = await self._tools.is_directory(str(target))
                is_new = is_directory is None
                if is_directory:
                    raise InvalidInput("there is a directory of this name", instance=self._instance.name)
            await self._tools.copy_in(path, str(target))
            return Found(parts[-1], "file", path.stat().st_size), is_new
