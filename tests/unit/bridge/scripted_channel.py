"""A channel that does as it is told, frame by frame."""

from __future__ import annotations

import json
from typing import Any

import anyio

from cc_bridge.channels.base import Channel

HELLO = {"hello": 1, "agent": "0.1.0", "epoch": "e", "session": "main", "journal": "j", "state": "new"}
HELLO |= {"seq": 0, "from": 1, "open": []}


class Scripted(Channel):
    """A channel that receives what it was given, then waits; and keeps what is sent."""

    kind = "scripted"

    def __init__(self, *received: Any) -> None:
        self.received = list(received)
        self.sent: list[bytes] = []
        self.closed = 0
        self.fails: type[Exception] | None = None
        self.slow = False

    async def send(self, data: bytes) -> None:
        if self.slow:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        if self.fails:
            raise self.fails
        self.sent.append(data)

    async def receive(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.received:
            await anyio.sleep_forever()
        item = self.received.pop(0)
        if isinstance(item, type):
            raise item
        return item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n"

    async def aclose(self) -> None:
        self.closed += 1


class Dials:
    """Makes the channels that it was given, one after another; an error in a channel's place is raised.

    Attributes:
        greetings: the hellos with which it was asked for one.
    """

    name = "demo"

    def __init__(self, *channels: Scripted | Exception) -> None:
        self.channels = list(channels)
        self.better: list[Scripted] = []
        self.greetings: list[dict[str, Any]] = []

    async def connect(self, greeting: bytes) -> Channel:
        await anyio.lowlevel.checkpoint()
        self.greetings.append(json.loads(greeting))
        channel = self.channels.pop(0)
        if isinstance(channel, Exception):
            raise channel
        return channel

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        if not self.better:
            return None
        self.greetings.append(json.loads(greeting))
        return self.better.pop(0)
