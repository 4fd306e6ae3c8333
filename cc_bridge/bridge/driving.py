"""Whether this program may send commands and start Claude Code, where it needs a lease for that."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio

from ..errors import BridgeError, LeaseLost
from ..protocol.conversation import Conversation
from .connection import Connection
from .surroundings import DrivingLease
from .uplink import Uplink

__all__ = ["Driving"]

#: How often somebody may be quicker than this program between its taking of the lease and its first words.
_TRIES = 10


class Driving:
    """Says when the lease is needed, and holds back what needs it.

    Who only reads on needs none: a turn that the agent has accepted runs to its end whoever drives by then, and its
    permissions have to be decided meanwhile. So nothing is waited for that would be in the way of reading.

    Args:
        lease: None: anybody may drive.
    """

    def __init__(self, lease: DrivingLease | None, conversation: Conversation, uplink: Uplink) -> None:
        self._lease, self._uplink = lease, uplink
        self._turns, self._delivery = conversation.turns, conversation.delivery

    @property
    def is_free(self) -> bool:
        """Nobody needs a lease."""
        return self._lease is None

    @property
    def fence(self) -> int | None:
        """Of the lease, while it is held."""
        return self._lease.fence if self._lease is not None else None

    @property
    def _may_send(self) -> bool:
        link = self._uplink.link
        return self.is_free or (link is not None and link.fence is not None and link.fence == self.fence)

    @property
    def is_lacking(self) -> bool:
        """Something is to be sent, and may not be."""
        may_send = self._may_send and not self._delivery.held_back  # given up, and held by somebody else here
        return not may_send and self._delivery.has_unsent and not self._turns.accepted

    def begins(self, *, whoever_waits: bool) -> bool:
        """What is lacking now needs the lease: a connection to send something over, or Claude Code."""
        if self._lease is None:
            return False
        if whoever_waits or self._uplink.connection is not None:
            return True
        return self._delivery.has_unsent and not self._turns.accepted

    async def insist(self, get_ready: Callable[[], Awaitable[None]]) -> None:
        """Get ready, and again where another program has taken the lease meanwhile.

        Raises:
            LeaseLost: that happens again and again, or an agent says so.
        """
        for _ in range(_TRIES - 1):
            try:
                return await get_ready()
            except LeaseLost as error:
                await self._uplink.disconnect()
                self.lost(error)
        return await get_ready()

    async def begun(self) -> None:
        """The lease is held. A connection with another fence is given up."""
        if self._uplink.connection is not None and not self._may_send:
            await self._uplink.disconnect()
        elif self._uplink.connection is not None:
            self._delivery.let_go(anyio.current_time())

    async def connected(self, connection: Connection) -> None:
        """Before the hello is looked at: only who holds the lease, also after the agent has heard so, may send.

        Raises: as :meth:`DrivingLease.confirm`.
        """
        if self._lease is None:
            return
        if connection.link.fence is not None:
            await self._lease.confirm()
            self._delivery.held_back = False
        else:
            self._delivery.hold_back()

    @property
    def renew_at(self) -> float:
        """When :meth:`renew` is to be called."""
        return self._lease.renew_at if self._lease is not None else math.inf

    async def renew(self) -> bool:
        """Renew the lease, if it is time; False: something is to be sent, and others may drive by now."""
        if self._lease is not None and self.renew_at <= anyio.current_time() and not await self._lease.renew():
            self._delivery.hold_back()
        return not self.is_lacking

    def lost(self, error: BridgeError) -> None:
        """A connection was lost."""
        if self._lease is not None and isinstance(error, LeaseLost):
            self._lease.overtaken()
            self._delivery.hold_back()

    async def rest(self) -> None:
        """Let others drive, if nothing of ours is under way."""
        if self._lease is not None and self._lease.fence is not None and not self._delivery.is_under_way:
            self._delivery.hold_back()
            await self._lease.give_up()
            if self.is_lacking:  # it was begun meanwhile, and whoever receives has seen the lease held
                self._uplink.set_deadline(-math.inf)
