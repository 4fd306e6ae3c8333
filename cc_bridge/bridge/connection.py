"""One connection to an agent: a link over a channel, from the hello to the end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Self

import anyio

from ..channels.base import Channel
from ..errors import AgentUnavailable, ConnectionLost, LeaseLost, ProtocolError
from ..protocol.link import AgentRefused, Hello, Link, LinkEvent, Violated
from .this_program import this_program

__all__ = ["Connection", "FramesGone", "this_program"]

#: Seconds for the agent's hello, and for a write that the agent does not read.
_HELLO_LIMIT = 10.0
_SEND_LIMIT = 60.0


class FramesGone(ConnectionLost):
    """The frames with which the connection was to begin are not kept at the other end."""


class Connection:
    """What was opened by :meth:`open`, and has to be closed.

    Attributes:
        hello: the agent's.
        early: the events that came with it; they are not received again.
    """

    def __init__(self, link: Link, channel: Channel, instance: str, hello: Hello, early: list[LinkEvent]) -> None:
        self.link = link
        self.channel = channel
        self.hello = hello
        self.early = early
        self._instance = instance
        self._receiving: anyio.CancelScope | None = None

    @classmethod
    async def open(cls, link: Link, connect: Callable[[bytes], Awaitable[Channel]], instance: str) -> Self:
        """Connect and exchange hellos.

        Args:
            connect: makes a channel over which the bytes that it is given have been sent.
            instance: its name, for errors.

        Raises: as :meth:`welcome`, and as ``connect``.
        """
        link.greet()
        return await cls.welcome(link, await connect(link.data_to_send()), instance)

    @classmethod
    async def welcome(cls, link: Link, channel: Channel, instance: str) -> Self:
        """Read the agent's hello; ours was sent. On any failure the channel is closed.

        Raises:
            AgentUnavailable: there is none in time.
            FramesGone, LeaseLost, ConnectionLost, ProtocolError: as they say.
        """
        try:
            with anyio.fail_after(_HELLO_LIMIT):
                link_events: list[LinkEvent] = []
                while not link_events:
                    link_events = link.receive_data(await channel.receive())
            match link_events:
                case [Hello() as hello, *early]:
                    return cls(link, channel, instance, hello, early)
                case [AgentRefused("gone", message), *_]:
                    raise FramesGone(message, instance=instance)
                case [AgentRefused("fence", message), *_]:
                    raise LeaseLost(f"the agent: {message}", instance=instance)
                case [AgentRefused(_, message) | Violated(message), *_]:
                    raise ProtocolError(message, instance=instance)
            raise ProtocolError("the agent did not begin with a hello", instance=instance)
        except BaseException as error:
            await channel.aclose()
            if isinstance(error, TimeoutError):
                raise AgentUnavailable("the agent did not say hello in time", instance=instance) from None
            if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError):
                raise ConnectionLost("the agent went away before its hello", instance=instance) from error
            raise

    async def receive(self, deadline: float = math.inf) -> list[LinkEvent] | None:
        """The events in what comes next, perhaps none; None: the deadline has passed.

        Raises:
            ConnectionLost: nothing more will come.
        """
        try:
            with anyio.CancelScope(deadline=deadline) as self._receiving:
                data = await self.channel.receive()
                self.link.acknowledge_at_times()
                return self.link.receive_data(data)
        except anyio.EndOfStream:
            raise ConnectionLost("the agent closed the connection, or ended", instance=self._instance) from None
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ConnectionLost("the connection to the agent broke", instance=self._instance) from error
        finally:
            self._receiving = None
        return None

    def set_deadline(self, deadline: float) -> None:
        """An earlier deadline for whoever receives now; a later one is not for others to give."""
        if self._receiving is not None:
            self._receiving.deadline = min(self._receiving.deadline, deadline)

    async def write(self, *, shield: bool = True) -> None:
        """Send what the link has to say.

        Args:
            shield: finish also where the caller is cancelled, because a frame that a cancellation tears costs the
                connection, and with it the turn. False: for a connection that is closed after a cancellation.

        Raises:
            ConnectionLost: it cannot be sent.
        """
        data = self.link.data_to_send()
        if not data:
            return
        with anyio.CancelScope(shield=shield):
            try:
                with anyio.fail_after(_SEND_LIMIT):
                    await self.channel.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError) as error:
                raise ConnectionLost("the connection to the agent broke", instance=self._instance) from error

    async def aclose(self) -> None:
        """Close the channel."""
        await self.channel.aclose()
