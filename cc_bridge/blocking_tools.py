"""What a person does to a container by hand, for threads and plain scripts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from .engine.container_tools import ContainerTools
from .engine.execs import Attached, ExecResult, Exit
from .engine.streams import Chunk
from .engine.usage import Usage
from .event_loop import Caller

__all__ = ["BlockingTools"]


class BlockingTools:
    """The blocking :class:`~cc_bridge.ContainerTools`: they do, return and raise the same."""

    def __init__(self, loop: Caller, tools: ContainerTools) -> None:
        self.container = tools.container
        self._loop = loop
        self._tools = tools

    def exec(self, argv: Sequence[str], *, user: str = "", limit: float = 60.0) -> ExecResult:
        """Run a command; its output is buffered. ``limit``: seconds."""
        return self._loop.call(partial(self._tools.exec, argv, user=user, limit=limit))

    def exec_streaming(self, argv: Sequence[str], *, user: str = "") -> Generator[Chunk | Exit, None, None]:
        """Run a command; output as it comes, and at last how it ended."""
        return self._loop.iterate(self._tools.exec_streaming(argv, user=user))

    def attach(self, argv: Sequence[str], *, user: str = "", tty: bool = False, term: str = "") -> Attached:
        """Run a command, connected to its stdin and its output, with a terminal or without."""
        return self._loop.call(partial(self._tools.attach, argv, user=user, tty=tty, term=term))

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Tell a command's terminal its size."""
        self._loop.call(self._tools.resize, exec_id, rows, columns)

    def exit_code(self, exec_id: str) -> int | None:
        """A command's exit code; None while it runs."""
        return self._loop.call(self._tools.exit_code, exec_id)

    def usage(self) -> Usage:
        """What the container uses, measured over a second or so."""
        return self._loop.call(self._tools.usage)

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float = 0,
        timestamps: bool = False,
        tty: bool = False,
    ) -> Generator[Chunk, None, None]:
        """Its output; with ``follow`` also what it writes until it ends.

        Args:
            tail: lines to begin with; None: all that the engine has kept.
            since: seconds since 1970.
            tty: it has a terminal: all of it is stdout.
        """
        output = self._tools.logs(follow=follow, tail=tail, since=since, timestamps=timestamps, tty=tty)
        return self._loop.iterate(output)

    def copy_in(self, source: Path, target: str) -> str:
        """Copy a file or directory into the container, as ``cp`` does, owned by its user; what it has become.

        Raises:
            InvalidInput: the source cannot be read, or the place in the container cannot be written.
        """
        return self._loop.call(self._tools.copy_in, source, target)

    def unpack(self, archive: IO[bytes], target: str) -> None:
        """Unpack a tar archive in a directory of the container; all of it will be its user's.

        Raises:
            InvalidInput: it is no archive, there is no such directory, or it cannot be written.
        """
        return self._loop.call(self._tools.unpack, archive, target)

    def is_directory(self, path: str) -> bool | None:
        """Whether a directory is at a path, or something else; None: nothing is."""
        return self._loop.call(self._tools.is_directory, path)

    def read_file(self, path: str, largest: int) -> IO[bytes] | None:
        """A copy of a file, which the caller closes; None: there is nothing at the path. ``largest``: most bytes.

        Raises:
            InvalidInput: it is no file, or larger.
        """
        return self._loop.call(self._tools.read_file, path, largest)

    def copy_out(self, path: str, destination: Path) -> tuple[Path, Sequence[str]]:
        """Copy a file or directory out of the container; what it has become, and what was left out (links, devices).

        Raises:
            InvalidInput: there is no such path, or the destination is there already or cannot be written.
        """
        return self._loop.call(self._tools.copy_out, path, destination)
