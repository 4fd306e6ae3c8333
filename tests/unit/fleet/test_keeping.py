"""What turns end is kept before their results are told, and each once. covers: B11"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.abc
import pytest

from cc_bridge import TurnResult, Verdict
from cc_bridge.fleet.feed import Feed, FeedPosition, Heard
from cc_bridge.fleet.keeping import Keeping
from cc_bridge.logs import Log
from cc_bridge.turn import Keep

pytestmark = pytest.mark.anyio

WHOLE, FAILED = TurnResult(Verdict.COMPLETED, "hello"), TurnResult(Verdict.FAILED, "")


class Kept:
    """What was kept, each when the test lets it; nothing but the first counts."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self.feed = Feed()
        self.feed.begin("j", 0)
        self.begun: list[str] = []
        self.may_end = anyio.Semaphore(0)
        self.is_on = True
        self.keeping = Keeping(self.feed, self._before, group.start_soon, lambda: None, Log("i", "fleet"))
        self._seq = 0

    def _before(self) -> object:
        return self._keep_of if self.is_on else None

    def _keep_of(self, turn: str) -> Keep:
        async def keep() -> str:
            self.begun.append(turn)
            await self.may_end.acquire()
            return "" if len(self.begun) == 1 else "it was too late"

        return keep

    def hears(self, turn: str, result: TurnResult = WHOLE) -> None:
        self._seq += 1
        self.feed.add(Heard(FeedPosition("j", self._seq, 0), turn, result), 10, is_held=self.keeping.holds(result))
        self.keeping.heard(turn, result)

    @property
    def told(self) -> list[tuple[str, Verdict]]:
        events = [(heard.turn, heard.event) for heard in self.feed.since(self.feed.first)]
        return [(turn, event.verdict) for turn, event in events if isinstance(event, TurnResult)]

    async def let_end(self, count: int = 1) -> None:
        for _ in range(count):
            self.may_end.release()
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    async with anyio.create_task_group() as group:
        yield Kept(group)
        group.cancel_scope.cancel()


async def test_who_reads_again_what_is_being_kept_has_the_same_answer(kept: Kept) -> None:
    """One whose memory is full reads the journal meanwhile."""
    kept.hears("a")
    await anyio.wait_all_tasks_blocked()
    said: list[str] = []

    async def read_again() -> None:
        said.append(await kept.keeping.heard_again("a"))

    async with anyio.create_task_group() as group:
        group.start_soon(read_again)
        await anyio.wait_all_tasks_blocked()
        await kept.let_end(2)
    assert (kept.begun, said, kept.told) == (["a"], [""], [("a", Verdict.COMPLETED)])


async def test_an_end_that_an_agent_says_twice_holds_nothing_up(kept: Kept) -> None:
    kept.hears("a")
    kept.hears("a")
    kept.hears("b")
    await kept.let_end(2)
    assert kept.told == [("a", Verdict.COMPLETED), ("a", Verdict.COMPLETED), ("b", Verdict.INTERRUPTED)]
    assert not kept.keeping


async def test_one_copy_does_for_turns_without_an_answer_that_had_ended_before_it_began(kept: Kept) -> None:
    kept.hears("a", FAILED)
    kept.hears("b", FAILED)
    await anyio.wait_all_tasks_blocked()
    kept.hears("c", FAILED)
    await kept.let_end(3)
    assert len(kept.begun) == 2
    assert kept.told == [(turn, Verdict.FAILED) for turn in "abc"]


async def test_what_ends_when_nothing_need_be_kept_is_told_at_once_and_kept_when_it_has_to_be(kept: Kept) -> None:
    """It is being removed, and then is not."""
    kept.is_on = False
    kept.hears("a")
    assert (kept.told, bool(kept.keeping)) == ([("a", Verdict.COMPLETED)], False)
    kept.is_on = True
    kept.keeping.keep_what_is_there()
    await kept.let_end()
    assert len(kept.begun) == 1
    assert not kept.keeping
