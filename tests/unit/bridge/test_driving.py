"""A conversation that needs a lease: what is held back, what is read all the same, and what is said again."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from cc_bridge.bridge.driver import Driver
from cc_bridge.errors import EngineUnavailable, LeaseLost
from cc_bridge.logs import Log
from cc_bridge.protocol.conversation import Conversation

from .scripted_channel import HELLO, Scripted
from .test_driver import INIT, RESULT, TURN, Place, advance, kinds, sent

pytestmark = pytest.mark.anyio

OTHER = "6f1f0a1c-9d0a-4c53-9d8e-222222222222"
RUNNING = HELLO | {"state": "running", "queue": []}
RESUMED = RUNNING | {"seq": 2, "from": 3}
TOOK = {"seq": 1, "took": TURN}
FENCED = {"error": "fence", "message": "another program has fence 9"}


class Lease:
    """A lease whose takings are counted, and which others may have."""

    def __init__(self) -> None:
        self.fence: int | None = None
        self.renew_at, self.next = math.inf, 5
        self.errors: list[Exception] = []
        self.told: list[str] = []

    def take(self) -> None:
        self.fence, self.next = self.fence or self.next, self.next + 1
        self.told.append("taken")

    async def renew(self) -> bool:
        self.told.append("renewed")
        self.renew_at = math.inf
        return self.fence is not None

    async def confirm(self) -> None:
        self.told.append("confirmed")
        if self.errors:
            raise self.errors.pop()

    def overtaken(self) -> None:
        self.told.append("overtaken")
        self.fence = None

    async def give_up(self) -> None:
        self.told.append("given up")
        self.fence = None


class Shared(Place):
    """A place with a lease, which is taken before something begins."""

    def __init__(self, *channels: Scripted | Exception) -> None:
        super().__init__(*channels)
        self.lease = Lease()

    def starting(self, abandon: Callable[[], Awaitable[None]], *, drives: bool = False) -> Any:
        @asynccontextmanager
        async def starting() -> AsyncIterator[None]:
            if drives:
                self.lease.take()
            yield

        return starting()


def fences(place: Shared) -> list[int | None]:
    return [greeting.get("fence") for greeting in place.greetings]


def made_for(place: Shared, *turns: str) -> Driver:
    made = Driver(place, Log("demo", "memory"), Conversation())
    for turn in turns:
        made.conversation.submit(turn, "hello", anyio.current_time())
    return made


async def test_the_lease_is_taken_confirmed_and_given_up_when_all_has_ended() -> None:
    channel = Scripted(RUNNING, TOOK, INIT, {"seq": 3, "out": RESULT})
    place = Shared(channel)
    made = made_for(place, TURN)
    await advance(made)
    await made.rest()
    assert (fences(place), kinds(channel), place.lease.told) == ([5], ["in"], ["taken", "confirmed"])
    await advance(made, 2)
    await made.rest()
    assert place.lease.told[2:] == ["given up"]
    await made.rest()
    assert place.lease.told[3:] == []


async def test_who_gets_ready_does_so_again_where_another_was_quicker() -> None:
    place = Shared(Scripted(FENCED), Scripted(RUNNING))
    made = made_for(place)
    await made.make_ready()
    assert fences(place) == [5, 6]


async def test_an_agent_that_refuses_every_fence_is_not_asked_for_ever() -> None:
    place = Shared(*[Scripted(FENCED) for _ in range(20)])
    with pytest.raises(LeaseLost, match="fence 9"):
        await made_for(place).make_ready()
    assert 1 < len(fences(place)) < 20


async def test_nothing_is_sent_before_the_lease_was_confirmed() -> None:
    """This program may have slept between its taking and its hello, and another one may drive."""
    channel, again = Scripted(RUNNING), Scripted(RUNNING, TOOK)
    place = Shared(channel, again)
    place.lease.errors = [LeaseLost("it is another's")]
    await advance(made_for(place, TURN))
    assert (channel.sent, channel.closed) == ([], 1)
    assert (fences(place), kinds(again)) == ([5, 6], ["in"])


async def test_a_command_that_was_not_answered_is_sent_again_when_the_lease_is_held_again() -> None:
    first, second = Scripted(RUNNING, FENCED), Scripted(RUNNING | {"from": 1}, TOOK)
    place = Shared(first, second)
    made = made_for(place, TURN)
    await advance(made, 2)
    assert place.lease.told == ["taken", "confirmed", "overtaken", "taken", "confirmed"]
    assert [frame.get("id") for frame in [*sent(first), *sent(second)]] == [TURN, TURN]


async def test_a_refused_hello_takes_the_lease_anew() -> None:
    place = Shared(Scripted(FENCED), Scripted(RUNNING, TOOK))
    made = made_for(place, TURN)
    await advance(made)
    assert fences(place) == [5, 6]


async def test_a_turn_that_was_accepted_is_read_on_without_the_lease() -> None:
    """Its permissions have to be decided, whoever drives: waiting for the lease would be waiting for oneself."""
    first = Scripted(RUNNING, TOOK, INIT, FENCED)
    second = Scripted(RESUMED, {"seq": 3, "out": RESULT})
    place = Shared(first, second)
    made = made_for(place, TURN)
    await advance(made, 3)
    made.conversation.submit(OTHER, "what waits", anyio.current_time())
    await advance(made)
    assert fences(place) == [5, None]
    assert place.lease.fence is None
    assert "in" not in kinds(second), "the other one is held back"
    assert made.conversation.is_done(TURN)


async def test_what_was_held_back_is_sent_when_nothing_is_read_any_more() -> None:
    first, second = Scripted(RUNNING, TOOK, INIT, FENCED), Scripted(RESUMED, {"seq": 3, "out": RESULT})
    third = Scripted(RUNNING | {"seq": 3, "from": 4}, {"seq": 4, "took": OTHER})
    place = Shared(first, second, third)
    made = made_for(place, TURN)
    await advance(made, 3)
    made.conversation.submit(OTHER, "what waits", anyio.current_time())
    await advance(made, 2)
    assert fences(place) == [5, None, 6]
    assert [frame["id"] for frame in sent(third) if "in" in frame] == [OTHER]


async def test_decisions_and_interrupts_are_not_held_back() -> None:
    first, second = Scripted(RUNNING, TOOK, INIT, FENCED), Scripted(RESUMED)
    place = Shared(first, second)
    made = made_for(place, TURN)
    await advance(made, 3)
    made.conversation.interrupt(TURN, anyio.current_time())
    await made.advance(lambda: True)
    assert [frame["in"]["request"]["subtype"] for frame in sent(second) if "in" in frame] == ["interrupt"]


async def test_a_lease_that_nobody_else_has_had_needs_no_other_connection() -> None:
    channel = Scripted(RUNNING, TOOK, INIT, {"seq": 3, "out": RESULT}, {"seq": 4, "took": OTHER})
    place = Shared(channel)
    made = made_for(place, TURN)
    await advance(made, 3)
    await made.rest()
    made.conversation.submit(OTHER, "the next", anyio.current_time())
    await made.flush()
    assert [frame["id"] for frame in sent(channel) if "in" in frame] == [TURN], "not before the lease is held"
    place.lease.next = 5
    await advance(made)
    assert [frame["id"] for frame in sent(channel) if "in" in frame] == [TURN, OTHER]
    assert len(place.greetings) == 1


async def test_with_another_fence_the_connection_is_another() -> None:
    first = Scripted(RUNNING, TOOK, INIT, {"seq": 3, "out": RESULT})
    second = Scripted(RUNNING | {"seq": 3, "from": 4}, {"seq": 4, "took": OTHER})
    place = Shared(first, second)
    made = made_for(place, TURN)
    await advance(made, 3)
    await made.rest()
    made.conversation.submit(OTHER, "the next", anyio.current_time())
    await advance(made)
    assert (fences(place), first.closed) == ([5, 6], 1)


async def test_it_is_renewed_while_nothing_comes() -> None:
    channel = Scripted(RUNNING, TOOK)
    place = Shared(channel)
    made = made_for(place, TURN)
    await advance(made)
    place.lease.renew_at = anyio.current_time() + 0.01
    with anyio.fail_after(5):
        await advance(made)
        channel.received.append(INIT)
        await advance(made)
    assert place.lease.told[-1] == "renewed"


async def test_who_cannot_confirm_tries_again() -> None:
    place = Shared(Scripted(RUNNING), Scripted(RUNNING, TOOK))
    place.lease.errors = [EngineUnavailable("the manager is away")]
    made = made_for(place, TURN)
    await advance(made, 2)
    assert fences(place) == [5, 5]


async def test_who_follows_another_programs_turn_needs_no_lease() -> None:
    place = Shared(Scripted(RUNNING | {"open": [TURN], "seq": 1, "from": 1}, TOOK))
    conversation = Conversation()
    conversation.follow(TURN, anyio.current_time())
    made = Driver(place, Log("demo", "memory"), conversation, follow=TURN)
    await advance(made)
    assert (fences(place), place.lease.told) == ([None], [])


@pytest.mark.parametrize("receives", [True, False])
async def test_a_command_that_comes_while_the_lease_is_given_up_takes_it_again(receives: bool) -> None:
    """Whether its task receives by then, or is on its way there: it has seen the lease held."""
    first = Scripted(RUNNING, TOOK, INIT, {"seq": 3, "out": RESULT})
    second = Scripted(RUNNING | {"seq": 3, "from": 4}, {"seq": 4, "took": OTHER})
    place = Shared(first, second)
    made = made_for(place, TURN)
    await advance(made, 3)
    giving_up, may_be_given = anyio.Event(), anyio.Event()

    async def give_up() -> None:
        giving_up.set()
        await may_be_given.wait()
        place.lease.fence = None

    async def say_it_later() -> None:
        may_be_given.set()
        while place.lease.fence is not None:
            await anyio.lowlevel.checkpoint()

    place.lease.give_up = give_up  # type: ignore[method-assign]
    if not receives:
        made._carry_out = say_it_later  # type: ignore[method-assign]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(made.rest)
            await giving_up.wait()
            made.conversation.submit(OTHER, "the next", anyio.current_time())
            group.start_soon(advance, made)
            await anyio.wait_all_tasks_blocked()
            may_be_given.set()
        if not receives:
            del made._carry_out
        await advance(made)
    assert [frame["id"] for frame in sent(second) if "in" in frame] == [OTHER]
