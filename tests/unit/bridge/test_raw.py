"""A raw session over scripted connections: what breaks, what is refused, and how it is ended. covers: B6, C13"""

from __future__ import annotations

import base64
import json
from typing import Any

import anyio
import pytest

from cc_bridge.bridge import raw as module
from cc_bridge.bridge.raw import RawSession
from cc_bridge.bridge.uplink import Uplink
from cc_bridge.channels.named_pipe import NobodyListens
from cc_bridge.errors import AgentUnavailable, ClaudeNotFound, ClaudeStartError, ConnectionLost
from cc_bridge.logs import Log
from cc_bridge.protocol.link import Exited, StreamBytes
from cc_bridge.protocol.raw import RawStreams, Start

from .scripted_channel import HELLO, Dials, Scripted

pytestmark = pytest.mark.anyio

NEW = HELLO | {"raw": True}
STARTED = {"seq": 1, "started": 9}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def later(seq: int, state: str = "running") -> dict[str, Any]:
    return NEW | {"state": state, "seq": seq, "from": seq + 1}


def stdout(seq: int, data: bytes) -> dict[str, Any]:
    return {"seq": seq, "stdout": base64.b64encode(data).decode()}


def session(*channels: Scripted | Exception) -> tuple[RawSession, Dials]:
    dials = Dials(*channels)
    log = Log("demo", "memory")
    uplink = Uplink(dials, log, session="raw-x", patience=1)
    return RawSession(uplink, RawStreams(Start.of(["claude"], {}, "/w")), "demo", log, "Install it."), dials


def sent(channel: Scripted) -> list[dict[str, Any]]:
    return [json.loads(line) for data in channel.sent for line in data.splitlines()]


async def test_it_begins_and_is_read_to_its_end() -> None:
    channel = Scripted(NEW, STARTED, stdout(2, b"a"), {"seq": 3, "exit": 0})
    made, dials = session(channel)
    await made.open()
    assert dials.greetings[0]["session"] == "raw-x"
    assert await made.receive() == StreamBytes("stdout", b"a")
    assert [await made.receive(), await made.receive()] == [None, None]
    assert made.exited == Exited(0)
    await made.aclose()
    await made.aclose()
    assert [next(iter(frame)) for frame in sent(channel)] == ["start", "forget"]
    assert channel.closed


async def test_a_terminal_takes_an_agent_that_has_some() -> None:
    channel = Scripted(NEW)
    uplink = Uplink(Dials(channel), Log("demo", "memory"), session="raw-x", patience=1)
    streams = RawStreams(Start.of(["claude"], {}, "/w", tty=(80, 24)))
    made = RawSession(uplink, streams, "demo", Log("demo", "memory"))
    with pytest.raises(AgentUnavailable, match=r"its agent, 0\.1\.0, starts nothing on a terminal"):
        await made.open()
    assert not any("start" in frame for frame in sent(channel))


async def test_an_older_agent_is_refused_before_anything_is_started() -> None:
    channel = Scripted(HELLO)
    made, _ = session(channel)
    with pytest.raises(AgentUnavailable, match=r"its agent, 0\.1\.0, runs nothing beside"):
        await made.open()
    assert (sent(channel), channel.closed) == ([], 1)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ({"error": "start", "message": "no", "errno": 2}, ClaudeNotFound),
        ({"error": "start", "message": "no", "errno": 13}, ClaudeStartError),
        ({"error": "stopping", "message": "ends"}, ConnectionLost),
    ],
)
async def test_a_start_that_is_refused(refusal: dict[str, Any], error: type[Exception]) -> None:
    channel = Scripted(NEW, refusal)
    made, _ = session(channel)
    with pytest.raises(error):
        await made.open()
    assert channel.closed


async def test_a_start_that_is_given_up_leaves_no_process() -> None:
    channel = Scripted(NEW)
    made, _ = session(channel)
    async with anyio.create_task_group() as group:
        group.start_soon(made.open)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert sent(channel)[1:] == [{"signal": "KILL"}]
    assert channel.closed


