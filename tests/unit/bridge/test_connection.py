"""One connection: from the hello to the end, and by which name each failure goes. covers: C9, C13"""

from __future__ import annotations

import json
import math
from typing import Any

import anyio
import pytest

from cc_bridge.bridge import connection as module
from cc_bridge.bridge.connection import Connection, FramesGone
from cc_bridge.channels.base import Channel
from cc_bridge.errors import AgentUnavailable, ConnectionLost, ProtocolError
from cc_bridge.protocol import link as link_module
from cc_bridge.protocol.link import ErrorOutput, Hello, Link, Output

from .scripted_channel import HELLO, Scripted

pytestmark = pytest.mark.anyio


async def opened(*received: Any) -> tuple[Connection, Scripted]:
    channel = Scripted(HELLO, *received)
    link = Link()
    link.greet()
    link.data_to_send()
    return await Connection.welcome(link, channel, "demo"), channel


async def test_it_is_opened_with_a_greeting_and_an_answer() -> None:
    data = json.dumps(HELLO).encode()
    channel = Scripted(data[:20], data[20:] + b'\n{"seq":1,"err":"x"}\n')
    greetings: list[bytes] = []

    async def connect(greeting: bytes) -> Channel:
        greetings.append(greeting)
        return channel

    made = await Connection.open(Link(), connect, "demo")
    assert [json.loads(greeting) for greeting in greetings] == [{"hello": 1, "session": "main"}]
    assert isinstance(made.hello, Hello)
    assert made.early == [ErrorOutput("x")], "what came with the hello is not lost"
    assert channel.closed == 0
    await made.aclose()
    assert channel.closed == 1


@pytest.mark.parametrize(
    ("received", "error", "words"),
    [
        ({"error": "gone", "message": "no more"}, FramesGone, "no more"),
        ({"error": "version", "message": "2, not 1"}, ProtocolError, "2, not 1"),
        (b"nonsense\n", ProtocolError, "not JSON"),
        ({"seq": 1, "out": {}}, ProtocolError, "cannot receive a frame"),
        (anyio.EndOfStream, ConnectionLost, "went away before its hello"),
        (anyio.BrokenResourceError, ConnectionLost, "went away before its hello"),
        (OSError, OSError, ""),
    ],
)
async def test_what_may_come_in_a_hello_s_place(received: Any, error: type[Exception], words: str) -> None:
    channel = Scripted(received)
    link = Link()
    link.greet()
    with pytest.raises(error, match=words or None) as caught:
        await Connection.welcome(link, channel, "demo")
    assert type(caught.value) is error
    assert channel.closed == 1
    if words:
        assert "demo" in str(caught.value), "the instance is named"


async def test_an_agent_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (module._HELLO_LIMIT, module._SEND_LIMIT, link_module._ACKNOWLEDGE) == (10, 60, 2**20)
    monkeypatch.setattr(module, "_HELLO_LIMIT", 0)
    channel = Scripted()
    with pytest.raises(AgentUnavailable, match="demo: the agent did not say hello in time"):
        await Connection.welcome(Link(), channel, "demo")
    assert channel.closed == 1


async def test_a_cancelled_welcome_closes_the_channel() -> None:
    channel = Scripted()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await Connection.welcome(Link(), channel, "demo")
    assert (scope.cancelled_caught, channel.closed) == (True, 1)


async def test_events_come_as_they_are_received() -> None:
    made, _ = await opened(b'{"seq":1,"out":{}}\n{"seq"', b':2,"err":"x"}\n')
    assert await made.receive() == [Output({})]
    assert await made.receive() == [ErrorOutput("x")]


async def test_a_deadline_that_has_passed_is_none() -> None:
    made, _ = await opened()
    assert await made.receive(-math.inf) is None
    assert await made.receive(anyio.current_time()) is None


async def test_who_receives_can_be_given_another_deadline() -> None:
    made, _ = await opened()
    made.set_deadline(-math.inf)  # nobody receives: nothing happens
    found: list[Any] = []

    async def receive() -> None:
        found.append(await made.receive())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            made.set_deadline(-math.inf)
    assert found == [None]


async def test_a_deadline_is_for_one_receive() -> None:
    made, _ = await opened({"seq": 1, "out": {}})
    assert await made.receive(math.inf) == [Output({})]
    made.set_deadline(-math.inf)
    with anyio.move_on_after(0) as scope:
        await made.receive()
    assert scope.cancelled_caught, "it waits, and no old deadline ends it"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (anyio.EndOfStream, "closed the connection, or ended"),
        (anyio.BrokenResourceError, "the connection to the agent broke"),
        (anyio.ClosedResourceError, "the connection to the agent broke"),
    ],
)
async def test_the_end_while_receiving(end: type[Exception], words: str) -> None:
    made, _ = await opened(end)
    with pytest.raises(ConnectionLost, match=f"demo: .*{words}"):
        await made.receive()


async def test_what_the_link_says_is_sent_at_once_and_nothing_else() -> None:
    made, channel = await opened()
    await made.write()
    assert channel.sent == []
    made.link.signal_claude("INT")
    made.link.shut_down()
    await made.write()
    await made.write()
    assert channel.sent == [b'{"signal":"INT"}\n{"shutdown":true}\n']


async def test_a_cancellation_tears_no_frame() -> None:
    made, channel = await opened()
    made.link.shut_down()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await made.write()
    assert channel.sent == [b'{"shutdown":true}\n']


@pytest.mark.parametrize("error", [anyio.BrokenResourceError, anyio.ClosedResourceError])
async def test_the_end_while_sending(error: type[Exception]) -> None:
    made, channel = await opened()
    channel.fails = error
    made.link.shut_down()
    with pytest.raises(ConnectionLost, match="demo: the connection to the agent broke"):
        await made.write()


async def test_an_agent_that_does_not_read_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEND_LIMIT", 0)
    made, channel = await opened()
    channel.slow = True
    made.link.shut_down()
    with pytest.raises(ConnectionLost):
        await made.write()


async def test_a_mebibyte_is_acknowledged_when_it_is_more_than_that() -> None:
    line = b'{"seq":1,"out":{}}\n'
    made, channel = await opened(
        line, b'{"seq":2,"out":"' + b"x" * (2**20 - len(line) - 19) + b'"}\n', b'{"novelty":1}\n'
    )
    for expected in ([], [], [b'{"ack":2}\n']):
        await made.receive()
        await made.write()
        assert channel.sent == expected
    channel.received += [b'{"seq":3,"out":"' + b"x" * 2**20 + b'"}\n', b'{"novelty":1}\n']
    await made.receive()
    await made.receive()
    await made.write()
    assert len(channel.sent) == 2, "counted anew"


async def test_after_a_violation_nothing_is_acknowledged() -> None:
    made, channel = await opened(b"nonsense\n", b"x" * (2**20 + 1))
    await made.receive()
    assert await made.receive() == []
    await made.write()
    assert channel.sent == []
