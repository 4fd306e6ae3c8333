"""The way to an agent, without a conversation: positions, tries, pauses, and what breaks. covers: B1, C13"""

from __future__ import annotations

import json
import math
from typing import Any

import anyio
import pytest

from cc_bridge.bridge import uplink as module
from cc_bridge.bridge.connection import FramesGone
from cc_bridge.bridge.uplink import Uplink, pause_after
from cc_bridge.channels.base import Channel
from cc_bridge.errors import AgentUnavailable, ConnectionLost, ProtocolError
from cc_bridge.logs import Log
from cc_bridge.protocol.link import Output, Position, Took

from .keeping_agent import KeepingAgent, Line
from .scripted_channel import HELLO, Dials, Scripted

pytestmark = pytest.mark.anyio

LATER = HELLO | {"seq": 2, "from": 3}


def line(seq: int) -> dict[str, Any]:
    return {"seq": seq, "out": {}}


def uplink(*channels: Scripted | Exception, position: Position | None = None) -> tuple[Uplink, Dials]:
    dials = Dials(*channels)
    return Uplink(dials, Log("demo", "memory"), position), dials


async def connected(*received: Any) -> tuple[Uplink, Scripted]:
    channel = Scripted(HELLO, *received)
    made, _ = uplink(channel)
    await made.connect(resume=False)
    return made, channel


async def test_what_is_known_before_during_and_after_a_connection() -> None:
    made, dials = uplink(Scripted(HELLO, line(1)))
    assert (made.connection, made.link, made.channel_kind, made.position, made.agent_version) == (None,) * 5
    assert not made.caught_up
    connection = await made.connect(resume=False)
    assert made.connection is connection
    assert made.link is connection.link
    assert (made.channel_kind, made.position, made.agent_version) == ("scripted", Position(0, "j"), "0.1.0")
    assert made.caught_up
    assert await made.receive() == [Output({})]
    assert made.position == Position(1, "j")
    await made.disconnect()
    await made.disconnect()
    assert (made.connection, made.link, made.channel_kind) == (None, None, None)
    assert (made.position, made.agent_version) == (Position(1, "j"), "0.1.0"), "kept for the next"
    assert "have" not in dials.greetings[0]


async def test_where_nobody_is_connected_nothing_is_written_and_nothing_comes() -> None:
    made, _ = uplink()
    await made.write()
    made.set_deadline(-math.inf)
    with pytest.raises(ConnectionLost, match="demo: the connection to the agent broke"):
        await made.receive()
    assert await made.improve() is None


async def test_the_next_connection_resumes_after_the_last_frame() -> None:
    made, dials = uplink(Scripted(HELLO, line(1), line(2)), Scripted(LATER | {"seq": 3}, line(3)))
    await made.connect(resume=False)
    assert not made.continues
    for _ in range(2):
        await made.receive()
    await made.disconnect()
    await made.connect(resume=True)
    assert dials.greetings[1]["have"] == [2, "j"]
    assert (made.continues, made.caught_up) == (True, False)
    await made.receive()
    assert made.caught_up


async def test_it_begins_anew_or_with_a_turn_where_that_is_wanted() -> None:
    made, dials = uplink(*[Scripted(HELLO) for _ in range(3)], position=Position(2, "j"))
    await made.connect(resume=False)
    await made.disconnect()
    await made.connect(resume=False, turn="t")
    await made.disconnect()
    made.forget()
    await made.connect(resume=False, turn="t")
    assert [(greeting.get("have"), greeting.get("turn")) for greeting in dials.greetings] == [
        (None, None),
        (None, "t"),
        (None, "t"),
    ]
    assert not made.continues, "nothing was known to go on from"


async def test_a_position_of_another_uplink_can_be_resumed() -> None:
    made, dials = uplink(Scripted(LATER), position=Position(2, "j"))
    await made.connect(resume=True, turn="t")
    assert (dials.greetings[0]["have"], "turn" in dials.greetings[0], made.continues) == ([2, "j"], False, True)


@pytest.mark.parametrize(
    ("channel", "error"),
    [
        (AgentUnavailable("nobody is there"), AgentUnavailable),
        (Scripted(anyio.EndOfStream), ConnectionLost),
        (Scripted(b"nonsense\n"), ProtocolError),
        (Scripted({"error": "version", "message": "2"}), ProtocolError),
    ],
)
async def test_a_connection_that_fails_is_not_kept_and_costs_no_position(
    channel: Scripted | Exception, error: type[Exception]
) -> None:
    made, dials = uplink(channel, Scripted(LATER), position=Position(2, "j"))
    with pytest.raises(error):
        await made.connect(resume=True)
    assert made.connection is None
    await made.connect(resume=True)
    assert [greeting["have"] for greeting in dials.greetings] == [[2, "j"]] * 2


