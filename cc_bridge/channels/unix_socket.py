"""The agent's own socket, for a host beside it: where the pipes have been taken away."""

from __future__ import annotations

import socket

import anyio

from ..errors import AgentUnavailable
from .base import Channel
from .fifo import Descriptor
from .named_pipe import NobodyListens

__all__ = ["UnixSocketChannel"]


class UnixSocketChannel(Channel):
    """A connection to the socket that the agent listens on for ``attach`` and ``health``.

    Use :meth:`connect`.
    """

    kind = "socket"

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    @classmethod
    async def connect(cls, path: str, greeting: bytes) -> UnixSocketChannel:
        """Connect, and send ``greeting``.

        Raises:
            NobodyListens: known at once, nothing has been waited for.
            AgentUnavailable: it cannot be used.
        """
        with socket.socket(socket.AF_UNIX) as made:
            made.setblocking(False)
            try:
                made.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                raise NobodyListens("no agent listens on its socket") from None
            except OSError as error:  # EAGAIN: too many ask at once
                raise AgentUnavailable(f"the agent's socket cannot be used: {error.strerror} ({path})") from error
            channel = cls(Descriptor(made.detach()))
        try:
            await channel.send(greeting)
        except BaseException as error:
            await channel.aclose()
            if isinstance(error, anyio.BrokenResourceError):
                raise NobodyListens("the agent ended while it was connected to") from error
            raise
        return channel

    async def send(self, data: bytes) -> None:
        await self._descriptor.write_all(data)

    async def receive(self) -> bytes:
        data = await self._descriptor.read()
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        self._descriptor.close()
