"""The bridge over a channel in memory, with faults that a real one has seldom. covers: C12, C13, C16"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies

from cc_bridge.bridge.bridge import Bridge
from cc_bridge.bridge.surroundings import Launch
from cc_bridge.channels.base import Channel
from cc_bridge.errors import AgentUnavailable, ConnectionLost
from cc_bridge.events import TextDelta, TurnResult, Verdict
from cc_bridge.instances.life import Step
from cc_bridge.instances.steps import Steps
from cc_bridge.logs import Log
from cc_bridge.testing.memory_channel import MemoryChannel

from .keeping_agent import KeepingAgent, Line

pytestmark = pytest.mark.anyio


class Place:
    """A place whose channels are in memory; each connection may be told to fail."""

    claude_hint = None
    lease = None

    name = "demo"

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.steps = Steps(self.name)
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

    async def rest(self) -> bool:
        return await self.steps.rest()

    def starting(
        self, abandon: Callable[[], Awaitable[None]], *, drives: bool = False
    ) -> AbstractAsyncContextManager[None]:
        return self.steps.take(Step.START)

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        return None

    async def launch(self, session_id: str) -> Launch:
        return Launch(["echo"], {}, "/")

    async def read_transcript(self, session_id: str) -> list[str] | None:
        return None

    def session_changed(self, session_id: str) -> None:
        pass


def bridge(place: Place) -> Bridge:
    return Bridge(place, Log("demo", "memory"), silence=30, interrupt_limit=1)


#: The echo says the user's message again, and nothing else: enough to see that it arrived.
async def arrives(made: Bridge, place: Place) -> bool:
    def has_arrived() -> bool:
        return bool(place.channels) and place.channels[-1]._stand_in._seq >= 2

    async with await made.submit("hello") as turn, anyio.create_task_group() as group:
        group.start_soon(turn.result)
        with anyio.move_on_after(10):
            while not has_arrived():
                await anyio.sleep(0.005)
        group.cancel_scope.cancel()
        return has_arrived()


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
    assert result.error == "demo: the connection to the agent broke"
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
    monkeypatch.setattr("cc_bridge.bridge.connection._HELLO_LIMIT", 0.05)
    with pytest.raises(AgentUnavailable, match="hello"):
        await bridge(Place("mute")).make_ready()


async def test_closing_ends_turns_and_wakes_their_readers() -> None:
    """One that was accepted is interrupted; one that waits has failed."""
    made = bridge(Place())
    turns = [await made.submit("hello"), await made.submit("waits")]
    results: dict[int, TurnResult] = {}

    async def read(number: int) -> None:
        results[number] = await turns[number].result()

    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(read, number)
        await anyio.wait_all_tasks_blocked()
        await made.aclose("the instance was stopped")
    assert [results[number].verdict for number in range(2)] == [Verdict.INTERRUPTED, Verdict.FAILED]
    assert {result.error for result in results.values()} == {"the instance was stopped"}


async def test_garbage_from_the_agent_closes_the_connection_and_the_next_command_works() -> None:
    place = Place()
    made = bridge(place)
    await made.make_ready()
    place.channels[0]._waiting.append(b"garbage\n")
    assert await arrives(made, place)
    assert len(place.channels) == 2


# Connections that are taken up again


ID = "6f1f0a1c-9d0a-4c53-9d8e-111111111111"


class Reachable(Place):
    """Where such an agent is. ``lines``: how each connection in turn breaks; those after them last."""

    def __init__(self, *lines: tuple[int, bool]) -> None:
        super().__init__()
        self.agent = KeepingAgent()
        self.unreachable = False
        self._lines = list(lines)

    async def connect(self, greeting: bytes) -> Channel:
        if self.unreachable:
            raise AgentUnavailable("nobody is there", instance=self.name)
        return Line(self.agent, greeting, *(self._lines.pop(0) if self._lines else (None, False)))

    def exists(self) -> bool:
        return True

    @property
    def asked_for(self) -> list[Any]:
        """From where each connection was to begin."""
        return [hello.get("have") for hello in self.agent.hellos]


#: How many a turn has: the hello, that it was taken, three before the first piece and two after the last.
FRAMES = 7 + len(KeepingAgent.PIECES)
WHOLE = "".join(KeepingAgent.PIECES)

HEARS, DEAF = False, True


async def answer(made: Bridge, turn_id: str | None = None) -> tuple[list[str], TurnResult]:
    """The pieces of an answer as its reader gets them, and the result."""
    said: list[str] = []
    with anyio.fail_after(20):
        async for event in await made.submit("hello", turn_id):
            if isinstance(event, TextDelta):
                said.append(event.text)
            if isinstance(event, TurnResult):
                return said, event
    raise AssertionError("no result")


@pytest.mark.parametrize("received", range(2, FRAMES))
async def test_a_turn_that_was_taken_goes_on_after_the_last_frame(received: int) -> None:
    """Wherever its connection breaks: the next has what has not come, and the command is not sent again."""
    place = Reachable((received, HEARS))
    said, result = await answer(bridge(place))
    assert (said, result.verdict, result.text) == (list(KeepingAgent.PIECES), Verdict.COMPLETED, WHOLE)
    assert place.asked_for == [None, [received - 1, "j"]]
    assert len(place.agent.sent) == 1


async def test_an_input_that_was_not_answered_is_sent_again() -> None:
    """It was lost on its way."""
    place = Reachable((1, DEAF))
    _, result = await answer(bridge(place))
    assert (result.verdict, result.text) == (Verdict.COMPLETED, WHOLE)
    assert place.asked_for == [None, [0, "j"]]
    assert len(place.agent.sent) == len(place.agent.given) == 1


async def test_an_input_that_was_taken_unheard_is_sent_again_and_runs_once() -> None:
    """It had come, and the answer was lost. "Again" is what the host wants to hear, and no sign of another's turn."""
    place = Reachable((1, HEARS))
    said, result = await answer(bridge(place))
    assert (said, result.verdict) == (list(KeepingAgent.PIECES), Verdict.COMPLETED)
    assert place.agent.sent == place.agent.given * 2
    assert [hello for hello in place.agent.hellos if "turn" in hello] == []


