"""Files into a container and out of it, also where it does not run: tar archives over the engine's API."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import PurePosixPath
from typing import IO

from ..errors import EngineError
from .client import Engine

__all__ = ["Archives", "tar_of"]


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


class Archives:
    """The engine's archive endpoints.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, container: str, directory: str, archive: IO[bytes], limit: float = 300.0) -> None:
        """Unpack an archive in a directory of the container, which need not run; owners and modes are the headers'.

        Args:
            limit: seconds.
        """
        client = await self._engine.client()
        await self._engine.call(client.api.put_archive, container, directory, archive, limit=limit)

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
