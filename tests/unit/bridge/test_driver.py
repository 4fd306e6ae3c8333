"""The I/O of one conversation: what breaks at which step, and what is not lost with it. covers: B1, C12"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from cc_bridge.bridge import driver as module
from cc_bridge.bridge.driver import Driver
from cc_bridge.bridge.surroundings import Ending, Launch
from cc_bridge.errors import AgentUnavailable, BridgeError, ConnectionLost, EngineError, TurnNotFound
from cc_bridge.events import TurnResult, Verdict
from cc_bridge.logs import Log
from cc_bridge.protocol.conversation import Conversation
from cc_bridge.protocol.link import Position

from .scripted_channel import HELLO, Dials, Scripted

pytestmark = pytest.mark.anyio

TURN = "6f1f0a1c-9d0a-4c53-9d8e-111111111111"
RUNNING = HELLO | {"state": "running"}
RESUMED = RUNNING | {"seq": 2, "from": 3}
TOOK = {"seq": 1, "took": TURN}
INIT = {"seq": 2, "out": {"type": "system", "subtype": "init", "session_id": "s"}}
RESULT = {"type": "result", "subtype": "success", "result": "hello", "user_message_uuids": [TURN], "session_id": "s"}


class Place(Dials):
    """Surroundings whose channels are scripted."""

    claude_hint = None
    lease = None

    def __init__(self, *channels: Scripted | Exception) -> None:
        super().__init__(*channels)
        self.is_there = self.rests = True
        self.starts: list[str] = []
        self.transcript: list[str] | Exception | None = None
        self.may_read = anyio.Event()
        self.may_read.set()
        self.read: list[str] = []

    def exists(self) -> bool:
        return self.is_there

    async def rest(self) -> bool:
        return self.rests

    @asynccontextmanager
    async def _starting(self) -> AsyncIterator[None]:
        self.starts.append("begun")
        yield
        self.starts.append("done")

    def starting(self, abandon: Callable[[], Awaitable[None]], *, drives: bool = False) -> Any:
        return self._starting()

    def pop_ending(self) -> Ending:
        return Ending("")

    async def launch(self, session_id: str) -> Launch:
        return Launch(["claude"], {}, "/w")

    async def read_transcript(self, session_id: str) -> list[str] | None:
        self.read.append(session_id)
        await self.may_read.wait()
        if isinstance(self.transcript, Exception):
            raise self.transcript
        return self.transcript

    def session_changed(self, session_id: str) -> None:
        return


def driver(place: Place, *, interrupt_limit: float = 10, follow: str = "") -> Driver:
    conversation = Conversation(silence=30, interrupt_limit=interrupt_limit)
    return Driver(place, Log("demo", "memory"), conversation, follow=follow)


async def submitted(place: Place, **options: Any) -> Driver:
    made = driver(place, **options)
    made.conversation.submit(TURN, "hello", anyio.current_time())
    return made


async def advance(made: Driver, steps: int = 1) -> None:
    for _ in range(steps):
        await made.advance(lambda: False)


def sent(channel: Scripted) -> list[dict[str, Any]]:
    return [json.loads(line) for data in channel.sent for line in data.splitlines()]


def kinds(channel: Scripted) -> list[str]:
    """What was said over the channel, in order."""
    return [
        next(kind for kind in ("start", "in", "withdraw", "done", "status") if kind in frame) for frame in sent(channel)
    ]


def result(made: Driver) -> TurnResult:
    [*_, found] = made.conversation.take_events(TURN)
    assert isinstance(found, TurnResult)
    return found


async def test_it_connects_starts_claude_code_and_sends() -> None:
    channel = Scripted(HELLO, {"seq": 1, "started": 1}, {"seq": 2, "took": TURN})
    place = Place(channel)
    made = await submitted(place)
    await advance(made)
    assert kinds(channel) == ["start", "in"]
    assert place.starts == ["begun", "done"]


async def test_where_claude_code_runs_it_is_not_started() -> None:
    channel = Scripted(RUNNING)
    made = await submitted(Place(channel))
    await made.make_ready()
    assert sent(channel) == []


async def test_what_was_given_up_is_withdrawn_before_claude_code_is_started_again() -> None:
    """It would be the first that it gets."""
    first = Scripted(RUNNING | {"queue": []}, {"seq": 1, "queued": TURN}, anyio.EndOfStream)
    hello = RUNNING | {"state": "exited", "seq": 2, "from": 2, "queue": [TURN]}
    second = Scripted(b"".join(json.dumps(frame).encode() + b"\n" for frame in (hello, {"seq": 2, "exit": 0})))
    second.received.append({"seq": 3, "started": 1})
    made = await submitted(Place(first, second))
    await advance(made)
    made.conversation.interrupt(TURN, anyio.current_time())
    await made.flush()
    assert kinds(first) == ["in", "withdraw"]
    await advance(made)
    await made.make_ready()
    assert kinds(second) == ["withdraw", "start"]


async def test_who_is_closed_while_it_is_asked_how_to_start_claude_code_starts_none() -> None:
    class Closing(Place):
        async def launch(self, session_id: str) -> Launch:
            await made.uplink.disconnect()
            return await super().launch(session_id)

    channel = Scripted(HELLO)
    made = driver(Closing(channel))
    with pytest.raises(ConnectionLost, match="demo"):
        await made.make_ready()
    assert channel.sent == []


async def test_when_nothing_more_is_needed_nothing_is_received() -> None:
    made = await submitted(Place(Scripted(RUNNING)))
    with anyio.fail_after(5):
        await made.advance(lambda: True)


async def test_where_another_step_came_between_nothing_is_begun() -> None:
    place = Place()
    place.rests = False
    await advance(driver(place))
    assert (place.starts, place.greetings) == ([], [])


@pytest.mark.parametrize(
    "channel",
    [
        AgentUnavailable("nobody is there"),
        Scripted(anyio.EndOfStream),
        Scripted(HELLO, anyio.EndOfStream),
        Scripted(HELLO, b"nonsense\n"),
        Scripted(HELLO, {"error": "stopping", "message": "it ends"}),
    ],
    ids=["to connect", "the hello", "the start", "the protocol", "a refusal"],
)
async def test_whatever_fails_in_getting_ready_leaves_no_connection(channel: Scripted | Exception) -> None:
    made = driver(Place(channel))
    with pytest.raises(BridgeError):
        await made.make_ready()
    assert made.uplink.connection is None
    assert isinstance(channel, Exception) or channel.closed


async def test_a_connection_that_breaks_while_the_start_is_written() -> None:
    channel = Scripted(HELLO)
    channel.fails = anyio.BrokenResourceError
    made = driver(Place(channel))
    with pytest.raises(ConnectionLost, match="demo"):
        await made.make_ready()
    assert made.uplink.connection is None


async def test_a_start_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START_LIMIT", 0)
    with pytest.raises(ConnectionLost, match="demo: the agent does not react"):
        await driver(Place(Scripted(HELLO))).make_ready()


async def test_who_cannot_connect_at_first_is_told() -> None:
    made = await submitted(Place(AgentUnavailable("nobody is there")))
    with pytest.raises(AgentUnavailable):
        await advance(made)
    assert made.conversation.is_queued(TURN)


async def test_a_turn_goes_on_over_the_next_connection() -> None:
    second = Scripted(RESUMED, {"seq": 3, "out": RESULT})
    place = Place(Scripted(RUNNING, TOOK, INIT, anyio.EndOfStream), AgentUnavailable("not yet"), second)
    made = await submitted(place)
    await advance(made, 5)
    assert result(made).verdict is Verdict.COMPLETED
    assert [greeting.get("have") for greeting in place.greetings] == [None, [2, "j"], [2, "j"]]
    assert kinds(second) == ["done"], "the command is not sent again"


@pytest.mark.parametrize("what", ["it was removed", "the protocol was broken"])
async def test_a_turn_does_not_go_on_where(what: str) -> None:
    broken = b"nonsense\n" if what == "the protocol was broken" else anyio.EndOfStream
    place = Place(Scripted(RUNNING, TOOK, INIT, broken))
    place.is_there = what != "it was removed"
    made = await submitted(place)
    await advance(made, 3)
    assert result(made).verdict is Verdict.INTERRUPTED
    assert made.uplink.position is None


async def test_a_turn_that_is_followed_and_not_kept_is_not_found() -> None:
    gone = {"error": "gone", "message": "not kept"}
    made = driver(Place(Scripted(gone)), follow=TURN)
    made.conversation.follow(TURN, 0)
    with pytest.raises(TurnNotFound, match="not kept"):
        await made.make_ready()


async def test_one_that_was_set_aside_and_is_kept_no_more_is_interrupted() -> None:
    place = Place(Scripted(RUNNING, TOOK, INIT), Scripted({"error": "gone", "message": "not kept"}))
    made = await submitted(place)
    await advance(made, 2)
    aside = made.split_off(TURN)
    await advance(aside)
    assert (result(aside).verdict, place.greetings[-1]["have"]) == (Verdict.INTERRUPTED, [2, "j"])


async def test_a_turn_that_is_split_off_goes_on_from_where_it_was() -> None:
    place = Place(Scripted(RUNNING, TOOK, INIT), Scripted(RESUMED, {"seq": 3, "out": RESULT}))
    made = await submitted(place)
    await advance(made, 2)
    aside = made.split_off(TURN)
    assert made.conversation.is_done(TURN)
    assert (made.uplink.position, aside.uplink.position) == (Position(2, "j"), Position(2, "j"))
    await advance(aside)
    assert result(aside).verdict is Verdict.COMPLETED
    assert made.uplink.connection is not None


async def test_a_flush_says_at_once_what_is_wanted_and_where_nobody_is_connected_it_keeps_it() -> None:
    channel = Scripted(RUNNING)
    made = await submitted(Place(channel))
    await made.flush()
    await made.make_ready()
    await made.flush()
    assert kinds(channel) == ["in"]


async def test_a_flush_that_fails_closes_the_connection_for_who_receives() -> None:
    channel = Scripted(RUNNING)
    made = await submitted(Place(channel))
    await made.make_ready()
    channel.fails = anyio.BrokenResourceError
    await made.flush()
    assert channel.closed == 1


async def silent_turn(place: Place) -> Driver:
    """Whose transcript is wanted."""
    made = await submitted(place)
    await advance(made, 2)
    made.conversation.handle_timer(anyio.current_time() + 31)
    return made


async def test_a_transcript_whose_reading_is_cancelled_is_read_later() -> None:
    place = Place(Scripted(RUNNING, TOOK, INIT))
    made = await silent_turn(place)
    place.may_read = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(made.flush)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert place.read == ["s"]
    place.may_read.set()
    await made.flush()
    assert place.read == ["s", "s"]
    await made.flush()
    assert place.read == ["s", "s"], "it was read"


async def test_an_interrupt_does_not_wait_for_a_transcript_that_is_read() -> None:
    """covers: L3"""
    channel = Scripted(RUNNING, TOOK, INIT)
    place = Place(channel)
    made = await silent_turn(place)
    place.may_read = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(made.flush)
            await anyio.wait_all_tasks_blocked()
            made.conversation.interrupt(TURN, anyio.current_time())
            await made.flush()
            assert [frame["in"]["request"]["subtype"] for frame in sent(channel)[1:]] == ["interrupt"]
            place.may_read.set()


async def test_who_is_cancelled_before_it_could_say_something_has_taken_nothing() -> None:
    channel = Scripted(RUNNING, TOOK, INIT)
    place = Place(channel)
    made = await silent_turn(place)
    place.may_read = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(made.flush)
        await anyio.wait_all_tasks_blocked()
        made.conversation.interrupt(TURN, anyio.current_time())
        with anyio.move_on_after(0) as scope:
            await made.flush()
        assert scope.cancelled_caught
        place.may_read.set()
    assert [frame["in"]["request"]["subtype"] for frame in sent(channel)[1:]] == ["interrupt"]


async def test_a_transcript_that_cannot_be_read_costs_nothing() -> None:
    place = Place(Scripted(RUNNING, TOOK, INIT))
    made = await silent_turn(place)
    place.transcript = EngineError("no engine")
    await made.flush()
    assert not made.conversation.is_done(TURN)


async def test_a_deadline_that_comes_earlier_wakes_who_receives() -> None:
    """An interrupt has a shorter limit than the silence for which somebody waits already."""
    place = Place(Scripted(RUNNING, TOOK, INIT))
    made = await submitted(place, interrupt_limit=0)
    await advance(made, 2)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(advance, made)
            await anyio.wait_all_tasks_blocked()
            made.conversation.interrupt(TURN, anyio.current_time())
            await made.flush()


async def test_who_is_abandoned_begins_anew_and_starts_claude_code_again() -> None:
    first, second = Scripted(RUNNING), Scripted(HELLO, {"seq": 1, "started": 1})
    place = Place(first, second)
    made = driver(place)
    await made.make_ready()
    await made.abandon()
    assert (made.uplink.connection, made.uplink.position, first.closed) == (None, None, 1)
    await made.make_ready()
    assert kinds(second) == ["start"]


@pytest.mark.parametrize("ends", ["give_up", "close"])
async def test_what_cannot_be_reached_any_more_is_interrupted(ends: str) -> None:
    made = await submitted(Place(Scripted(RUNNING, TOOK, INIT)))
    await advance(made, 2)
    await made.uplink.disconnect()
    getattr(made, ends)("the reason")
    found = result(made)
    assert (found.verdict, found.error, made.uplink.position) == (Verdict.INTERRUPTED, "the reason", None)


STATUS = {"status": {"state": "asleep"}, "turns": []}


async def test_one_that_has_gone_to_sleep_meanwhile_is_started_ahead_of_a_command() -> None:
    """Nobody has read since the last turn. covers: B7"""
    channel = Scripted(RUNNING, {"seq": 1, "exit": 0, "asleep": True}, STATUS, {"seq": 2, "started": 2})
    made = driver(Place(channel))
    await made.make_ready()
    assert sent(channel) == []
    await made.make_ready()
    assert kinds(channel) == ["status", "start"]


async def test_one_whose_agent_has_ended_meanwhile_is_connected_to_anew() -> None:
    """covers: B7"""
    first, second = Scripted(RUNNING, anyio.EndOfStream), Scripted(HELLO, {"seq": 1, "started": 1})
    made = driver(Place(first, second))
    await made.make_ready()
    await made.make_ready()
    assert (kinds(first), kinds(second)) == (["status"], ["start"])


async def test_the_times_to_sleep_go_with_the_start() -> None:
    """covers: B7"""

    class Sleepy(Place):
        async def launch(self, session_id: str) -> Launch:
            return Launch(["claude"], {}, "/w", sleep_after=5, stop_after=7)

    channel = Scripted(HELLO, {"seq": 1, "started": 1})
    await driver(Sleepy(channel)).make_ready()
    (said,) = sent(channel)
    assert (said["start"]["sleep"], said["start"]["stop"]) == (5, 7)
