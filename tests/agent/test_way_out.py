"""The way out: what connects to the agent's port is a stream of the proxy's, over pipes and over its socket."""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress

import anyio
import pytest
from anyio.abc import ByteStream

from cc_bridge.channels.base import Channel
from cc_bridge.channels.named_pipe import NamedPipeChannel
from cc_bridge.channels.unix_socket import UnixSocketChannel
from cc_bridge.errors import AgentUnavailable
from cc_bridge.logs import Log
from cc_bridge.proxy.way_out import PipedStream, WayOut
from tests.conftest import lacking

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


@pytest.fixture
def agent(make_agent: MakeAgent) -> Agent:
    return make_agent("--egress", "0")


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
async def test_bytes_go_both_ways_and_each_way_ends_by_itself(agent: Agent, way: str) -> None:
    data = os.urandom(3_000_000)
    async with proxy(agent, way, echo) as port:
        assert await ask(port, data) == data
        assert await ask(port, b"") == b""


@pytest.mark.anyio
async def test_an_urgent_byte_stops_nothing(agent: Agent) -> None:
    """It cannot be spliced, and is lost; what comes behind it is read."""
    async with proxy(agent, "pipes", echo) as port:
        with socket.create_connection(("127.0.0.1", port)) as program:
            for data, flags in ((b"ab", 0), (b"!", socket.MSG_OOB), (b"cd", 0)):
                program.send(data, flags)
            program.shutdown(socket.SHUT_WR)
            async with await anyio.connect_tcp("127.0.0.1", port) as other:  # the loop does not turn in vain
                await other.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await other.receive()
            assert await anyio.to_thread.run_sync(program.makefile("rb").read) == b"abcd"


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_two_hundred_streams_at_once(agent: Agent, way: str) -> None:
    together, everybody = 0, anyio.Event()

    async def wait_for_all(stream: ByteStream) -> None:
        nonlocal together
        together += 1
        if together == 200:
            everybody.set()
        await everybody.wait()
        await echo(stream)

    async def one(number: int) -> None:
        data = b"%d " % number * 10_000
        assert await ask(port, data) == data

    async with proxy(agent, way, wait_for_all) as port, anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(one, number)


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_who_does_not_read_holds_the_other_back_and_nobody_else(agent: Agent, way: str) -> None:
    sent = 0

    async def handle(stream: ByteStream) -> None:
        nonlocal sent
        if await stream.receive() != b"much":
            await stream.send(b"here")
            await stream.send_eof()
            return
        while True:
            await stream.send(b"x" * 65536)
            sent += 65536

    async with proxy(agent, way, handle) as port:
        with socket.create_connection(("127.0.0.1", port)) as idle, socket.create_connection(("127.0.0.1", port)) as up:
            idle.sendall(b"much")
            before = -1
            while sent != before:  # as much as all buffers on the way take
                before = sent
                assert await ask(port, b"?") == b"here"
            assert sent < 32_000_000
            up.sendall(b"much")
            assert await ask(port, b"?") == b"here"


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_is_cut_is_no_orderly_end_at_either_end(agent: Agent, way: str) -> None:
    heard: list[type[BaseException]] = []

    async def handle(stream: ByteStream) -> None:
        match await stream.receive():
            case b"cut":
                await stream.send(b"half of it")
                await stream.aclose()
                return
            case b"other":
                await stream.send_eof()
                return
        try:
            await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            heard.append(type(error))

    async with proxy(agent, way, handle) as port:
        connection = await anyio.connect_tcp("127.0.0.1", port)
        await connection.send(b"cut")
        with pytest.raises(anyio.BrokenResourceError):
            while await connection.receive():
                pass
        await connection.aclose()
        with socket.create_connection(("127.0.0.1", port)) as hard:
            hard.sendall(b"x")
            await ask(port, b"other")  # by then that has been heard
            hard.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while not heard:
            await ask(port, b"other")
        assert heard == [anyio.BrokenResourceError]


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_is_read_to_its_end_after_an_orderly_close(agent: Agent, way: str) -> None:
    async def answer(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(b"y" * 200_000)
        await stream.send_eof()
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()

    async with proxy(agent, way, answer) as port, await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(b"a question, and more")
        said = 0
        with suppress(anyio.EndOfStream):
            while True:
                said += len(await connection.receive())
                await connection.send(b"which nobody reads")
        assert said == 200_000


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_a_handler_that_fails_costs_its_own_stream(agent: Agent, way: str) -> None:
    async def handle(stream: ByteStream) -> None:
        if await stream.receive(1) == b"f":
            raise RuntimeError("a mistake")
        await stream.send(b"fine")
        await stream.send_eof()

    async with proxy(agent, way, handle) as port:
        connection = await anyio.connect_tcp("127.0.0.1", port)
        await connection.send(b"f")
        with pytest.raises(anyio.BrokenResourceError):
            await connection.receive()
        await connection.aclose()
        assert await ask(port, b"g") == b"fine"


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_connections_wait_for_a_proxy_and_outlive_one_that_has_not_taken_them(agent: Agent, way: str) -> None:
    answers: list[bytes] = []

    async def wait(number: int) -> None:
        answers.append(await ask(port, b"%d" % number))

    first = agent.connect("egress")
    port = first.hello["port"]
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(wait, number)
        numbers = [await anyio.to_thread.run_sync(first.read) for _ in range(5)]
        first.close()
        async with proxy(agent, way, echo):
            while len(answers) < 5:
                await ask(port, b"")
    assert sorted(answers) == [b"0", b"1", b"2", b"3", b"4"]
    assert sorted(frame["open"] for frame in numbers) == [1, 2, 3, 4, 5]


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_a_proxy_that_goes_cuts_what_it_was_at_and_is_followed_by_another(agent: Agent, way: str) -> None:
    begun = anyio.Event()

    async def begin(stream: ByteStream) -> None:
        await stream.send(b"half of it")
        begun.set()
        await anyio.sleep_forever()

    async with proxy(agent, way, begin) as port:
        connection = await anyio.connect_tcp("127.0.0.1", port)
        await begun.wait()
    with pytest.raises(anyio.BrokenResourceError):
        while await connection.receive():
            pass
    await connection.aclose()
    async with proxy(agent, way, echo) as port:
        assert await ask(port, b"again") == b"again"


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_a_killed_agent_ends_the_service_and_its_streams(agent: Agent, way: str) -> None:
    begun, ended = anyio.Event(), anyio.Event()

    async def handle(stream: ByteStream) -> None:
        begun.set()
        try:
            await stream.receive()
        finally:
            ended.set()

    port = port_of(agent)
    with anyio.fail_after(30), socket.create_connection(("127.0.0.1", port)):
        async with anyio.create_task_group() as group:
            group.start_soon(WayOut(Place(agent, way), Log("test", "process")).serve, handle)
            await begun.wait()
            agent.process.kill()
            await ended.wait()
        with pytest.raises(AgentUnavailable):
            await WayOut(Place(agent, way), Log("test", "process")).serve(handle)


@pytest.mark.anyio
async def test_pipes_have_descriptors_of_which_nothing_was_read(agent: Agent) -> None:
    async def handle(stream: ByteStream) -> None:
        assert isinstance(stream, PipedStream)
        await anyio.wait_readable(stream.read_fd)
        os.write(stream.write_fd, os.read(stream.read_fd, 100).upper())
        await stream.send_eof()
        assert stream.write_fd == -1

    async with proxy(agent, "pipes", handle) as port:
        assert await ask(port, b"early") == b"EARLY"


def test_another_user_of_the_machine_takes_no_place(agent: Agent) -> None:
    """covers: T2"""
    if os.getuid() != 0:
        lacking("root", "only root can be somebody else")
    port = port_of(agent)
    if not (child := os.fork()):
        try:
            os.setuid(65534)
            with socket.socket() as connection:
                connection.settimeout(20)
                connection.connect(("127.0.0.1", port))
                os._exit(connection.recv(1) != b"")
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_an_agent_that_was_not_told_to_has_no_way_out(make_agent: MakeAgent) -> None:
    agent = make_agent()
    assert agent.connect("egress").hello["error"] == "egress"
    assert agent.connect().hello["state"] == "new"


def test_a_newer_proxy_takes_the_place_and_is_no_host(make_agent: MakeAgent) -> None:
    agent = make_agent("--egress", "0", "--egress-env", "FIRST", "--egress-env", "SECOND", "--linger", "0.5")
    older = agent.connect("egress")
    newer = agent.connect("egress")
    assert older.read() == {}
    host = agent.connect()
    host.start("sh", "-c", 'echo "[\\"$FIRST\\", \\"$SECOND\\"]"')
    url = f"http://127.0.0.1:{newer.hello['port']}"
    assert host.until("out")["out"] == f'["{url}", "{url}"]'
    host.send({"status": True})
    assert host.until("status")["now"]["hosts"] == []
    host.close()
    assert agent.process.wait(20) == 0  # although the proxy is there
    assert newer.read() == {}


def test_frames_that_make_no_sense_end_the_proxys_connection_only(agent: Agent) -> None:
    host = agent.connect()
    for frame in ({"data": 1}, {"credit": "much"}, {"data": base64.b64encode(bytes(300_000)).decode()}):
        with socket.create_connection(("127.0.0.1", port_of(agent))) as connection:
            odd = agent.connect("egress")
            number = odd.read()["open"]
            odd.send({"accept": number}, {"stream": number, **frame})
            assert odd.until("error")["error"] == "protocol"
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    assert agent.connect("egress", stream=1).hello["error"] == "gone"
    host.send({"status": True})
    assert host.until("status")


def test_256_connections_are_held_and_others_wait_their_turn(agent: Agent) -> None:
    host = agent.connect("egress")
    with ExitStack() as made:
        connections = [
            made.enter_context(socket.create_connection(("127.0.0.1", host.hello["port"]))) for _ in range(260)
        ]
        numbers = [host.read()["open"] for _ in range(256)]
        late = agent.connect("egress")
        assert [late.read()["open"] for _ in range(256)] == numbers
        late.send(*({"refuse": number} for number in numbers[:4]))
        assert [late.until("open")["open"] for _ in range(4)] == [257, 258, 259, 260]
        for connection in connections[:4]:
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
