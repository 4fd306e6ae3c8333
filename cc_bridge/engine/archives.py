"""Files into a container and out of it, also where it does not run: tar archives over the engine's API."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from ..errors import ContainerNotFound, EngineError, InvalidInput
from .client import Engine

__all__ = ["Archives", "PathInfo", "tar_of", "tar_of_bytes", "tar_of_directory", "tar_of_tree", "unpack"]

#: Go's bit for a directory in a file's mode (package io/fs).
_GO_DIRECTORY = 1 << 31

#: Seconds for a transfer.
_LIMIT = 3600.0


@dataclass(frozen=True)
class PathInfo:
    """What stands at a path in a container."""

    name: str
    size: int
    is_directory: bool


def tar_of(path: PurePosixPath, content: IO[bytes], uid: int, gid: int) -> IO[bytes]:
    """An archive of one file and the directories above it, all of them this user's alone; close it after use.

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
    """An archive of files by name, readable by all, in memory."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.uid, header.gid = len(data), 0o644, uid, gid
            tar.addfile(header, io.BytesIO(data))
    archive.seek(0)
    return archive


def tar_of_directory(name: str, uid: int, gid: int) -> IO[bytes]:
    """An archive of an empty directory, owned by this user."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        header = tarfile.TarInfo(name)
        header.type, header.mode, header.uid, header.gid = tarfile.DIRTYPE, 0o755, uid, gid
        tar.addfile(header)
    archive.seek(0)
    return archive


def tar_of_tree(source: Path, name: str, uid: int, gid: int) -> IO[bytes]:
    """An archive of a file or a directory under a name, owned by this user; close it after use.

    Raises:
        InvalidInput: it cannot be read.
    """

    def owned(header: tarfile.TarInfo) -> tarfile.TarInfo | None:
        header.uid, header.gid, header.uname, header.gname = uid, gid, "", ""
        return header if header.isreg() or header.isdir() or header.issym() else None

    archive = tempfile.TemporaryFile()
    try:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(source, arcname=name, filter=owned)
    except OSError as error:
        archive.close()
        raise InvalidInput(f"{error.filename or source} cannot be read: {error.strerror}") from error
    archive.seek(0)
    return archive


def unpack(chunks: Iterable[bytes], destination: Path) -> list[str]:
    """Unpack what comes out of a container, which nobody trusts: files and directories only, and only below here.

    Args:
        destination: what the archive's one top entry becomes: the file or directory itself. It must not be there.

    Returns:
        Names of entries that were left out: links, devices and the like.

    Raises:
        EngineError: this is no archive.
        InvalidInput: the destination cannot be written.
    """
    left_out = []
    try:
        # Into a new directory, in which there are no links to be followed, and then into its place.
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name[:50]}.") as scratch:
            top = Path(scratch, "content")
            with tarfile.open(fileobj=cast("IO[bytes]", _Reader(iter(chunks))), mode="r|") as tar:
                for member in tar:
                    parts = PurePosixPath(member.name).parts
                    target = top.joinpath(*parts[1:])
                    if not parts or ".." in parts or parts[0] == "/":
                        left_out.append(member.name)
                    elif member.isdir():
                        target.mkdir(parents=True, exist_ok=True)
                    elif member.isreg() and (content := tar.extractfile(member)) is not None:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with target.open("xb") as file:
                            shutil.copyfileobj(content, file, 1 << 20)
                        target.chmod(member.mode & 0o755 | 0o600)
                    else:
                        left_out.append(member.name)
            if top.exists():
                os.rename(top, destination)
    except (tarfile.TarError, FileExistsError) as error:
        raise EngineError(f"what came out of the container is no proper archive: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{error.filename or destination} cannot be written: {error.strerror}") from error
    return left_out


class _Reader:
    """Chunks as a file to be read."""

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
        """Unpack an archive in a directory of the container, which need not run; owners and modes are the headers'.

        Args:
            limit: seconds.
        """
        client = await self._engine.client()
        shown = ("cp", "-", f"{container}:{directory}")
        await self._engine.call(client.api.put_archive, container, directory, archive, limit=limit, shown=shown)

    async def put_files(
        self, container: str, directory: str, files: Mapping[str, bytes], *, uid: int = 0, gid: int = 0
    ) -> None:
        """Files by name into a directory of the container, owned by this user."""
        with tar_of_bytes(files, uid, gid) as archive:
            await self.put(container, directory, archive)

    async def get_files(self, container: str, path: str, destination: Path) -> list[str]:
        """Copy a file or directory of the container's to ``destination``; see :func:`unpack`."""
        client = await self._engine.client()

        def fetch() -> list[str]:
            chunks, _ = client.api.get_archive(container, path)
            return unpack(chunks, destination)

        shown = ("cp", f"{container}:{path}", str(destination))
        return await self._engine.call(fetch, limit=_LIMIT, shown=shown)

    async def stat(self, container: str, path: str) -> PathInfo | None:
        """What stands at a path; None: nothing."""
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
        """A file of the container's, as a temporary one; close it after use.

        Args:
            largest: bytes; what comes out of a container is not trusted.
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
