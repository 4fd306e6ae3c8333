"""What of a worktree's repository a container is to write to, and whether it got that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from ..beneath import open_beneath, opened
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
