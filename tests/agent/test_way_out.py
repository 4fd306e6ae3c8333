"""The way out: what connects to the agent's port is a stream of the proxy's, over pipes and over its socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import ByteStream

from cc_bridge.channels.base import Channel
from cc_bridge.channels.named_pipe import NamedPipeChannel
from cc_bridge.channels.unix_socket import UnixSocketChannel
from cc_bridge.logs import Log
from cc_bridge.proxy.way_out import WayOut

from .conftest import Agent

MakeAgent = Callable[..., Agent]
Handler = Callable[[ByteStream], Awaitable[None]]

WAYS = ("pipes", "socket")


class Place:
    """The two ways to an agent of these tests."""

    name = "test"

    def __init__(self, agent: Agent, way: str) -> None:
        self._agent = agent
        self._way = way

    async def way_to_look(self, greeting: bytes) -> Channel:
        if self._way == "socket":
            return await UnixSocketChannel.connect(self._agent.socket_path, greeting)
        return await self.pipes(greeting)

    async def pipes(self, greeting: bytes) -> NamedPipeChannel:
        return await NamedPipeChannel.connect(str(self._agent.directory / "pipes"), greeting)


def port_of(agent: Agent) -> int:
    frames = agent.connect("egress")
    frames.close()
    port = frames.hello["port"]
    assert isinstance(port, int)
    return port


@asynccontextmanager
async def proxy(agent: Agent, way: str, handle: Handler) -> AsyncIterator[int]:
    """A proxy is attached within the block; the port."""
    port, attached = port_of(agent), anyio.Event()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(WayOut(Place(agent, way), Log("test", "process")).serve, handle, attached.set)
            await attached.wait()
            yield port
            group.cancel_scope.cancel()


async def echo(stream: ByteStream) -> None:
    """Say all again, and end when the other end has."""
    with suppress(anyio.EndOfStream):
        while True:
            await stream.send(await stream.receive())
    await stream.send_eof()


async def ask(port: int, data: bytes) -> bytes:
    """Send all, end, and read all."""
    said = bytearray()
    async with await anyio.connect_tcp("127.0.0.1", port) as connection:

        async def send() -> None:
            await connection.send(data)
            await connection.send_eof()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            with suppress(anyio.EndOfStream):
                while True:
                    said += await connection.receive()
    return bytes(said)


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_bytes_go_both_ways_and_each_way_ends_by_itself(make_agent: MakeAgent, way: str) -> None:
    agent = make_agent("--egress", "0")
    data = os.urandom(3_000_000)
    async with proxy(agent, way, echo) as port:
        assert await ask(port, data) == data
        assert await ask(port, b"") == b""
