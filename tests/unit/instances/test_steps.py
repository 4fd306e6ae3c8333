"""One step at a time: among the tasks of a program, and among programs. covers: L1"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.abc
import pytest

from cc_bridge.errors import AgentUnavailable, InstanceBusy, InvalidInput
from cc_bridge.instances.life import State, Step
from cc_bridge.instances.steps import Steps, exclusive

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


#: Seconds within which what must happen has happened, or it hangs.
_LIMIT = 20.0

_HOLDER = """
import sys
import anyio
from pathlib import Path
from cc_bridge.instances.steps import exclusive

async def main():
    async with exclusive(Path(sys.argv[1]), 10, "demo"):
        print("held", flush=True)
        await anyio.sleep(100)

anyio.run(main)
"""

_COUNTER = """
import sys
import anyio
from pathlib import Path
from cc_bridge.instances.steps import exclusive

async def main():
    for _ in range(50):
        async with exclusive(Path(sys.argv[1]), 60, "demo"):
            count = Path(sys.argv[2])
            number = int(count.read_text())
            await anyio.sleep(0)
            count.write_text(str(number + 1))

anyio.run(main)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    directory = tmp_path / "demo"
    directory.mkdir()
    return directory / "changing"


async def _wait(path: Path, entered: anyio.Event, name: str = "demo") -> None:
    async with exclusive(path, _LIMIT, name):
        entered.set()


async def test_programs_exclude_each_other(lock: Path, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    programs = [subprocess.Popen([sys.executable, "-c", _COUNTER, str(lock), str(count)]) for _ in range(4)]
    assert [await anyio.to_thread.run_sync(program.wait) for program in programs] == [0] * 4
    assert count.read_text() == "200"


async def test_whoever_waits_goes_on_when_the_holder_is_killed(lock: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        entered = [anyio.Event() for _ in range(3)]
        with anyio.fail_after(_LIMIT):
            async with anyio.create_task_group() as group:
                for event in entered:
                    group.start_soon(_wait, lock, event)
                await anyio.wait_all_tasks_blocked()
                assert not any(event.is_set() for event in entered)
                holder.kill()
        assert all(event.is_set() for event in entered)


async def test_whoever_waits_too_long_is_told(lock: Path) -> None:
    async with exclusive(lock, 1, "demo"):
        with pytest.raises(InstanceBusy, match=r"demo: this program itself was starting or ending it .*Try again"):
            async with exclusive(lock, 0.05, "demo"):
                pytest.fail("it was entered twice")
    async with exclusive(lock, 1, "demo"):
        pass


async def test_whoever_waits_too_long_is_told_for_whom(lock: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InstanceBusy, match=rf"demo: process {holder.pid} \(python.*\) was starting or ending it"):
            async with exclusive(lock, 0.05, "demo"):
                pytest.fail("it was entered twice")
        holder.kill()


async def test_a_lock_that_cannot_be_made_is_told(lock: Path) -> None:
    lock.write_text("no FIFO")
    with pytest.raises(InvalidInput, match=r"the state directory .*demo cannot be used: .*not a FIFO"):
        async with exclusive(lock, 1, "demo"):
            pytest.fail("it was entered")


async def test_whoever_gives_up_waiting_leaves_nothing(lock: Path) -> None:
    async with exclusive(lock, 1, "demo"):
        with anyio.move_on_after(0.05):
            async with exclusive(lock, _LIMIT, "demo"):
                pytest.fail("it was entered twice")
    with anyio.fail_after(_LIMIT):
        async with exclusive(lock, _LIMIT, "demo"):
            pass


async def test_a_directory_that_is_removed_meanwhile_is_made_again(lock: Path) -> None:
    """The lock of what was removed is nobody's: who waited for it has that of the new directory."""
    entered = anyio.Event()

    def make() -> None:
        lock.parent.mkdir(exist_ok=True)

    async def wait() -> None:
        async with exclusive(lock, _LIMIT, "demo", make):
            entered.set()
            async with exclusive(lock, 0.05, "demo", make):
                pytest.fail("it was entered twice")

    with anyio.fail_after(_LIMIT), pytest.raises(BaseExceptionGroup) as raised:
        async with anyio.create_task_group() as group, exclusive(lock, 1, "demo", make):
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            shutil.rmtree(lock.parent)
    assert entered.is_set()
    assert raised.group_contains(InstanceBusy)


async def test_without_a_directory_there_is_nothing_to_exclude_anybody_from(tmp_path: Path) -> None:
    async with (
        exclusive(tmp_path / "none" / "changing", 1, "demo"),
        exclusive(tmp_path / "none" / "changing", 1, "demo"),
    ):
        assert not (tmp_path / "none").exists()


def _sleep(_: int) -> None:
    multiprocessing.Event().wait(30)


async def test_a_child_that_was_forked_in_the_block_does_not_keep_it(lock: Path) -> None:
    async with exclusive(lock, 1, "demo"):
        child = multiprocessing.get_context("fork").Process(target=_sleep, args=(1,), daemon=True)
        child.start()
    try:
        with anyio.fail_after(_LIMIT):
            async with exclusive(lock, 1, "demo"):
                pass
    finally:
        child.kill()
        child.join()


# Among tasks


@pytest.mark.parametrize("end", [Step.STOP, Step.REMOVE, Step.RELEASE])
async def test_a_start_is_given_up_for_an_end(end: Step) -> None:
    steps = Steps("demo")
    order: list[str] = []

    async def start() -> None:
        with pytest.raises(
            AgentUnavailable, match=f"demo: its start was given up, because somebody wanted to {end.value}"
        ):
            async with steps.take(Step.START):
                try:
                    await anyio.sleep_forever()
                finally:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.01)  # what undoes it
                    order.append("undone")

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await anyio.wait_all_tasks_blocked()
            assert steps.state is State.STARTING
            async with steps.take(end):
                order.append("ended")
    assert order == ["undone", "ended"]
    assert steps.state is State.RESTING


@pytest.mark.parametrize("end", [Step.STOP, Step.REMOVE, Step.RELEASE])
async def test_a_start_that_is_tried_again_at_once_does_not_keep_an_end_out(end: Step) -> None:
    """As whoever has a command waiting does: it would be given up again and again, for ever."""
    steps, tries = Steps("demo"), 0

    async def start_again_and_again() -> None:
        nonlocal tries
        while True:
            try:
                async with steps.take(Step.START):
                    await anyio.sleep_forever()
            except AgentUnavailable:
                tries += 1

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(start_again_and_again)
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                async with steps.take(end):
                    await anyio.wait_all_tasks_blocked()
                await anyio.wait_all_tasks_blocked()
                assert steps.state is State.STARTING
            group.cancel_scope.cancel()
    assert tries <= 6


async def test_an_end_that_gives_up_waiting_lets_starts_begin() -> None:
    steps, enough = Steps("demo"), anyio.Event()

    async def stop() -> None:
        async with steps.take(Step.STOP):
            await enough.wait()

    async def start() -> None:
        async with steps.take(Step.START):
            pass

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.05):
                async with anyio.create_task_group() as waiting:
                    waiting.start_soon(_remove, steps)
                    await anyio.wait_all_tasks_blocked()
                    group.start_soon(start)
            enough.set()
    assert steps.state is State.READY


