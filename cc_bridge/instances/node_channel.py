"""A channel to another machine that is ended when that machine has gone, which the channel itself may not learn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..channels.base import Channel
from ..errors import BridgeError

__all__ = ["NodeChannel"]

#: Seconds without a byte after which somebody is asked whether the machine is there.
_QUIET = 5.0

#: How a channel says that nothing more comes.
_ENDS = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.BusyResourceError, BridgeError)


class NodeChannel(Channel):
    """A channel that breaks when its machine has gone: one that loses its power closes no connection.

    Nobody is asked as long as something comes, and nothing runs but while somebody receives.

    Args:
        quiet: seconds without a byte after which somebody is asked.
        until_gone: returns when the machine has gone, as far as anybody knows; at once where it had gone before.
    """

    def __init__(self, channel: Channel, until_gone: Callable[[], Awaitable[object]], *, quiet: float = _QUIET) -> None:
        self._quiet = quiet
        self._channel = channel
        self._until_gone = until_gone
        self.kind = channel.kind

    @property
    def has_ended(self) -> bool:
        """See :class:`~cc_bridge.channels.base.Channel`."""
        return self._channel.has_ended

    async def send(self, data: bytes) -> None:
        """See :class:`~cc_bridge.channels.base.Channel`."""
        await self._channel.send(data)

    async def receive(self) -> bytes:
        """See :class:`~cc_bridge.channels.base.Channel`; it breaks when the machine has gone."""
        with anyio.move_on_after(self._quiet):
            return await self._channel.receive()
        received: list[bytes] = []
        failed: list[BaseException] = []
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await self._until_gone()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                received.append(await self._channel.receive())
            except _ENDS as error:  # handed out by hand: the group would wrap it
                failed.append(error)
            group.cancel_scope.cancel()
        if failed:
            raise failed[0]
        if not received:
            raise anyio.BrokenResourceError
        return received[0]

    async def aclose(self) -> None:
        """See :class:`~cc_bridge.channels.base.Channel`."""
        await self._channel.aclose()
