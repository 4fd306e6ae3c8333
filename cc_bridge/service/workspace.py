"""Files of an instance's workspace: listed, read and written, wherever that is.

What is in a workspace may have been put there by a container that is not trusted (requirement T1). On this machine
every step is made by descriptor and over no link, so that a path leads nowhere else, whatever is changed meanwhile.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import anyio.to_thread

from ..beneath import open_beneath
from ..errors import BridgeError, InvalidInput, NoSpaceLeft
from ..instances.bridged import BridgedInstance
from ..instances.contained_instance import ContainedInstance
from .container_workspace import ContainerWorkspace, Found
from .problems import NotThere

__all__ = ["MOST_ENTRIES", "HostWorkspace", "Workspace", "parts_of", "workspace_of"]

T = TypeVar("T")

#: Entries of a directory that are listed.
MOST_ENTRIES = 2000

_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_DEEPEST = 100

#: Bytes that are written at once.
_CHUNK = 1024 * 1024

#: How whatever is being written is called until it is whole.
_SCRATCH = ".cc-bridge-upload-"


class Workspace(Protocol):
    """A workspace. Paths are sequences of names; none is empty, ``.`` or ``..``.

    Raises, from every method:
        NotThere: there is no such file or directory.
        InvalidInput: it is something else than what it has to be, or cannot be used.
        BridgeError: it cannot be reached.
    """

    async def entries(self, parts: tuple[str, ...]) -> tuple[list[Found], bool]:
        """What is in a directory, sorted, and whether there is more."""

    async def open(self, parts: tuple[str, ...]) -> tuple[IO[bytes], int]:
        """A file, to be closed by the caller, and how many bytes it has."""

    async def write(self, parts: tuple[str, ...], chunks: AsyncIterator[bytes]) -> tuple[Found, bool]:
        """Write a file, whole or not at all; directories are made where they are missing.

        Returns:
            The file, and whether it is new.
        """


async def workspace_of(instance: BridgedInstance, largest: int) -> Workspace:
    """Where an instance's files are.

    Args:
        largest: bytes of a file that come out of a container.

    Raises:
        BridgeError: it cannot be reached.
    """
    record = instance.record
    if isinstance(instance, ContainedInstance):
        here = await instance.workspace_here()
        if here is None:
            return ContainerWorkspace(instance, await instance.get_tools(), largest, MOST_ENTRIES)
        return HostWorkspace(here, instance.owner, read_only=record.read_only_workspace)
    if record.workspace is None:
        raise InvalidInput("it has no workspace", instance=record.name)
    return HostWorkspace(record.workspace)


def parts_of(path: str) -> tuple[str, ...]:
    """The names of a path from the workspace; none: the workspace itself.

    Raises:
        InvalidInput: it leads out of it, or can be no path.
    """
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    hint = "A path begins in the workspace, as src/main.py does."
    if path.startswith("/") or ".." in parts:
        raise InvalidInput("the path leads out of the workspace", hint=hint)
    if "\0" in path or any("\ud800" <= character <= "\udfff" for character in path):
        raise InvalidInput("the path has characters that no path has", hint=hint)
    if len(path.encode()) > _LONGEST_PATH or len(parts) > _DEEPEST:
        raise InvalidInput("the path is too long", hint=hint)
    if any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise InvalidInput("a name in the path is too long", hint=hint)
    return parts


class HostWorkspace:
    """A workspace that is a directory of this machine.

    Args:
        owner: user and group that new files get where this process may give them away; None: those of the directory.
        read_only: the instance may not write there, and so nobody does for it.
    """

    def __init__(self, root: Path, owner: tuple[int, int] | None = None, *, read_only: bool = False) -> None:
        self._root = root
        self._owner = owner
        self._read_only = read_only

    async def entries(self, parts: tuple[str, ...]) -> tuple[list[Found], bool]:
        """See :class:`Workspace`."""
        return await _in_thread(self._entries, parts)

    async def open(self, parts: tuple[str, ...]) -> tuple[IO[bytes], int]:
        """See :class:`Workspace`."""
        return await _in_thread(self._open_file, parts)

    async def write(self, parts: tuple[str, ...], chunks: AsyncIterator[bytes]) -> tuple[Found, bool]:
        """See :class:`Workspace`."""
        if self._read_only:
            raise InvalidInput("the workspace is read-only")
        directory = await _in_thread(self._make_directories, parts[:-1])
        with _closed(directory):
            upload = await _in_thread(_Upload, directory, parts[-1], self._owner)
            try:
                waiting = bytearray()
                async for chunk in chunks:
                    waiting += chunk
                    if len(waiting) >= _CHUNK:
                        await _in_thread(upload.write, bytes(waiting))
                        waiting.clear()
                await _in_thread(upload.write, bytes(waiting))
                return await _in_thread(upload.finish)
            finally:
                upload.close()

    def _entries(self, parts: tuple[str, ...]) -> tuple[list[Found], bool]:
        directory = self._open(parts, os.O_RDONLY | os.O_DIRECTORY)
        with _closed(directory), os.scandir(directory) as entries:
            names = [entry.name for entry in itertools.islice(entries, MOST_ENTRIES + 1)]
            found = []
            for name in sorted(names[:MOST_ENTRIES]):
                with suppress(FileNotFoundError):  # it has just gone
                    found.append(_found(name, os.stat(name, dir_fd=directory, follow_symlinks=False)))
            return found, len(names) > MOST_ENTRIES

    def _open_file(self, parts: tuple[str, ...]) -> tuple[IO[bytes], int]:
        fd = self._open(parts, os.O_RDONLY)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            os.close(fd)
            raise InvalidInput("this is no file")
        return os.fdopen(fd, "rb"), facts.st_size

    def _open(self, parts: tuple[str, ...], flags: int) -> int:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not parts:
            return root
        with _closed(root):
            return open_beneath(root, parts, flags)

    def _make_directories(self, parts: tuple[str, ...]) -> int:
        directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in parts:
            with _closed(directory):
                try:
                    os.mkdir(name, 0o755, dir_fd=directory)
                    is_new = True
                except FileExistsError:
                    is_new = False
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                if is_new:
                    _give(inner, directory, self._owner)
            directory = inner
        return directory


class _Upload:
    """A file that is being written beside the one whose place it takes."""

    def __init__(self, directory: int, name: str, owner: tuple[int, int] | None) -> None:
        self._directory = directory
        self._name = name
        self._owner = owner
        self._scratch = f"{_SCRATCH}{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._fd = open_beneath(directory, [self._scratch], flags)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def finish(self) -> tuple[Found, bool]:
        before = None
        with suppress(FileNotFoundError):
            before = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
        is_file = before is not None and stat.S_ISREG(before.st_mode)
        os.fchmod(self._fd, stat.S_IMODE(before.st_mode) & 0o777 if before and is_file else 0o644)
        _give(self._fd, self._directory, self._owner)
        os.rename(self._scratch, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        return _found(self._name, os.fstat(self._fd)), before is None

    def close(self) -> None:
        """Harmless when it was finished."""
        os.close(self._fd)
        with suppress(OSError):  # a container may have taken the directory away
            os.unlink(self._scratch, dir_fd=self._directory)


def _give(fd: int, directory: int, owner: tuple[int, int] | None) -> None:
    """Let it belong to whom the files there belong, where this process may do so."""
    if os.geteuid() != 0:
        return
    around = os.fstat(directory)
    os.fchown(fd, *(owner or (around.st_uid, around.st_gid)))


def _found(name: str, facts: os.stat_result) -> Found:
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
    kind = next((kind for is_it, kind in kinds if is_it(facts.st_mode)), "other")
    modified = None
    with suppress(ValueError, OverflowError, OSError):  # a container may have set it to any time
        modified = datetime.fromtimestamp(facts.st_mtime, UTC)
    return Found(name, kind, facts.st_size if kind == "file" else None, modified)


@contextmanager
def _closed(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call it in a thread; what the system refuses is an error of ours."""
    try:
        return await anyio.to_thread.run_sync(function, *arguments)
    except OSError as error:
        raise _of_ours(error) from error


def _of_ours(error: OSError) -> BridgeError:
    match error.errno:
        case errno.ENOENT:
            return NotThere("there is no such file or directory")
        case errno.ELOOP:
            return InvalidInput("the path leads over a link, and links are not followed")
        case errno.ENOTDIR:
            return InvalidInput("a part of the path is no directory, or a link")
        case errno.EISDIR | errno.EEXIST | errno.ENOTEMPTY:
            return InvalidInput("there is a directory of this name")
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpaceLeft("the disk of the workspace is full")
    return InvalidInput(f"it cannot be used: {error.strerror}")
