"""The contract of a channel: bytes in both directions, with the four end states of anyio's streams.

* :class:`anyio.EndOfStream`: the peer has finished.
* :class:`anyio.ClosedResourceError`: we have closed it.
* :class:`anyio.BrokenResourceError`: the connection broke; nothing more can be sent.
* :class:`anyio.BusyResourceError`: two tasks at once in one direction, a caller's error.

``cc_bridge.testing.channel_contract`` checks an implementation.
"""

from __future__ import annotations

import abc
from types import TracebackType

__all__ = ["Channel"]


class Channel(abc.ABC):
    """A connection to an agent. One task may send while another receives.

    Attributes:
        kind: what ``get_info()["channel"]`` says: ``pipes``, ``exec``, ``direct`` or ``socket``.
    """

    kind: str

    @property
    def has_ended(self) -> bool:
        """The peer has gone, as far as is known without waiting: what is sent now reaches nobody."""
        return False

    @abc.abstractmethod
    async def send(self, data: bytes) -> None:
        """Write all of ``data``; wait if the peer is slow.

        A cancelled call may have written part of a frame: the channel is then broken, and every later call raises.

        Raises:
            anyio.BrokenResourceError: the peer is gone.
            anyio.ClosedResourceError: closed by us.
            anyio.BusyResourceError: another task is sending.
        """

    @abc.abstractmethod
    async def receive(self) -> bytes:
        """At least one byte, at most 64 KiB. A cancelled call loses nothing.

        Raises:
            anyio.EndOfStream: the peer has finished, or has died.
            anyio.BrokenResourceError: the connection broke.
            anyio.ClosedResourceError: closed by us.
            anyio.BusyResourceError: another task is receiving.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Close the channel. Idempotent; never waits for the peer."""

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
