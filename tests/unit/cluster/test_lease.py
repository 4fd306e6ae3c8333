"""A lease over a place for its note: what is read and written when, and what is left of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from cc_bridge.cluster.claim import Note
from cc_bridge.cluster.lease import Lease, ended_under, started_under
from cc_bridge.errors import EngineUnavailable, InstanceBusy, LeaseLost
from cc_bridge.logs import Log

pytestmark = pytest.mark.anyio

LONG = 1000.0

#: For a machine with one program.
NOWHERE = Path("/nowhere/at/all")

_machines = itertools.count()


class Place:
    """A note in memory, whose version others change, and which may be out of reach."""

    def __init__(self, *, exists: bool = True) -> None:
        self.text, self.version, self.exists = "", 1, exists
        self.away: Exception | None = None
        self.others: list[str] = []  # written by somebody else just before the next write
        self.writes = 0
        self.waited: list[float] = []
        self._changed = anyio.Event()

    async def read(self) -> tuple[str, int] | None:
        await self._reach()
        return (self.text, self.version) if self.exists else None

    async def make(self) -> None:
        self.exists = True

    async def write(self, text: str, version: int) -> bool:
        await self._reach()
        if self.others:
            self.put(self.others.pop(0))
        if version != self.version:
            return False
        self.writes += 1
        self.put(text)
        return True

    async def wait(self, version: int, limit: float) -> None:
        self.waited.append(limit)
        with anyio.move_on_after(limit):
            while version == self.version:
                await self._changed.wait()

    def put(self, text: str) -> None:
        self.text, self.version = text, self.version + 1
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def note(self) -> Note:
        return Note.read(self.text)

    async def _reach(self) -> None:
        await checkpoint()
        if self.away is not None:
            raise self.away


def lease(place: Place, host: str = "a host", ttl: float = LONG, machine: str = "", users: Path = NOWHERE) -> Lease:
    machine = machine or f"machine {next(_machines)}"
    return Lease(place, Log("i", "swarm"), name="i", machine=machine, users=users, host=host, ttl=ttl)


async def test_it_is_taken_once_and_given_up() -> None:
    place = Place(exists=False)
    mine = lease(place)
    await mine.take()
    assert (mine.fence, place.note.fence, place.note.host) == (place.note.fence, mine.fence, "a host")
    await mine.take()
    assert place.writes == 1, "it is held"
    await mine.give_up()
    assert (mine.fence, place.note.owner, mine.renew_at) == (None, "", float("inf"))
    await mine.give_up()
    assert place.writes == 2


async def test_who_waits_has_it_as_soon_as_it_is_given_up() -> None:
    place = Place()
    mine, other = lease(place), lease(place)
    await mine.take()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(other.take)
            await wait_all_tasks_blocked()
            assert other.fence is None
            await mine.give_up()
    assert other.fence == place.note.fence


async def test_what_is_not_renewed_is_taken_after_its_ttl() -> None:
    place = Place()
    mine, other = lease(place, ttl=0.01), lease(place, ttl=0.01)
    await mine.take()
    first = mine.fence
    assert first
    with anyio.fail_after(10):
        await other.take()
    assert (other.fence or 0) > first
    with pytest.raises(LeaseLost):
        await mine.confirm()
    assert mine.fence is None


async def test_who_waits_for_too_long_is_told_who_has_it_and_is_not_next_any_more() -> None:
    place = Place()
    await lease(place, "the elder").take()
    with pytest.raises(InstanceBusy, match="the elder"):
        await lease(place).take(0.01)
    assert place.note.next == ""


async def test_a_wait_that_was_cancelled_leaves_nothing() -> None:
    place = Place()
    await lease(place).take()
    with anyio.move_on_after(10) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(lease(place).take)
            await wait_all_tasks_blocked()
            assert place.note.next
            group.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert place.note.next == ""


async def test_what_others_write_beside_it_costs_another_try() -> None:
    """A service that is scaled has another version, and the same label."""
    place = Place()
    mine = lease(place)
    place.others = [""]
    await mine.take()
    fence = mine.fence
    place.others = [place.text]
    assert await mine.renew()
    place.others = [place.text]
    await mine.give_up()
    assert place.note == Note("", fence or 0, 2)


async def test_a_renewal_is_due_after_a_third_and_tried_again_where_it_failed() -> None:
    place = Place()
    mine = lease(place)
    await mine.take()
    before = anyio.current_time()
    assert mine.renew_at <= before + LONG / 3
    place.away = EngineUnavailable("gone")
    assert await mine.renew(), "nobody else has taken it"
    assert before < mine.renew_at <= anyio.current_time() + LONG / 3
    place.away = None
    assert await mine.renew()
    assert place.note.renewal == 2


@pytest.mark.parametrize("text", ["", Note("another", 7, 8).write()])
async def test_a_renewal_finds_that_it_is_anothers(text: str) -> None:
    place = Place()
    mine = lease(place)
    await mine.take()
    place.put(text)
    assert not await mine.renew()
    assert (mine.fence, place.text) == (None, text)


async def test_after_an_agent_has_refused_it_it_is_taken_anew() -> None:
    place = Place()
    mine = lease(place)
    await mine.take()
    first = mine.fence
    mine.overtaken()
    await mine.take()
    assert (mine.fence or 0) > (first or 0)


async def test_it_is_renewed_while_something_is_started_and_held_afterwards() -> None:
    place = Place()
    mine = lease(place, ttl=0.03)
    with anyio.fail_after(10):
        async with started_under(mine):
            while place.note.renewal < 3:
                await anyio.lowlevel.checkpoint()
        assert mine.fence == place.note.fence
        assert place.note.owner


@pytest.mark.parametrize("before", [True, False])
async def test_it_is_held_afterwards_if_it_was_before(*, before: bool) -> None:
    place = Place()
    mine = lease(place)
    if before:
        await mine.take()
    async with mine.held(1.0):
        assert mine.fence == place.note.fence
    assert (mine.fence is not None) == bool(place.note.owner) == before


@pytest.mark.parametrize("under", [started_under, lambda of: ended_under(of, 1.0)])
async def test_a_start_that_fails_and_every_end_give_it_up(under: object) -> None:
    place = Place()
    mine = lease(place)
    with pytest.raises(EngineUnavailable, match="as itself"):
        async with under(mine):  # type: ignore[operator]
            assert mine.fence is not None
            raise EngineUnavailable("as itself, and in no group")
    assert (mine.fence, place.note.owner) == (None, "")


async def test_what_is_not_there_is_ended_without_a_lease() -> None:
    place = Place(exists=False)
    async with ended_under(lease(place), 1.0):
        pass
    assert not place.exists
    async with ended_under(None, 1.0), started_under(None):
        pass


async def test_what_cannot_be_given_up_runs_out() -> None:
    place = Place()
    mine = lease(place)
    await mine.take()
    place.away = EngineUnavailable("gone")
    await mine.give_up()
    assert (mine.fence, mine.renew_at) == (None, float("inf")), "nothing is sent under it any more"
    assert place.note.owner
    place.away = None
    other = lease(place, ttl=0.01)
    with anyio.fail_after(10):
        await other.take()


async def test_a_place_out_of_reach_is_an_error_of_who_wants_it() -> None:
    place = Place()
    place.away = EngineUnavailable("gone")
    with pytest.raises(EngineUnavailable):
        await lease(place).take()


async def test_programs_of_one_machine_share_it_and_the_last_gives_it_up(tmp_path: Path) -> None:
    """Among them commands queue in the agent, as they do on one machine alone."""
    place, users = Place(), tmp_path / "lease"
    first, second = (lease(place, machine="ours", users=users) for _ in range(2))
    other = lease(place)
    await first.take()
    await second.take()
    assert first.fence == second.fence == place.note.fence
    await first.give_up()
    assert place.note.owner == "ours"
    await first.take()
    await second.give_up()
    assert place.note.owner == "ours"
    await first.give_up()
    assert place.note.owner == ""
    await other.take()
    assert place.note.owner != "ours"


async def test_one_that_begins_while_another_ends_keeps_it(tmp_path: Path) -> None:
    place, users = Place(), tmp_path / "lease"
    first, second = (lease(place, machine="ours", users=users) for _ in range(2))
    await first.take()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(first.give_up)
            group.start_soon(second.take)
    await second.confirm()


async def test_what_a_program_of_this_machine_has_taken_anew_is_everybodys_here(tmp_path: Path) -> None:
    place, users = Place(), tmp_path / "lease"
    first, second = (lease(place, machine="ours", users=users) for _ in range(2))
    await first.take()
    await second.take()
    second.overtaken()  # an agent has said so
    await second.take()
    assert (second.fence or 0) > (first.fence or 0)
    assert await first.renew()
    assert first.fence == second.fence
    second.overtaken()
    await second.take()
    with pytest.raises(LeaseLost):
        await first.confirm()
    await first.take()
    assert first.fence == second.fence


async def test_it_is_not_given_up_while_something_is_ended_under_it() -> None:
    """Who attends to the instance leaves meanwhile, and wants it no longer."""
    place = Place()
    mine = lease(place)
    await mine.take()
    async with ended_under(mine, 1.0):
        await mine.give_up()
        assert mine.fence == place.note.fence
        assert place.note.owner
    assert (mine.fence, place.note.owner) == (None, "")


@pytest.mark.parametrize("is_wanted_again", [False, True])
async def test_it_is_given_up_at_the_end_unless_somebody_wants_it_again(is_wanted_again: bool) -> None:
    place = Place()
    mine = lease(place)
    async with started_under(mine):
        await mine.give_up()
        if is_wanted_again:
            await mine.take()
    assert (mine.fence is not None) is is_wanted_again