async def test_frames_that_are_gone_are_not_asked_for_again() -> None:
    made, _ = uplink(Scripted({"error": "gone", "message": "not kept"}), position=Position(2, "j"))
    with pytest.raises(FramesGone, match="not kept"):
        await made.connect(resume=True)
    assert made.position is None


async def test_a_cancelled_connect_leaves_no_connection() -> None:
    channel = Scripted()
    made, _ = uplink(channel)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: made.connect(resume=False))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert (made.connection, channel.closed) == (None, 1)


@pytest.mark.parametrize("end", [anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError])
async def test_a_connection_lost_while_receiving_keeps_the_position(end: type[Exception]) -> None:
    made, channel = await connected(line(1), end)
    await made.receive()
    with pytest.raises(ConnectionLost, match="demo"):
        await made.receive()
    await made.disconnect()
    assert (made.position, channel.closed) == (Position(1, "j"), 1)


async def test_a_connection_lost_while_writing_keeps_the_position() -> None:
    made, channel = await connected(line(1))
    await made.receive()
    channel.fails = anyio.BrokenResourceError
    assert made.link is not None
    made.link.shut_down()
    with pytest.raises(ConnectionLost, match="demo"):
        await made.write()
    await made.disconnect()
    assert made.position == Position(1, "j")


async def test_after_a_violation_nothing_more_can_be_said() -> None:
    made, _ = await connected(b"nonsense\n")
    await made.receive()
    assert made.link is None


async def test_who_receives_can_be_given_another_deadline() -> None:
    made, _ = await connected()
    found: list[Any] = []

    async def receive() -> None:
        found.append(await made.receive())

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        made.set_deadline(-math.inf)
    assert found == [None]


class Narrow(Scripted):
    """Sends when it may, one at a time."""

    def __init__(self, *received: Any) -> None:
        super().__init__(*received)
        self.may_send = anyio.Event()
        self.sending = anyio.ResourceGuard("sending to")

    async def send(self, data: bytes) -> None:
        with self.sending:
            await self.may_send.wait()
            await super().send(data)


async def test_two_who_write_send_one_after_the_other() -> None:
    channel = Narrow(HELLO)
    made, _ = uplink(channel)
    connection = await made.connect(resume=False)
    async with anyio.create_task_group() as group:
        for name in ("INT", "TERM"):
            connection.link.signal_claude(name)
            group.start_soon(made.write)
            await anyio.wait_all_tasks_blocked()
        channel.may_send.set()
    assert [json.loads(data) for data in channel.sent] == [{"signal": "INT"}, {"signal": "TERM"}]


async def test_a_cancellation_in_mid_write_tears_no_frame() -> None:
    channel = Narrow(HELLO)
    made, _ = uplink(channel)
    connection = await made.connect(resume=False)
    connection.link.shut_down()
    async with anyio.create_task_group() as group:
        group.start_soon(made.write)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        channel.may_send.set()
    assert channel.sent == [b'{"shutdown":true}\n']


async def test_who_is_cancelled_while_another_writes_has_its_frame_sent_by_the_next() -> None:
    channel = Narrow(HELLO)
    made, _ = uplink(channel)
    connection = await made.connect(resume=False)
    connection.link.signal_claude("INT")
    async with anyio.create_task_group() as group:
        group.start_soon(made.write)
        await anyio.wait_all_tasks_blocked()
        connection.link.signal_claude("TERM")
        with anyio.move_on_after(0) as scope:
            await made.write()
        channel.may_send.set()
    assert scope.cancelled_caught
    await made.write()
    assert [json.loads(data) for data in channel.sent] == [{"signal": "INT"}, {"signal": "TERM"}]


def test_pauses_double_up_to_a_longest() -> None:
    assert [pause_after(failures) for failures in (2, 3, 4, 8, 40, 10_000)] == [0.04, 0.08, 0.16, 2, 2, 2]


async def test_the_first_try_after_a_loss_is_made_at_once_and_later_ones_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "pause_after", lambda failures: 3600 * failures)
    made, dials = uplink(Scripted(HELLO), Scripted(HELLO), Scripted(HELLO, line(1)), position=Position(0, "j"))
    for _ in range(2):
        await made.connect(resume=True)
        await made.disconnect()
        assert made.count_loss(resumable=True)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: made.connect(resume=True))
        await anyio.wait_all_tasks_blocked()
        assert len(dials.greetings) == 2, "it waits"
        group.cancel_scope.cancel()
    assert made.connection is None


async def test_what_comes_ends_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause_after", lambda failures: 0)
    made, _ = uplink(Scripted(HELLO, line(1)), Scripted(HELLO | {"from": 2, "seq": 1}), position=Position(0, "j"))
    for _ in range(30):
        assert made.count_loss(resumable=True)
    await made.connect(resume=True)
    await made.receive()
    await made.disconnect()
    assert made.count_loss(resumable=True)
    monkeypatch.setattr(module, "pause_after", lambda failures: 3600)
    with anyio.fail_after(1):
        await made.connect(resume=True)


