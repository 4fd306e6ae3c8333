"""The contract of a channel: bytes both ways, with the four end-states of anyio's streams.

* :class:`anyio.EndOfStream`: the peer has finished.
* :class:`anyio.ClosedResourceError`: we have closed it.
* :class:`anyio.BrokenResourceError`: it is torn; nothing more can be said over it.
* :class:`anyio.BusyResourceError`: two tasks at once in the same direction, a caller's mistake.

``cc_bridge.testing.channel_contract`` checks an implementation against all of it.
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

    @abc.abstractmethod
    async def send(self, data: bytes) -> None:
        """Write all of ``data``, waiting as long as the peer is slow.

        After a cancellation part of it may have been written, and a torn frame cannot be mended: the
        channel is broken from then on, and every later call raises.

        Raises:
            anyio.BrokenResourceError: the peer has gone.
            anyio.ClosedResourceError: closed by us.
            anyio.BusyResourceError: another task is sending.
        """

    @abc.abstractmethod
    async def receive(self) -> bytes:
        """At least one byte, at most 64 KiB. A cancelled call has taken nothing.

        Raises:
            anyio.EndOfStream: the peer has finished, or has died.
            anyio.BrokenResourceError: the connection broke.
            anyio.ClosedResourceError: closed by us.
            anyio.BusyResourceError: another task is receiving.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Give everything back; harmless when repeated. Never waits for the peer."""

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