async def test_an_id_that_the_agent_knows_from_before_is_read_from_its_beginning() -> None:
    """ "Again" to an input that was sent once: this host's own program gave it before it was started anew."""
    place = Reachable()
    await answer(bridge(place), ID)
    said, result = await answer(bridge(place), ID)
    assert (said, result.verdict, result.text) == (list(KeepingAgent.PIECES), Verdict.COMPLETED, WHOLE)
    assert place.agent.given == [ID]
    assert [hello["turn"] for hello in place.agent.hellos if "turn" in hello] == [ID]


@settings(max_examples=40)
@given(strategies.lists(strategies.tuples(strategies.integers(1, FRAMES), strategies.booleans()), max_size=4))
def test_however_often_it_breaks_the_answer_is_whole_and_the_command_runs_once(lines: list[tuple[int, bool]]) -> None:
    """A connection on which only the hello comes shows that somebody is there, so it is tried on."""

    async def play() -> None:
        place = Reachable(*lines)
        said, result = await answer(bridge(place))
        assert (said, result.verdict, result.text) == (list(KeepingAgent.PIECES), Verdict.COMPLETED, WHOLE)
        assert len(place.agent.given) == 1

    anyio.run(play)


async def test_frames_that_are_gone_interrupt_the_turn_and_the_next_begins_anew() -> None:
    place = Reachable((6, HEARS))
    made = bridge(place)
    async with await made.submit("hello") as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                place.agent.journal = "another"
        result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, KeepingAgent.PIECES[0])
    assert "these frames are not kept" in result.error
    assert (await answer(made))[1].verdict is Verdict.COMPLETED
    assert place.asked_for == [None, [5, "j"], None]


async def test_nobody_is_there_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up in the end, with what had come; and a later command finds whoever is there then."""
    monkeypatch.setattr("cc_bridge.bridge.uplink._RESUME_LIMIT", 0.2)
    place = Reachable((7, HEARS))
    made = bridge(place)
    async with await made.submit("hello") as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                place.unreachable = True
        result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "".join(KeepingAgent.PIECES[:2]))
    assert "nobody is there" in result.error
    place.unreachable = False
    assert (await answer(made))[1].verdict is Verdict.COMPLETED


async def test_a_connection_that_broke_between_two_turns_costs_the_next_command_nothing() -> None:
    """It is noticed only with the next command, which has been written into it."""
    place = Reachable((FRAMES, HEARS), (1, DEAF))
    made = bridge(place)
    assert (await answer(made))[1].verdict is Verdict.COMPLETED
    said, result = await answer(made)
    assert (said, result.verdict) == (list(KeepingAgent.PIECES), Verdict.COMPLETED)
    assert place.asked_for == [None, [FRAMES - 1, "j"], [FRAMES - 1, "j"]]
    assert len(place.agent.given) == 2


def test_connection_lost_is_a_channel_error_with_a_name() -> None:
    assert str(ConnectionLost("it broke", instance="demo")) == "demo: it broke"


def test_events_are_values() -> None:
    assert TextDelta("a") == TextDelta("a")
    made: Any = TextDelta("a")
    with pytest.raises(AttributeError):
        made.text = "b"
