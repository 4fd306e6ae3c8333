"""The agent's own socket: who is not there is known at once, and what was opened is given back. covers: B3"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cc_bridge.channels.named_pipe import NobodyListens
from cc_bridge.channels.unix_socket import UnixSocketChannel
from cc_bridge.errors import AgentUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "agent.sock"))
        made.listen(1)
        yield made


async def test_the_greeting_goes_first_and_bytes_go_both_ways(server: socket.socket) -> None:
    async with await UnixSocketChannel.connect(server.getsockname(), b"hello\n") as channel:
        assert channel.kind == "socket"
        theirs, _ = server.accept()
        with theirs:
            assert theirs.recv(100) == b"hello\n"
            await channel.send(b"to the agent")
            assert theirs.recv(100) == b"to the agent"
            theirs.send(b"to the host")
            assert await channel.receive() == b"to the host"
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await channel.send(b"x")


async def test_closed_by_us(server: socket.socket) -> None:
    before = len(os.listdir("/proc/self/fd"))
    channel = await UnixSocketChannel.connect(server.getsockname(), b"hello\n")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    await channel.aclose()
    await channel.aclose()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(anyio.ClosedResourceError):
        await channel.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await channel.send(b"x")


async def test_nobody_is_there(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NobodyListens):
        await UnixSocketChannel.connect(str(tmp_path / "nowhere"), b"")
    with socket.socket(socket.AF_UNIX) as left_by_a_killed_agent:
        left_by_a_killed_agent.bind(str(tmp_path / "agent.sock"))
    with pytest.raises(NobodyListens):
        await UnixSocketChannel.connect(str(tmp_path / "agent.sock"), b"")
    assert len(os.listdir("/proc/self/fd")) == before


async def test_something_else_is_there(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable, match="cannot be used") as caught:
        await UnixSocketChannel.connect(str(tmp_path / ("x" * 200)), b"")
    assert not isinstance(caught.value, NobodyListens)


async def test_too_many_ask_at_once(server: socket.socket) -> None:
    waiting = []
    with pytest.raises(AgentUnavailable, match="cannot be used") as caught:
        while len(waiting) < 10:
            waiting.append(await UnixSocketChannel.connect(server.getsockname(), b""))
    assert not isinstance(caught.value, NobodyListens)
    for channel in waiting:
        await channel.aclose()


async def test_a_cancelled_connect_leaves_nothing(server: socket.socket) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await UnixSocketChannel.connect(server.getsockname(), b"hello")
    assert scope.cancelled_caught
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_agent_that_ends_before_the_greeting_was_read(server: socket.socket) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def end() -> None:
        theirs, _ = server.accept()
        theirs.close()

    with pytest.raises(NobodyListens, match="ended while it was connected to"):
        async with anyio.create_task_group() as group:
            group.start_soon(_connect, server.getsockname(), errors := [])
            await anyio.wait_all_tasks_blocked()
            await end()
        raise errors[0]
    assert len(os.listdir("/proc/self/fd")) == before


async def _connect(path: str, errors: list[AgentUnavailable]) -> None:
    try:
        await UnixSocketChannel.connect(path, b"x" * 10_000_000)
    except AgentUnavailable as error:
        errors.append(error)
