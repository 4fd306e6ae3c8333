"""Manual work in one container: run commands, read logs, copy files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import anyio.to_thread

from ..errors import ContainerNotFound, EngineError, InvalidInput
from .archives import Archives, tar_of_tar
from .client import Engine
from .container_spec import CONTAINER_HOME
from .containers import Containers
from .execs import Attached, ExecResult, Execs, Exit
from .streams import Chunk
from .usage import Usage

__all__ = ["ContainerTools"]

#: A login shell: bash if it is installed, else sh.
_SHELL = ["sh", "-c", "command -v bash >/dev/null && exec bash -l; exec sh -l"]


class ContainerTools:
    """Manual work in one container; :attr:`DockerContainer.tools` has it for an instance's.

    Raises, from every method:
        EngineError: of the kind that fits; ContainerNotFound and ContainerNotRunning among them.
    """

    def __init__(self, engine: Engine, container: str, owner: tuple[int, int]) -> None:
        self.container = container
        self._owner = owner
        self._containers = Containers(engine)
        self._execs = Execs(engine)
        self._archives = Archives(engine)

    async def exec(self, argv: Sequence[str], *, user: str = "", limit: float = 60.0) -> ExecResult:
        """Run a command; its output is buffered."""
        return await self._execs.run(self.container, argv, user=user, limit=limit)

    def exec_streaming(self, argv: Sequence[str], *, user: str = "") -> AsyncGenerator[Chunk | Exit, None]:
        """Run a command; its output as it arrives, then an Exit."""
        return self._execs.stream(self.container, argv, user=user)

    async def attach(self, argv: Sequence[str], *, user: str = "", tty: bool = False, term: str = "") -> Attached:
        """Run a command and attach to its stdin and output, with or without a terminal."""
        environment = {"TERM": term} if tty and term else {}
        return await self._execs.attach(
            self.container, argv or _SHELL, user=user, tty=tty, environment=environment, stdin=True
        )

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set the size of a command's terminal."""
        await self._execs.resize(exec_id, rows, columns)

    async def exit_code(self, exec_id: str) -> int | None:
        """A command's exit code; None while it runs."""
        return await self._execs.exit_code(exec_id)

    async def usage(self) -> Usage:
        """Its resource usage, measured over about a second."""
        return await self._containers.usage(self.container)

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float = 0,
        timestamps: bool = False,
        tty: bool = False,
    ) -> AsyncGenerator[Chunk, None]:
        """Its output; see :meth:`~cc_bridge.engine.containers.Containers.logs`."""
        return self._containers.logs(
            self.container, follow=follow, tail=tail, since=since, timestamps=timestamps, tty=tty
        )

    async def copy_in(self, source: Path, target: str) -> str:
        """Copy a file or directory into the container, owned by its user; return its path there.

        As with ``cp``: into ``target`` if that is a directory, otherwise as ``target``.

        Raises:
            InvalidInput: the source cannot be read, or the target cannot be written.
        """
        if not source.exists():
            raise InvalidInput(f"{source} does not exist")
        there = await self._archives.stat(self.container, target)
        path = PurePosixPath(target, source.resolve().name) if there and there.is_directory else PurePosixPath(target)
        if not path.is_absolute():
            raise InvalidInput(f"{target!r}: the path in the container must be absolute")
        uid, gid = self._owner
        try:
            await self._archives.put_tree(self.container, str(path), source, uid=uid, gid=gid)
        except ContainerNotFound as error:
            raise InvalidInput(f"{path.parent} in {self.container}: {error.what}") from error
        except EngineError as error:
            if "read-only" not in error.what:
                raise
            hint = f"Its root file system is read-only: copy to the workspace or to {CONTAINER_HOME}."
            raise InvalidInput(f"{path} in {self.container} cannot be written", hint=hint) from error
        return str(path)

    async def unpack(self, archive: IO[bytes], target: str) -> None:
        """Unpack a tar archive in a directory of the container; all of it will be its user's.

        Raises:
            InvalidInput: it is no archive, there is no such directory, or it cannot be written.
        """
        there = await self._archives.stat(self.container, target)
        if there is None or not there.is_directory:
            raise InvalidInput(f"{target} in {self.container} is no directory")
        # Abandoned, because it may be a stdin on which nothing comes.
        with await anyio.to_thread.run_sync(tar_of_tar, archive, *self._owner, abandon_on_cancel=True) as owned:
            try:
                await self._archives.put(self.container, target, owned)
            except EngineError as error:
                if "read-only" not in error.what:
                    raise
                hint = f"Its root file system is read-only: copy to the workspace or to {CONTAINER_HOME}."
                raise InvalidInput(f"{target} in {self.container} cannot be written", hint=hint) from error

    async def is_directory(self, path: str) -> bool | None:
        """Whether a directory is at a path, or something else; None: nothing is."""
        there = await self._archives.stat(self.container, path)
        return None if there is None else there.is_directory

    async def read_file(self, path: str, largest: int) -> IO[bytes] | None:
        """A copy of a file, which the caller closes; None: there is nothing at the path.

        Args:
            largest: most bytes; the container is not trusted.

        Raises:
            InvalidInput: it is no file, or larger.
        """
        there = await self._archives.stat(self.container, path)
        if there is None:
            return None
        if there.is_directory:
            raise InvalidInput(f"{path} in {self.container} is a directory")
        if there.size > largest:
            raise InvalidInput(f"{path} in {self.container} is larger than {largest} bytes")
        return await self._archives.get_file(self.container, path, largest)

    async def copy_out(self, path: str, destination: Path) -> tuple[Path, Sequence[str]]:
        """Copy a file or directory out of the container; return its path, and what was skipped (links, devices).

        As with ``cp``: into ``destination`` if that is a directory, otherwise as ``destination``.

        Raises:
            InvalidInput: the path does not exist, or the destination exists or cannot be written.
        """
        there = await self._archives.stat(self.container, path)
        if there is None:
            raise InvalidInput(f"there is no {path} in {self.container}")
        target = destination / PurePosixPath(path).name if destination.is_dir() else destination
        if target.is_dir() or (there.is_directory and target.exists()):
            raise InvalidInput(f"{target} exists already", hint="Remove it first, or name another place.")
        return target, await self._archives.get_files(self.container, path, target)
