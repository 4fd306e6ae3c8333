"""Copy files into and out of containers, running or not: tar archives over the engine's API."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import anyio.to_thread

from ..beneath import link_target, open_beneath, opened
from ..errors import ContainerNotFound, EngineError, InvalidInput
from .client import Engine

__all__ = ["Archives", "PathInfo", "tar_of", "tar_of_bytes", "tar_of_directory", "tar_of_tar", "tar_of_tree", "unpack"]

#: Go's bit for a directory in a file's mode (package io/fs).
_GO_DIRECTORY = 1 << 31

#: Seconds for a transfer.
_LIMIT = 3600.0

#: Maximum depth of directories in an archive.
_DEEPEST = 100

#: Temporary name of what is unpacked, until it is moved into place.
_TOP = "content"


@dataclass(frozen=True)
class PathInfo:
    """A file or directory in a container."""

    name: str
    size: int
    is_directory: bool


def tar_of(path: PurePosixPath, content: IO[bytes], uid: int, gid: int) -> IO[bytes]:
    """An archive of one file (0600) and its parent directories (0700) with this owner; the caller closes it.

    Args:
        path: relative to the directory in which the archive will be unpacked.
    """
    archive = tempfile.TemporaryFile()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for directory in reversed(path.parents[:-1]):
            header = tarfile.TarInfo(str(directory))
            header.type, header.mode, header.uid, header.gid = tarfile.DIRTYPE, 0o700, uid, gid
            tar.addfile(header)
        header = tarfile.TarInfo(str(path))
        header.size, header.mode, header.uid, header.gid = content.seek(0, 2), 0o600, uid, gid
        content.seek(0)
        tar.addfile(header, content)
    archive.seek(0)
    return archive


def tar_of_bytes(files: Mapping[str, bytes], uid: int = 0, gid: int = 0) -> IO[bytes]:
    """An in-memory archive of files by name, with mode 0644."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.uid, header.gid = len(data), 0o644, uid, gid
            tar.addfile(header, io.BytesIO(data))
    archive.seek(0)
    return archive


