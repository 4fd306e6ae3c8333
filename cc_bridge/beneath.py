"""Files in directories that a container can write: reached by descriptors, step by step, and never over a link.

A path that is checked and then used may have become another meanwhile; a descriptor stays what it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

__all__ = ["create_file", "link_target", "make_directory", "open_beneath", "opened", "read_file"]


@contextmanager
def opened(path: str | Path, parent: int | None = None) -> Iterator[int]:
    """A directory's descriptor, closed on the way out.

    Args:
        path: its last part must be no link; those before it are trusted.

    Raises:
        OSError: ELOOP or ENOTDIR where it is a link or no directory, ENOENT where it is missing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def open_beneath(root: int, parts: Sequence[str], flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A file's descriptor, the caller's to close. Waits for nobody: a FIFO is opened, too, and is to be looked at.

    Args:
        root: a directory's descriptor.
        parts: the path from there; none of them a link.

    Raises:
        OSError: as :func:`opened`.
    """
    *directories, name = parts
    with ExitStack() as open_ones:
        for directory in directories:
            root = open_ones.enter_context(opened(directory, root))
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=root)


def read_file(root: int, parts: Sequence[str], largest: int = 1024 * 1024) -> bytes:
    """A regular file's content, its first ``largest`` bytes.

    Raises:
        OSError: as :func:`opened`.
        ValueError: it is something else than a file.
    """
    with os.fdopen(open_beneath(root, parts), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{'/'.join(parts)} is not a file")
        return file.read(largest)


def link_target(root: int, parts: Sequence[str]) -> str:
    """What a link says, without following it.

    Raises:
        OSError: as :func:`opened`; EINVAL, it is no link.
    """
    with ExitStack() as open_ones:
        for directory in parts[:-1]:
            root = open_ones.enter_context(opened(directory, root))
        return os.readlink(parts[-1], dir_fd=root)


def make_directory(parent: int, name: str, mode: int) -> None:
    """Create a directory if it is missing; it gets this mode, unless it is another user's.

    Raises:
        OSError: as :func:`opened`.
    """
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    with opened(name, parent) as fd, suppress(PermissionError):
        os.fchmod(fd, mode)


def create_file(parent: int, name: str, content: bytes, mode: int = 0o600) -> None:
    """Write a new file.

    Raises:
        OSError: EEXIST where there is anything of this name, a link included.
    """
    with os.fdopen(open_beneath(parent, [name], os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