async def _remove(steps: Steps) -> None:
    async with steps.take(Step.REMOVE):
        raise AssertionError("it was cancelled before")


async def test_a_start_that_waits_for_something_else_is_given_up_too() -> None:
    steps, begun = Steps("demo"), anyio.Event()

    async def start() -> None:
        with pytest.raises(AgentUnavailable, match="given up"):
            async with steps.giving_way():
                begun.set()
                await anyio.sleep_forever()

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await begun.wait()
            async with steps.take(Step.STOP):
                pass


async def test_an_end_is_not_cut_short_for_anything() -> None:
    steps, order = Steps("demo"), []

    async def stop() -> None:
        async with steps.take(Step.STOP):
            await anyio.sleep(0.01)
            order.append(Step.STOP)

    async def take(step: Step) -> None:
        async with steps.take(step):
            order.append(step)

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            await anyio.wait_all_tasks_blocked()
            for step in (Step.START, Step.STOP, Step.REMOVE):
                group.start_soon(take, step)
    assert order[0] is Step.STOP
    assert sorted(order, key=str) == sorted([Step.STOP, Step.STOP, Step.REMOVE, Step.START], key=str)


async def test_who_is_cancelled_in_a_step_lets_the_next_begin() -> None:
    steps = Steps("demo")
    with anyio.move_on_after(0.01):
        async with steps.take(Step.STOP):
            await anyio.sleep_forever()
    with anyio.fail_after(_LIMIT):
        async with steps.take(Step.START):
            pass
    assert steps.state is State.READY


async def test_an_error_in_a_start_is_its_own() -> None:
    steps = Steps("demo")
    with pytest.raises(ValueError, match="mine"):
        async with steps.take(Step.START):
            raise ValueError("mine")
    assert steps.state is State.RESTING
    assert await steps.rest()


@pytest.mark.parametrize("step", list(Step))
async def test_a_callback_that_wants_a_step_of_its_own_step_is_told(step: Step) -> None:
    """It would wait for itself, for ever."""
    steps = Steps("demo")
    async with steps.take(Step.START):
        with pytest.raises(InvalidInput, match=f"demo: somebody wants to {step.value} it from within its own starting"):
            async with steps.take(step):
                pytest.fail("it was taken")
    async with steps.take(step):
        pass


async def test_a_start_that_waits_for_a_start_is_given_up_for_an_end_in_any_order() -> None:
    steps = Steps("demo")
    given_up = []

    async def start() -> None:
        with pytest.raises(AgentUnavailable):
            async with steps.take(Step.START):
                await anyio.sleep_forever()
        given_up.append(True)

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(start)
            await anyio.wait_all_tasks_blocked()
            async with steps.take(Step.REMOVE):
                await anyio.wait_all_tasks_blocked()
                assert len(given_up) == 3


async def test_whoever_wants_it_to_sleep_waits_for_a_start_and_ends_none() -> None:
    """covers: B7"""
    steps, order, may_end = Steps("demo"), list[str](), anyio.Event()

    async def take(step: Step) -> None:
        async with steps.take(step):
            order.append(step.value)
            await may_end.wait()

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(take, Step.START)
            await anyio.wait_all_tasks_blocked()
            for step in (Step.SLEEP, Step.START):
                group.start_soon(take, step)
            await anyio.wait_all_tasks_blocked()
            assert order == ["start"]
            may_end.set()
    assert sorted(order) == ["put to sleep", "start", "start"]
    assert steps.state is (State.ASLEEP if order[-1] == "put to sleep" else State.READY)