def tar_of_directory(name: str, uid: int, gid: int) -> IO[bytes]:
    """An archive of an empty directory with this owner."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        header = tarfile.TarInfo(name)
        header.type, header.mode, header.uid, header.gid = tarfile.DIRTYPE, 0o755, uid, gid
        tar.addfile(header)
    archive.seek(0)
    return archive


def tar_of_tar(archive: IO[bytes], uid: int, gid: int) -> IO[bytes]:
    """The same archive, packed or not, with everything owned by this user; close it after use.

    Raises:
        InvalidInput: it is none, or holds something else than files, directories and links.
    """
    owned = tempfile.TemporaryFile()
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as tar, tarfile.open(fileobj=owned, mode="w") as copy:
            for member in tar:
                if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    raise InvalidInput(f"the archive holds {member.name}, which is no file, directory or link")
                member.uid, member.gid, member.uname, member.gname = uid, gid, "", ""
                copy.addfile(member, tar.extractfile(member) if member.isreg() else None)
        owned.seek(0)
    except BaseException as error:
        owned.close()
        if isinstance(error, tarfile.TarError | EOFError):
            raise InvalidInput(f"this is no tar archive: {error}") from None
        raise
    return owned


def tar_of_tree(source: Path, name: str, uid: int, gid: int) -> IO[bytes]:
    """An archive of a file or directory tree under this name, with this owner; the caller closes it.

    Symbolic links are archived as links and never followed, even if one replaces a file during the walk.

    Raises:
        InvalidInput: it cannot be read, or is nested too deeply.
    """
    archive = tempfile.TemporaryFile()
    try:
        with tarfile.open(fileobj=archive, mode="w") as tar, _parent_of(source) as (parent, base):
            for parts in _walk(parent, (base,)):
                arcname = "/".join((name, *parts[1:]))
                add_beneath(tar, parent, parts, arcname, uid, gid)
    except OSError as error:
        archive.close()
        raise InvalidInput(f"{error.filename or source} cannot be read: {error.strerror or error}") from error
    archive.seek(0)
    return archive


@contextmanager
def _parent_of(path: Path) -> Iterator[tuple[int, str]]:
    """The descriptor of a path's parent directory, and its last name. The parents are trusted."""
    whole = path.absolute()
    fd = os.open(whole.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd, whole.name or "."
    finally:
        os.close(fd)


def _walk(root: int, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A path and all paths below it, parents first."""
    yield parts
    if len(parts) > _DEEPEST:
        raise OSError(errno.ELOOP, "directories are nested too deeply", "/".join(parts))
    try:
        fd = open_beneath(root, parts, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return
        raise
    try:
        names = sorted(os.listdir(fd))
    finally:
        os.close(fd)
    for name in names:
        yield from _walk(root, (*parts, name))


def add_beneath(tar: tarfile.TarFile, root: int, parts: Sequence[str], arcname: str, uid: int, gid: int) -> None:
    """Add a file, directory or link to an archive; anything else is left out.

    Args:
        root: a directory's descriptor.
        parts: the path from there, of which only the last part may be a link, and is not followed.

    Raises:
        OSError: it cannot be read.
    """
    header = tarfile.TarInfo(arcname)
    header.uid, header.gid = uid, gid
    try:
        fd = open_beneath(root, parts)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return  # a socket
        if error.errno != errno.ELOOP:
            raise
        header.type, header.linkname = tarfile.SYMTYPE, link_target(root, parts)
        tar.addfile(header)
        return
    try:
        found = os.fstat(fd)
        header.mode, header.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
        if stat.S_ISREG(found.st_mode):
            header.size = found.st_size
            with os.fdopen(os.dup(fd), "rb") as content:
                tar.addfile(header, content)
        elif stat.S_ISDIR(found.st_mode):
            header.type = tarfile.DIRTYPE
            tar.addfile(header)
    finally:
        os.close(fd)


def unpack(chunks: Iterable[bytes], destination: Path) -> list[str]:
    """Unpack an untrusted archive: only files and directories, and only below ``destination``.

    Args:
        destination: the path that the archive's single top entry gets; it must not exist.

    Returns:
        Names of skipped entries: links, devices and the like.

    Raises:
        EngineError: this is not an archive.
        InvalidInput: the destination cannot be written.
    """
    left_out = []
    try:
        # Unpacked into a new directory, then moved. A container may be able to write there and plant links, so every
        # step goes by descriptor.
        with (
            _parent_of(destination) as (parent, name),
            tempfile.TemporaryDirectory(dir=f"/proc/self/fd/{parent}", prefix=f".{name[:50]}.") as scratch,
            opened(scratch) as root,
            tarfile.open(fileobj=cast("IO[bytes]", _Reader(iter(chunks))), mode="r|") as tar,
        ):
            for member in tar:
                parts = PurePosixPath(member.name).parts
                wanted = parts and ".." not in parts and parts[0] != "/" and len(parts) <= _DEEPEST
                if not wanted or not _unpack_one(tar, member, root, parts[1:]):
                    left_out.append(member.name)
            if os.path.lexists(os.path.join(scratch, _TOP)):
                os.rename(_TOP, name, src_dir_fd=root, dst_dir_fd=parent)
    except (tarfile.TarError, FileExistsError) as error:
        raise EngineError(f"what came out of the container is no proper archive: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{error.filename or destination} cannot be written: {error.strerror}") from error
    return left_out


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, root: int, parts: Sequence[str]) -> bool:
    """Create a file or directory; return False if the entry is neither.

    Raises:
        OSError: it cannot be created, or something else is there.
    """
    if not member.isdir() and not member.isreg():
        return False
    *directories, name = (_TOP, *parts)
    with ExitStack() as open_ones:
        for directory in directories if member.isreg() else (*directories, name):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o755, dir_fd=root)
            root = open_ones.enter_context(opened(directory, root))
        if member.isreg():
            content = tar.extractfile(member)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(open_beneath(root, [name], flags), "wb") as file:
                shutil.copyfileobj(cast("IO[bytes]", content), file, 1 << 20)
                os.fchmod(file.fileno(), member.mode & 0o755 | 0o600)
    return True


class _Reader:
    """A readable file object over chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._buffer = chunks, bytearray()

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Archives:
    """The engine's archive endpoints.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, container: str, directory: str, archive: IO[bytes], limit: float = _LIMIT) -> None:
        """Unpack an archive into a directory of the container; owners and modes come from its headers.

        Args:
            limit: seconds.
        """
        client = await self._engine.client()
        shown = ("cp", "-", f"{container}:{directory}")
        await self._engine.call(client.api.put_archive, container, directory, archive, limit=limit, shown=shown)

    async def put_files(
        self, container: str, directory: str, files: Mapping[str, bytes], *, uid: int = 0, gid: int = 0
    ) -> None:
        """Write files by name into a directory of the container, with this owner."""
        with tar_of_bytes(files, uid, gid) as archive:
            await self.put(container, directory, archive)

    async def put_tree(self, container: str, target: str, source: Path, *, uid: int, gid: int) -> None:
        """Copy a local file or directory into the container as ``target``, with this owner.

        Raises:
            InvalidInput: the source cannot be read.
        """
        directory, _, name = target.rstrip("/").rpartition("/")
        archive = await anyio.to_thread.run_sync(tar_of_tree, source, name, uid, gid)
        with archive:
            await self.put(container, directory or "/", archive)

    async def get_files(self, container: str, path: str, destination: Path) -> list[str]:
        """Copy a file or directory from the container to ``destination``; see :func:`unpack`."""
        client = await self._engine.client()

        def fetch() -> list[str]:
            chunks, _ = client.api.get_archive(container, path)
            return unpack(chunks, destination)

        shown = ("cp", f"{container}:{path}", str(destination))
        return await self._engine.call(fetch, limit=_LIMIT, shown=shown)

    async def stat(self, container: str, path: str) -> PathInfo | None:
        """What is at a path; None: nothing."""
        client = await self._engine.client()

        def ask() -> Any:
            answer = client.api.head(
                client.api._url("/containers/{0}/archive", container), params={"path": path}, timeout=client.api.timeout
            )
            client.api._raise_for_status(answer)
            return json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))

        try:
            raw = await self._engine.call(ask, repeat=True)
        except ContainerNotFound:
            return None
        return PathInfo(
            str(raw.get("name", "")), int(raw.get("size") or 0), bool(int(raw.get("mode") or 0) & _GO_DIRECTORY)
        )

    async def get_file(self, container: str, path: str, largest: int, limit: float = 300.0) -> IO[bytes]:
        """Copy a file from the container into a temporary file, which the caller closes.

        Args:
            largest: most bytes; the container is not trusted.
            limit: seconds.
        """
        client = await self._engine.client()

        def fetch() -> IO[bytes]:
            chunks, _ = client.api.get_archive(container, path)
            with tempfile.TemporaryFile() as received:
                for chunk in chunks:
                    if received.tell() + len(chunk) > largest:
                        raise EngineError(f"{path} in {container} is larger than {largest} bytes")
                    received.write(chunk)
                received.seek(0)
                try:
                    with tarfile.open(fileobj=received, mode="r:") as tar:
                        member = tar.next()
                        content = tar.extractfile(member) if member is not None and member.isreg() else None
                        if content is None:
                            raise EngineError(f"{path} in {container} is not a file")
                        copy = tempfile.TemporaryFile()
                        while data := content.read(1 << 20):
                            copy.write(data)
                except tarfile.TarError as error:
                    raise EngineError(f"{path} in {container} cannot be read: {error}") from error
            copy.seek(0)
            return copy

        return await self._engine.call(fetch, limit=limit)
