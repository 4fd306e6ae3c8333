"""Files in directories that a container can write: reached by descriptors, step by step, and never over a link.

A path that is checked and then used may have become another meanwhile; a descriptor stays what it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["create_file", "link_target", "make_directory", "open_beneath", "opened", "read_file", "remove_tree"]

#: Opens a directory that may not even be read.
_PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY)

#: Why a directory is emptied where it is: it is another user's, or of a lower layer; and in how many others at most.
_CANNOT_MOVE = (errno.EACCES, errno.EPERM, errno.EXDEV)
_MOST_OPEN = 64

#: Characters of a path that is told, about.
_LONGEST_PATH = 4096


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


def remove_tree(parent: int, name: str) -> list[str]:
    """Delete whatever is there, a directory with all in it, also what is read-only. Links are deleted, not followed.

    However deep it is, few descriptors are open: a directory's directories are moved to the top, and then emptied.

    Returns:
        What could not be deleted, and why: ``home/cache: Operation not permitted``. Empty: nothing is left.
    """
    left: list[str] = []
    step = _Step(None, name)
    try:
        if _remove(name, parent):
            return left
        _make_writable(name, parent)
        with opened(name, parent) as top:
            todo = _empty(top, top, step, left)
            while todo:
                moved, path = todo.pop()
                try:
                    with opened(moved, top) as directory:
                        todo += _empty(directory, top, path, left)
                    os.rmdir(moved, dir_fd=top)
                except OSError as error:
                    _note(left, path, error)
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        _note(left, step, error)
    return left


class _Step(NamedTuple):
    """A name, and the directory that it is in. A path for each directory would be as long as the tree is deep."""

    above: _Step | None
    name: str

    def __str__(self) -> str:
        names, length, step = [self.name], 0, self.above
        while step is not None and length < _LONGEST_PATH:
            names.append(step.name)
            length += len(step.name) + 1
            step = step.above
        return "/".join([*(["…"] if step else []), *reversed(names)])


def _empty(directory: int, top: int, path: _Step, left: list[str], depth: int = 0) -> list[tuple[str, _Step]]:
    """Delete a directory's files and empty directories, and move its other directories to the top.

    Returns:
        Those directories: the name that each has there, and where it was.
    """
    moved = []
    for name in os.listdir(directory):
        step = _Step(path, name)
        try:
            if _remove(name, directory):
                continue
            _make_writable(name, directory)  # or it cannot be moved: rename(2), EACCES
            there = os.urandom(8).hex()
            try:
                os.rename(name, there, src_dir_fd=directory, dst_dir_fd=top)
            except OSError as error:
                if error.errno not in _CANNOT_MOVE or depth == _MOST_OPEN:
                    raise
                moved += _empty_in_place(directory, top, step, left, depth + 1)
            else:
                moved.append((there, step))
        except OSError as error:
            _note(left, step, error)
    return moved


def _empty_in_place(parent: int, top: int, path: _Step, left: list[str], depth: int) -> list[tuple[str, _Step]]:
    """The same for a directory that cannot be moved, another user's say; and delete it, or note what is left of it."""
    before = len(left)
    with opened(path.name, parent) as directory:
        moved = _empty(directory, top, path, left, depth)
    try:
        os.rmdir(path.name, dir_fd=parent)
    except OSError as error:
        if len(left) == before:
            _note(left, path, error)
    return moved


def _remove(name: str, parent: int) -> bool:
    """Delete a file or an empty directory; False: it is a directory that may have to be emptied first."""
    if not _is_directory(name, parent):
        os.unlink(name, dir_fd=parent)
        return True
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM):
            raise
        return False
    return True


def _is_directory(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _make_writable(name: str, parent: int) -> None:
    """Let its owner read, write and enter a directory."""
    fd = os.open(name, _PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) & stat.S_IRWXU != stat.S_IRWXU:
            with suppress(PermissionError):  # another user's: what of it cannot be deleted is told then
                os.chmod(f"/proc/self/fd/{fd}" if hasattr(os, "O_PATH") else fd, 0o700)  # fchmod(2) takes no O_PATH
    finally:
        os.close(fd)


def _note(left: list[str], path: _Step, error: OSError) -> None:
    """Note what was not deleted; not what has gone meanwhile, and not what holds something that was not deleted."""
    if error.errno != errno.ENOENT and not (error.errno in (errno.ENOTEMPTY, errno.EEXIST) and left):
        left.append(f"{path}: {error.strerror}")