async def test_a_connection_that_breaks_goes_on_where_it_was() -> None:
    first = Scripted(NEW, STARTED, stdout(2, b"a"), anyio.EndOfStream)
    second = Scripted(later(2), {"seq": 3, "took": "c-1"}, stdout(4, b"b"), {"seq": 5, "exit": 0})
    made, dials = session(first, second)
    await made.open()
    await made.write(b"in")
    assert [await made.receive(), await made.receive(), await made.receive()] == [
        StreamBytes("stdout", b"a"),
        StreamBytes("stdout", b"b"),
        None,
    ]
    assert dials.greetings[1]["have"] == [2, "j"]
    stdin = base64.b64encode(b"in").decode()
    assert [frame for frame in sent(second) if "stdin" in frame] == [{"id": "c-1", "stdin": stdin}]


async def test_what_comes_with_the_hello_is_not_kept_until_more_comes() -> None:
    hello, output = (json.dumps(frame).encode() + b"\n" for frame in (later(1), stdout(2, b"all there is")))
    made, _ = session(Scripted(NEW, STARTED, anyio.EndOfStream), Scripted(hello + output))
    await made.open()
    with anyio.fail_after(5):
        assert await made.receive() == StreamBytes("stdout", b"all there is")


async def test_an_agent_that_is_gone_is_told_after_all_that_came() -> None:
    made, _ = session(Scripted(NEW, STARTED, stdout(2, b"a"), anyio.EndOfStream), NobodyListens("nobody is there"))
    await made.open()
    assert await made.receive() == StreamBytes("stdout", b"a")
    for ask in (made.receive, lambda: made.write(b"x"), made.end_input):
        with pytest.raises(ConnectionLost, match="has ended with its agent: nobody is there"):
            await ask()
    assert made.exited is None
    await made.aclose()


async def test_what_is_out_of_reach_is_tried_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cc_bridge.bridge.uplink.pause_after", lambda _: 0)
    tries: list[Any] = [AgentUnavailable("busy")] * 3
    made, dials = session(Scripted(NEW, STARTED, anyio.EndOfStream), *tries, Scripted(later(1), stdout(2, b"a")))
    await made.open()
    assert await made.receive() == StreamBytes("stdout", b"a")
    assert len(dials.greetings) == 5


async def test_an_agent_that_breaks_the_rules_is_left() -> None:
    made, _ = session(Scripted(NEW, STARTED, {"seq": 7, "exit": 0}))
    await made.open()
    with pytest.raises(ConnectionLost, match="number 7 after 1"):
        await made.receive()
    await made.aclose()


async def test_its_end_is_asked_for_ever_more_firmly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_END_LIMITS", {"": 0.01, "TERM": 0.01, "KILL": 0.01})
    channel = Scripted(NEW, STARTED)
    made, _ = session(channel)
    await made.open()
    await made.aclose()
    assert sent(channel)[1:] == [{"id": "c-1", "stdin": None}, {"signal": "TERM"}, {"signal": "KILL"}]
    assert channel.closed


async def test_closing_is_not_cut_short_and_nothing_before_the_beginning() -> None:
    made, _ = session()
    await made.aclose()
    channel = Scripted(NEW, STARTED, {"seq": 2, "exit": 0})
    made, _ = session(channel)
    await made.open()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await made.aclose()
    assert (made.exited, channel.closed) == (Exited(0), 1)


async def test_who_writes_much_waits_for_the_process_and_hears_meanwhile() -> None:
    """What comes while somebody writes is there for who reads."""
    answers = [{"seq": seq, "took": f"c-{seq - 1}"} for seq in range(2, 10)]
    made, _ = session(Scripted(NEW, STARTED, *answers[:4], stdout(6, b"a"), *answers[5:]))
    await made.open()
    async with anyio.create_task_group() as group:
        group.start_soon(made.write, b"x" * 256 * 1024 * 6)
        await anyio.wait_all_tasks_blocked()
        assert await made.receive() == StreamBytes("stdout", b"a")