async def test_what_comes_with_the_hello_ends_the_pauses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn may be over with it: the next one must not pay for what is long past."""
    monkeypatch.setattr(module, "pause_after", lambda failures: 0)
    together = b"".join(json.dumps(frame).encode() + b"\n" for frame in (HELLO | {"seq": 1}, line(1)))
    made, _ = uplink(Scripted(together), Scripted(LATER), position=Position(0, "j"))
    for _ in range(30):
        assert made.count_loss(resumable=True)
    assert (await made.connect(resume=True)).early == [Output({})]
    await made.disconnect()
    assert made.count_loss(resumable=True)
    monkeypatch.setattr(module, "pause_after", lambda failures: 3600)
    with anyio.fail_after(1):
        await made.connect(resume=False)


async def test_a_better_channel_that_comes_after_the_end_is_closed() -> None:
    """Nobody else would: the instance was stopped while it was looked for."""
    first, better = Scripted(HELLO), Scripted(HELLO)
    made, dials = uplink(first)
    await made.connect(resume=False)
    comes = anyio.Event()

    async def connect_better(current: str, greeting: bytes) -> Channel:
        await comes.wait()
        return better

    dials.connect_better = connect_better  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        group.start_soon(made.improve)
        await anyio.wait_all_tasks_blocked()
        await made.disconnect()
        comes.set()
    assert (made.connection, first.closed, better.closed) == (None, 1, 1)


async def test_it_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._RESUME_LIMIT == 30
    made, _ = uplink(position=Position(2, "j"))
    assert made.count_loss(resumable=True)
    monkeypatch.setattr(module, "_RESUME_LIMIT", 0)
    assert not made.count_loss(resumable=True)
    assert made.position is None
    monkeypatch.setattr(module, "_RESUME_LIMIT", 30)
    assert not made.count_loss(resumable=True), "there is nothing to resume any more"


async def test_where_nothing_is_to_be_resumed_the_position_is_forgotten_and_counting_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _ = uplink(Scripted(HELLO), position=Position(2, "j"))
    monkeypatch.setattr(module, "pause_after", lambda failures: 3600)
    for _ in range(5):
        made.count_loss(resumable=True)
    assert not made.count_loss(resumable=False)
    assert made.position is None
    with anyio.fail_after(1):
        await made.connect(resume=False)


async def test_a_better_channel_takes_over_without_a_gap() -> None:
    first, better = Scripted(HELLO, line(1)), Scripted(HELLO | {"seq": 1, "from": 2})
    made, dials = uplink(first)
    connection = await made.connect(resume=False)
    await made.receive()
    assert await made.improve() is None, "there is none yet"
    assert made.connection is connection
    dials.better.append(better)
    assert await made.improve() is made.connection
    assert (first.closed, better.closed, dials.greetings[-1]["have"], made.continues) == (1, 0, [1, "j"], True)


async def test_a_better_channel_that_fails_costs_the_connection_and_not_the_position() -> None:
    first, better = Scripted(HELLO, line(1)), Scripted(anyio.EndOfStream)
    made, dials = uplink(first)
    await made.connect(resume=False)
    await made.receive()
    dials.better.append(better)
    with pytest.raises(ConnectionLost):
        await made.improve()
    assert (made.connection, made.position) == (None, Position(1, "j"))
    assert (first.closed, better.closed) == (1, 1)


class Keeping(Dials):
    """Connections to an agent that keeps what it says. ``lines``: how each breaks; those after them last."""

    def __init__(self, *lines: tuple[int, bool]) -> None:
        super().__init__()
        self.agent = KeepingAgent()
        self.lines = list(lines)

    async def connect(self, greeting: bytes) -> Channel:
        return Line(self.agent, greeting, *(self.lines.pop(0) if self.lines else (None, False)))


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("breaks", range(1, 9))
async def test_an_input_is_taken_once_and_its_lines_come_once_however_connections_break(
    breaks: int, deaf: bool
) -> None:
    """For whoever has no conversation: it says again what was not answered, and resumes."""
    dials = Keeping((breaks, deaf), (1, True), (2, False))
    made, answered, lines = Uplink(dials, Log("demo", "memory")), False, 0
    while lines < 8:
        try:
            if made.connection is None:
                await made.connect(resume=made.position is not None)
                if not answered and made.link is not None:
                    made.link.send_input("i", {"type": "user"})
            await made.write()
            for event in await made.receive() or []:
                answered = answered or isinstance(event, Took)
                lines += isinstance(event, Output)
        except ConnectionLost:
            await made.disconnect()
            assert made.count_loss(resumable=True)
    assert dials.agent.given == ["i"]
    assert lines == 8
