"""One suite over every channel. covers: C9, C13, B3"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge.channels.base import Channel
from cc_bridge.channels.direct import DirectChannel
from cc_bridge.channels.docker_exec import DockerExecChannel
from cc_bridge.channels.named_pipe import NamedPipeChannel, prepare_directory
from cc_bridge.channels.unix_socket import UnixSocketChannel
from cc_bridge.engine.client import Engine
from cc_bridge.engine.container_spec import ContainerSpec, Mount
from cc_bridge.engine.containers import Containers
from cc_bridge.engine.execs import Execs
from cc_bridge.instances.registry import agent_archive
from cc_bridge.state import Installation
from cc_bridge.testing.channel_contract import ChannelContract
from cc_bridge.testing.memory_channel import MemoryChannel

OpenChannel = Callable[[bytes], Awaitable[Channel]]
EndPeer = Callable[[], Awaitable[None]]


class TestMemoryChannel(ChannelContract):
    @pytest.fixture
    def opened(self) -> list[MemoryChannel]:
        return []

    @pytest.fixture
    def open_channel(self, opened: list[MemoryChannel]) -> OpenChannel:
        async def open_channel(greeting: bytes) -> Channel:
            opened.append(MemoryChannel(greeting))
            return opened[-1]

        return open_channel

    @pytest.fixture
    def end_peer(self, opened: list[MemoryChannel]) -> EndPeer:
        async def end() -> None:
            opened[-1].end()

        return end


class TestNamedPipeChannel(ChannelContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def agent(self, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
        prepare_directory(str(tmp_path / "pipes"))
        ready, write = os.pipe()
        argv = [sys.executable, str(agent_archive()), "serve", "--pipes", str(tmp_path / "pipes")]
        argv += ["--socket", str(tmp_path / "agent.sock"), "--ready-fd", str(write)]
        process = subprocess.Popen(argv, pass_fds=[write], stderr=subprocess.DEVNULL)
        os.close(write)
        assert os.read(ready, 100) == b"ready\n"
        os.close(ready)
        yield process
        process.terminate()
        process.wait(10)

    @pytest.fixture
    def open_channel(self, agent: Any, tmp_path: Path) -> OpenChannel:
        async def open_channel(greeting: bytes) -> Channel:
            return await NamedPipeChannel.connect(str(tmp_path / "pipes"), greeting)

        return open_channel

    @pytest.fixture
    def end_peer(self, agent: subprocess.Popen[bytes]) -> EndPeer:
        async def end() -> None:
            agent.send_signal(signal.SIGKILL)

        return end


class TestUnixSocketChannel(TestNamedPipeChannel):
    @pytest.fixture
    def open_channel(self, agent: Any, tmp_path: Path) -> OpenChannel:
        async def open_channel(greeting: bytes) -> Channel:
            return await UnixSocketChannel.connect(str(tmp_path / "agent.sock"), greeting)

        return open_channel


@pytest.fixture
async def container(images: Any, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A container in which an agent serves, and nothing is mounted but the agent."""
    engine = Engine()
    containers = Containers(engine)
    name = f"cc-bridge-test-{os.getpid()}-{abs(hash(request.node.nodeid)) % 10**8}"
    agent = "/opt/cc-bridge/agent.pyz"
    spec = ContainerSpec(
        name=name,
        image=images.claude,
        command=["python3", "-IS", agent, "serve"],
        user="1000:1000",
        labels={"cc-bridge.install": Installation.at().id},
        environment={},
        mounts=[Mount(str(agent_archive()), agent, read_only=True)],
        workdir="/",
    )
    await containers.create(spec)
    try:
        await containers.start(name, ['"event": "listening"'], 30)
        yield name
    finally:
        with anyio.CancelScope(shield=True):
            await containers.remove(name)
            await engine.aclose()


@pytest.fixture
async def execs() -> AsyncIterator[Execs]:
    engine = Engine()
    yield Execs(engine)
    await engine.aclose()


@pytest.mark.docker
class TestDockerExecChannel(ChannelContract):
    @pytest.fixture
    def open_channel(self, container: str, execs: Execs) -> OpenChannel:
        async def open_channel(greeting: bytes) -> Channel:
            argv = ["python3", "-IS", "/opt/cc-bridge/agent.pyz", "attach"]
            channel = await DockerExecChannel.open(execs, container, argv)
            assert (await channel.exchange(greeting)).startswith(b"{")
            return channel

        return open_channel

    @pytest.fixture
    def end_peer(self, container: str) -> EndPeer:
        return _killer(container)


@pytest.mark.docker
class TestDirectChannel(ChannelContract):
    @pytest.fixture
    def open_channel(self, container: str, execs: Execs) -> OpenChannel:
        async def open_channel(greeting: bytes) -> Channel:
            return DirectChannel(execs, container, greeting)

        return open_channel

    @pytest.fixture
    def end_peer(self, container: str) -> EndPeer:
        return _killer(container)


def _killer(container: str) -> EndPeer:
    async def end() -> None:
        await anyio.run_process(["docker", "kill", container])

    return end
