"""What a person does to an instance's container by hand: look into it, run something in it, copy files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import anyio.to_thread

from ..engine.archives import Archives, tar_of_tar, tar_of_tree
from ..engine.client import Engine
from ..engine.containers import Containers
from ..engine.execs import Attached, ExecResult, Execs, Exit
from ..engine.streams import Chunk
from ..engine.usage import Usage
from ..errors import ContainerNotFound, EngineError, InvalidInput

__all__ = ["ContainerTools"]

#: A login shell where there is a comfortable one, else any.
_SHELL = ["sh", "-c", "command -v bash >/dev/null && exec bash -l; exec sh -l"]


class ContainerTools:
    """By hand, in the container of one instance; :attr:`DockerContainer.tools` has it.

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
        """Run a command; output as it comes, and at last how it ended."""
        return self._execs.stream(self.container, argv, user=user)

    async def attach(self, argv: Sequence[str], *, user: str = "", tty: bool = False, term: str = "") -> Attached:
        """Run a command, connected to its stdin and its output, with a terminal or without."""
        environment = {"TERM": term} if tty and term else {}
        return await self._execs.attach(
            self.container, argv or _SHELL, user=user, tty=tty, environment=environment, stdin=True
        )

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Tell a command's terminal its size."""
        await self._execs.resize(exec_id, rows, columns)

    async def exit_code(self, exec_id: str) -> int | None:
        """A command's exit code; None while it runs."""
        return await self._execs.exit_code(exec_id)

    async def usage(self) -> Usage:
        """What the container uses, measured over a second or so."""
        return await self._containers.usage(self.container)

    def logs(
        self, *, follow: bool = False, tail: int | None = None, since: float = 0, timestamps: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """Its output; with ``follow`` also what it writes until it ends.

        Args:
            tail: lines to begin with; None: all that the engine has kept.
            since: seconds since 1970.
        """
        return self._containers.logs(self.container, follow=follow, tail=tail, since=since, timestamps=timestamps)

    async def copy_in(self, source: Path, target: str) -> str:
        """Copy a file or directory into the container, owned by its user; what it has become.

        As ``cp`` does: into ``target`` where that is a directory, else as ``target``.

        Raises:
            InvalidInput: the source cannot be read, or the place in the container cannot be written.
        """
        if not source.exists():
            raise InvalidInput(f"{source} does not exist")
        there = await self._archives.stat(self.container, target)
        path = PurePosixPath(target, source.resolve().name) if there and there.is_directory else PurePosixPath(target)
        if not path.is_absolute():
            raise InvalidInput(f"{target!r}: the path in the container must be absolute")
        archive = await anyio.to_thread.run_sync(tar_of_tree, source, path.name, *self._owner)
        with archive:
            try:
                await self._archives.put(self.container, str(path.parent), archive)
            except ContainerNotFound as error:
                raise InvalidInput(f"{path.parent} in {self.container}: {error.what}") from error
            except EngineError as error:
                if "read-only" not in error.what:
                    raise
                hint = "Its root file system is read-only: copy to the workspace or to /home/cc-bridge."
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
        with await anyio.to_thread.run_sync(tar_of_tar, archive, *self._owner) as owned:
            try:
                await self._archives.put(self.container, target, owned)
            except EngineError as error:
                if "read-only" not in error.what:
                    raise
                hint = "Its root file system is read-only: copy to the workspace or to /home/cc-bridge."
                raise InvalidInput(f"{target} in {self.container} cannot be written", hint=hint) from error

    async def copy_out(self, path: str, destination: Path) -> tuple[Path, Sequence[str]]:
        """Copy a file or directory out of the container; what it has become, and what was left out (links, devices).

        As ``cp`` does: into ``destination`` where that is a directory, else as it.

        Raises:
            InvalidInput: there is no such path, or the destination is there already or cannot be written.
        """
        there = await self._archives.stat(self.container, path)
        if there is None:
            raise InvalidInput(f"there is no {path} in {self.container}")
        target = destination / PurePosixPath(path).name if destination.is_dir() else destination
        if target.is_dir() or (there.is_directory and target.exists()):
            raise InvalidInput(f"{target} exists already", hint="Remove it first, or name another place.")
        return target, await self._archives.get_files(self.container, path, target)
