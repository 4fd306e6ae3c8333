"""Commands in a running container: run to completion, streamed, or attached."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio

from ..errors import EngineTimeout, LimitReached
from ..values import Value
from .client import Engine
from .streams import Chunk, Demultiplexer, raw_socket, read_chunks

__all__ = ["LARGEST", "Attached", "ExecResult", "Execs", "Exit"]

#: Bytes of output that are collected in memory.
LARGEST = 64 * 1024 * 1024


class ExecResult(Value):
    """A command's exit code and output."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Exit(Value):
    """The end of a command's output. ``oom_killed``: its container's memory limit was reached."""

    exit_code: int
    oom_killed: bool = False


class Attached(Value):
    """A running command: its exec id, a non-blocking socket, which the caller closes, and bytes read already."""

    id: str
    fd: int
    early: bytes


class Execs:
    """Commands in containers.

    Raises, from every method:
        EngineError: of the kind that fits; ContainerNotRunning among them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(
        self, container: str, argv: Sequence[str], *, user: str = "", limit: float = 30.0, largest: int = LARGEST
    ) -> ExecResult:
        """Run to completion.

        Args:
            limit: seconds.
            largest: most bytes of output; the container is not trusted.

        Raises:
            EngineTimeout: it has not ended by then; it keeps running.
            LimitReached: it wrote more than ``largest``.
        """
        said, code, room = {1: bytearray(), 2: bytearray()}, -1, largest
        try:
            with anyio.fail_after(limit):
                async with aclosing(self.stream(container, argv, user=user)) as output:
                    async for item in output:
                        if isinstance(item, Exit):
                            code = item.exit_code
                        else:
                            room -= len(item.data)
                            if room < 0:
                                what = f"a command in {container} has written more than {largest} bytes"
                                raise LimitReached(what, hint="Stream its output instead of collecting it.")
                            said[item.stream] += item.data
        except TimeoutError:
            raise EngineTimeout(f"a command in {container} did not end within {limit:g} s") from None
        return ExecResult(code, bytes(said[1]), bytes(said[2]))

    async def stream(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str = "",
        environment: Mapping[str, str] | None = None,
        workdir: str | None = None,
    ) -> AsyncGenerator[Chunk | Exit, None]:
        """Output as it arrives, then an Exit. A slow reader slows the command; leaving early does not end it."""
        attached = await self.attach(container, argv, user=user, environment=environment, workdir=workdir, stdin=False)
        try:
            async with aclosing(read_chunks(attached.fd, attached.early, Demultiplexer())) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            os.close(attached.fd)
        code = await self.exit_code(attached.id)
        yield Exit(-1 if code is None else code)

    async def attach(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str = "",
        environment: Mapping[str, str] | None = None,
        workdir: str | None = None,
        tty: bool = False,
        stdin: bool = True,
    ) -> Attached:
        """Start a command and connect to it. Put secrets into ``environment``, which no listing shows."""
        client = await self._engine.client()
        options = {
            "stdin": stdin,
            "tty": tty,
            "user": user,
            "environment": dict(environment or {}),
            "workdir": workdir,
        }
        self._log(container, argv, stdin=stdin, tty=tty, user=user, names=tuple(environment or ()), workdir=workdir)
        return await self._engine.call(_attach, client.api, container, list(argv), options)

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set the size of a command's terminal."""
        client = await self._engine.client()
        await self._engine.call(client.api.exec_resize, exec_id, height=rows, width=columns)

    async def exit_code(self, exec_id: str) -> int | None:
        """The exit code; None while it runs."""
        client = await self._engine.client()
        code = (await self._engine.call(client.api.exec_inspect, exec_id, repeat=True)).get("ExitCode")
        return None if code is None else int(code)

    def _log(
        self,
        container: str,
        argv: Sequence[str],
        *,
        stdin: bool = False,
        tty: bool = False,
        user: str = "",
        names: Sequence[str] = (),
        workdir: str | None = None,
    ) -> None:
        words = ["exec", *(["-i"] if stdin else []), *(["-t"] if tty else []), *(["-u", user] if user else [])]
        words += ["-w", workdir] if workdir else []
        # Names only: values may be secrets, and `docker exec -e NAME` takes them from its environment.
        words += [word for name in names for word in ("-e", name)]
        self._engine.log_command(*words, container, *argv)


def _attach(api: Any, container: str, argv: list[str], options: Mapping[str, Any]) -> Attached:
    created = api.exec_create(container, argv, **options)
    stream = api.exec_start(created["Id"], tty=options["tty"], socket=True)
    return Attached(created["Id"], *raw_socket(stream))
