"""Commands in a running container: run to the end, or attached to their stdin and stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .client import Engine
from .streams import raw_socket

__all__ = ["Attached", "ExecResult", "Execs"]


@dataclass(frozen=True)
class ExecResult:
    """A command that has ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Attached:
    """A running command: its exec id, a non-blocking socket that is the holder's to close, and what came early."""

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

    async def run(self, container: str, argv: Sequence[str], *, user: str = "", limit: float = 30.0) -> ExecResult:
        """Run to the end, within ``limit`` seconds."""
        client = await self._engine.client()
        return await self._engine.call(_run, client.api, container, list(argv), user, limit=limit)

    async def attach(
        self,
        container: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        workdir: str | None = None,
    ) -> Attached:
        """Start a command and connect to it. Secrets belong into ``environment``, which no listing shows."""
        client = await self._engine.client()
        return await self._engine.call(_attach, client.api, container, list(argv), dict(environment or {}), workdir)

    async def exit_code(self, exec_id: str) -> int | None:
        """The exit code; None while it runs."""
        client = await self._engine.client()
        code = (await self._engine.call(client.api.exec_inspect, exec_id)).get("ExitCode")
        return None if code is None else int(code)


def _run(api: Any, container: str, argv: list[str], user: str) -> ExecResult:
    created = api.exec_create(container, argv, user=user)
    stdout, stderr = api.exec_start(created["Id"], demux=True)
    code = api.exec_inspect(created["Id"])["ExitCode"]
    return ExecResult(-1 if code is None else int(code), stdout or b"", stderr or b"")


def _attach(api: Any, container: str, argv: list[str], environment: dict[str, str], workdir: str | None) -> Attached:
    created = api.exec_create(container, argv, stdin=True, environment=environment, workdir=workdir)
    stream = api.exec_start(created["Id"], socket=True)
    return Attached(created["Id"], *raw_socket(stream))
