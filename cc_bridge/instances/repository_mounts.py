"""What of a worktree's repository a container is to write to, and whether it got that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from ..beneath import open_beneath, opened
from ..engine.containers import Containers
from ..errors import EngineError
from ..logs import Log
from .worktrees import Worktree

__all__ = ["RepositoryMounts"]


class RepositoryMounts:
    """The directories by device and number: the engine resolves their paths anew at every start of the container."""

    def __init__(self, wanted: dict[Path, tuple[int, int]]) -> None:
        self._wanted = wanted

    @classmethod
    def of(cls, tree: Worktree) -> Self:
        """Those of a worktree as they are now.

        Raises:
            InvalidInput: one of them is no directory, but a link for example.
        """
        found = {}
        for path, read_only in tree.mounts():
            if not read_only:
                with opened(path) as directory:
                    status = os.fstat(directory)
                found[path] = (status.st_dev, status.st_ino)
        return cls(found)

    async def check(self, containers: Containers, container: str, name: str, log: Log) -> None:
        """Make sure that a container got these, and not what one beside it has put in their place meanwhile.

        Its Claude Code does not run yet, and the agent in it is ours.

        Raises:
            EngineError: it got something else, and was killed.
        """
        try:
            is_mounted = self.are_in((await containers.inspect(container)).pid)
        except PermissionError:
            log.info("mounts_not_looked_at", reason="its processes are another user's")
            return
        if not is_mounted:
            await containers.kill(container)
            what = "something else was mounted in the place of its repository, and it was ended"
            raise EngineError(what, instance=name, hint="Another container that can write there may have done it.")

    def are_in(self, pid: int) -> bool:
        """Whether a process has just these at their paths.

        Raises:
            PermissionError: it is another user's.
        """
        if not self._wanted:
            return True
        try:
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return self._wanted == {path: _identity(root, path) for path in self._wanted}
            finally:
                os.close(root)
        except PermissionError:
            raise
        except OSError:
            return False


def _identity(root: int, path: Path) -> tuple[int, int]:
    """Device and number of a directory as a container has it."""
    fd = open_beneath(root, path.parts[1:], os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)
