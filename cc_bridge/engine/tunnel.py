"""A tunnel to an engine on another machine: its socket, forwarded by openssh."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import anyio
import anyio.abc

from ..errors import EngineUnavailable
from .address import ssh_command

__all__ = ["Tunnel"]


class Tunnel:
    """A local socket that ssh forwards to an engine's. Use :meth:`open`.

    ssh exits with this process, even when it is killed, because its stdin is then closed.

    Attributes:
        socket: the local socket's path.
    """

    def __init__(
        self, process: anyio.abc.Process, directory: tempfile.TemporaryDirectory[str], errors: IO[bytes]
    ) -> None:
        self._process = process
        self._directory = directory
        self._errors = errors
        self.socket = _socket_in(directory)

    @classmethod
    async def open(cls, url: str, limit: float) -> Tunnel:
        """Start ssh and wait until the socket is forwarded.

        Args:
            url: see :func:`~cc_bridge.engine.address.ssh_command`.
            limit: seconds.

        Raises:
            EngineUnavailable: with ssh's error output.
        """
        directory = tempfile.TemporaryDirectory(prefix="cc-bridge-ssh-")
        errors = tempfile.TemporaryFile()  # a file, because a full pipe that nobody reads would block ssh
        try:
            process = await anyio.open_process(ssh_command(url, _socket_in(directory)), stderr=errors)
        except OSError as error:
            directory.cleanup()
            errors.close()
            raise EngineUnavailable(f"{url}: ssh cannot be run: {error.strerror}") from error
        tunnel = cls(process, directory, errors)
        try:
            await tunnel._wait(url, limit)
        except BaseException:  # also on cancellation: nobody else has the process
            await tunnel.aclose()
            raise
        return tunnel

    async def _wait(self, url: str, limit: float) -> None:
        assert self._process.stdout is not None
        said = b""
        with anyio.move_on_after(limit), suppress(anyio.EndOfStream):
            while b"ready\n" not in said:
                said += await self._process.stdout.receive()
            return
        self._errors.seek(0)
        said = self._errors.read(4096)
        why = said.decode("utf-8", "replace").strip() or "it said nothing"
        hint = "Does `ssh` with the same address work without a question, and is there an engine's socket?"
        raise EngineUnavailable(f"no engine answers at {url}: {why}", hint=hint)

    @property
    def has_ended(self) -> bool:
        """Whether ssh has exited, so that requests fail."""
        return self._process.returncode is not None

    async def aclose(self) -> None:
        """Terminate ssh."""
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.aclose()
            self._errors.close()
            self._directory.cleanup()


def _socket_in(directory: tempfile.TemporaryDirectory[str]) -> str:
    return str(Path(directory.name, "engine.sock"))
