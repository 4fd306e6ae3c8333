"""The bridge over a channel in memory, with faults that a real one has seldom. covers: C12, C13, C16"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from cc_bridge.channels.base import Channel
from cc_bridge.errors import AgentUnavailable, ConnectionLost
from cc_bridge.events import TextDelta, TurnResult, Verdict
from cc_bridge.instances.bridge import Bridge, Launch
from cc_bridge.logs import logger_for
from cc_bridge.testing.memory_channel import MemoryChannel

pytestmark = pytest.mark.anyio


class Place:
    """A place whose channels are in memory; each connection may be told to fail."""

    claude_hint = None

    name = "demo"

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.channels: list[MemoryChannel] = []

    async def connect(self, greeting: bytes) -> Channel:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "unavailable":
            raise AgentUnavailable("nobody is there", instance=self.name)
        channel = MemoryChannel(greeting)
        self.channels.append(channel)
        if fault == "dies after hello":
            channel.end()
        elif fault.startswith("breaks after "):
            channel.break_after(int(fault.split()[-1]))
        elif fault == "mute":
            channel._waiting.clear()
        return channel

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        return None

    async def launch(self, session_id: str) -> Launch:
        return Launch(["echo"], {}, "/")

    async def read_transcript(self, session_id: str) -> list[str] | None:
        return None

    def session_changed(self, session_id: str) -> None:
        pass


def bridge(place: Place) -> Bridge:
    return Bridge(place, logger_for("demo", "memory"), silence=30, interrupt_limit=1)


#: The echo says the user's message again, and nothing else: enough to see that it arrived.
async def arrives(made: Bridge, place: Place) -> bool:
    async with await made.submit("hello") as turn:
        with anyio.move_on_after(0.2):
            await turn.result()
        return place.channels[-1]._stand_in._seq >= 2


@pytest.mark.parametrize("fault", ["dies after hello", "breaks after 0", "breaks after 60", "breaks after 150"])
async def test_a_connection_that_breaks_before_the_command_was_taken_is_made_again(fault: str) -> None:
    place = Place(fault)
    assert await arrives(bridge(place), place)
    assert len(place.channels) == 2


async def test_not_for_ever() -> None:
    place = Place(*["dies after hello"] * 50)
    made = bridge(place)
    async with await made.submit("hello") as turn:
        with anyio.fail_after(5):
            result = await turn.result()
    assert result.verdict is Verdict.FAILED
    assert "the connection to the agent broke" in result.error or "closed the connection" in result.error
    assert len(place.channels) < 10


async def test_who_cannot_connect_is_told_and_may_try_again() -> None:
    place = Place("unavailable")
    made = bridge(place)
    with pytest.raises(AgentUnavailable, match="demo: nobody is there"):
        await made.make_ready()
    await made.make_ready()
    assert made.channel_kind == "memory"
    await made.aclose()


async def test_an_agent_without_a_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cc_bridge.instances.connection._HELLO_LIMIT", 0.05)
    with pytest.raises(AgentUnavailable, match="hello"):
        await bridge(Place("mute")).make_ready()


async def test_closing_ends_turns_and_wakes_their_readers() -> None:
    place = Place()
    made = bridge(place)
    turn = await made.submit("hello")
    results: list[TurnResult] = []

    async def read() -> None:
        results.append(await turn.result())

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        await made.aclose("the instance was stopped")
    assert [result.verdict for result in results] in ([Verdict.INTERRUPTED], [Verdict.FAILED])
    assert results[0].error == "the instance was stopped"


async def test_garbage_from_the_agent_closes_the_connection_and_the_next_command_works() -> None:
    place = Place()
    made = bridge(place)
    await made.make_ready()
    place.channels[0]._waiting.append(b"garbage\n")
    assert await arrives(made, place)
    assert len(place.channels) == 2


def test_connection_lost_is_a_channel_error_with_a_name() -> None:
    assert str(ConnectionLost("it broke", instance="demo")) == "demo: it broke"


def test_events_are_values() -> None:
    assert TextDelta("a") == TextDelta("a")
    made: Any = TextDelta("a")
    with pytest.raises(AttributeError):
        made.text = "b"
