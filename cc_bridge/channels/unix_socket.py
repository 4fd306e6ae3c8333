"""A channel over the agent's own socket, for local instances whose pipes were removed."""

from __future__ import annotations

import os
import socket
import struct

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
            NobodyListens: raised at once, without waiting.
            AgentUnavailable: it cannot be used, or another user listens there. Nothing was sent.
        """
        with socket.socket(socket.AF_UNIX) as made:
            made.setblocking(False)
            try:
                made.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                raise NobodyListens("no agent listens on its socket") from None
            except OSError as error:  # EAGAIN: its backlog is full
                raise AgentUnavailable(f"the agent's socket cannot be used: {error.strerror} ({path})") from error
            _check_peer(made, path)
            channel = cls(Descriptor(made.detach()))
        try:
            await channel.send(greeting)
        except BaseException as error:
            await channel.aclose()
            if isinstance(error, anyio.BrokenResourceError):
                raise NobodyListens("the agent ended while it was connected to") from error
            raise
        return channel

    @property
    def has_ended(self) -> bool:
        """See :class:`~cc_bridge.channels.base.Channel`."""
        return self._descriptor.has_hung_up()

    async def send(self, data: bytes) -> None:
        """Write to the agent's socket; a cancelled call may have written a part, which breaks the channel."""
        await self._descriptor.write_all(data)

    async def receive(self) -> bytes:
        """Read from the agent's socket; a cancelled call loses nothing."""
        data = await self._descriptor.read()
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        """Close the socket; the agent sees end of file at once."""
        self._descriptor.close()


def _check_peer(connection: socket.socket, path: str) -> None:
    """Make sure that this user's own process listens, before a secret is sent (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if user != os.geteuid():
        raise AgentUnavailable(f"user {user} listens on the agent's socket, not this one ({path})")
