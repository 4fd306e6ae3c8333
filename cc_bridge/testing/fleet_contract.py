"""The contract of :class:`~cc_bridge.fleet.Fleet` as a test suite.

Subclass it in a test module, with fixtures ``make_fleet`` (takes the options of the class under test and returns a
fleet that has not begun; all have one registry, and two of one ``name`` are one fleet, begun again or in another
program), ``make_record`` (takes fields of a record and returns one of a new instance that stays, whose Claude Code
talks to ``scripted_model``; the fixture removes it) and ``scripted_model``::

    class TestFleet(FleetContract):
        @pytest.fixture
        def make_fleet(self): ...

What each instance of a fleet does by itself, ``InstanceContract`` has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ..errors import (
    AlreadyDecided,
    BridgeError,
    BudgetExceeded,
    InstanceBusy,
    InstanceDiffers,
    InstanceNotFound,
    InvalidInput,
    LimitReached,
    PositionGone,
)
from ..events import TextDelta, ToolResult, TurnResult, Verdict, Waiting
from ..fleet import Asked, Budget, Decided, Fleet, Heard, Moot, OpenRequest
from ..instance import Allow, Decision, Deny, InstanceInterface
from ..record import ClaudeInstance
from .scripted_model import ScriptedModel

__all__ = ["FleetContract"]

MakeFleet = Callable[..., Fleet]
MakeRecord = Callable[..., ClaudeInstance]

#: Seconds within which anything here must be over, or it hangs.
_LIMIT = 60.0

_READERS = 50

_TOUCH = '[[tool Bash {"command": "touch made-by-a-tool", "description": "make a file"}]]'


@pytest.mark.anyio
class FleetContract:
    """What a program may rely on that has many instances."""

    # Instances

    async def test_one_name_is_one_instance(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        record = make_record()
        async with make_fleet() as fleet:
            made: list[InstanceInterface] = []

            async def make() -> None:
                made.append(await fleet.make(record))

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(make)
            assert {id(instance) for instance in made} == {id(fleet.open(record.name))}
            assert record.name in fleet.names()
            other = replace(record, workspace=Path("/elsewhere"))
            with pytest.raises(InstanceDiffers, match="workspace"):
                await fleet.make(other)

    async def test_what_is_removed_is_not_there(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        record = make_record()
        async with make_fleet() as fleet:
            await fleet.make(record)
            await fleet.remove(record.name)
            assert record.name not in fleet.names()
            with pytest.raises(InstanceNotFound):
                fleet.open(record.name)
            instance = await fleet.make(record)
            assert await instance.send_command_and_wait("[[say again]]", _LIMIT) == (True, "again")

    async def test_what_cannot_be_started_leaves_nothing(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        record = make_record()
        nowhere = replace(record, workspace=Path("/nonexistent/for/sure"))
        async with make_fleet() as fleet:
            with pytest.raises(BridgeError):
                await fleet.make(nowhere)
            assert record.name not in fleet.names()
            instance = await fleet.make(record)
            assert await instance.send_command_and_wait("[[say fine]]", _LIMIT) == (True, "fine")

    async def test_what_there_is_not(self, make_fleet: MakeFleet) -> None:
        async with make_fleet() as fleet:
            with pytest.raises(InstanceNotFound):
                fleet.open("nobody")
            with pytest.raises(InstanceNotFound):
                await fleet.remove("nobody")
            with pytest.raises(InvalidInput, match="is no position"):
                async with aclosing(fleet.feed("nobody", after="yesterday")) as feed:
                    await anext(feed)
        with pytest.raises(InvalidInput, match="no name"):
            make_fleet(name="Not a name")

    async def test_a_name_is_one_programs(self, make_fleet: MakeFleet) -> None:
        async with make_fleet(name="one") as fleet, make_fleet(name="two"):
            with pytest.raises(InvalidInput, match="in use"):
                await fleet.__aenter__()
            with pytest.raises(InstanceBusy, match="in use by the process"):
                await make_fleet(name="one").__aenter__()

    async def test_the_error_of_the_block_comes_out_as_it_is(self, make_fleet: MakeFleet) -> None:
        with pytest.raises(KeyError):
            async with make_fleet():
                raise KeyError

    async def test_after_its_end_it_says_so(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        record = make_record()
        async with make_fleet() as fleet:
            instance = await fleet.make(record)
        with anyio.fail_after(_LIMIT), pytest.raises(InvalidInput, match="within its `async with`"):
            await instance.send_command_and_wait("hello", _LIMIT)
        with pytest.raises(InvalidInput, match="within its `async with`"):
            fleet.open(record.name)

    async def test_what_was_released_goes_on_with_the_next_command(
        self, make_fleet: MakeFleet, make_record: MakeRecord
    ) -> None:
        """Its Claude Code has run on."""
        async with make_fleet() as fleet:
            instance = await fleet.make(make_record())
            for text in ("one", "two"):
                with anyio.fail_after(_LIMIT):
                    assert await instance.send_command_and_wait(f"[[say {text}]]", _LIMIT) == (True, text)
                await instance.release()

    # Limits

    async def test_no_more_instances_than_there_may_be(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        first, second = make_record(), make_record()
        async with make_fleet(most_instances=1) as fleet:
            await fleet.make(first)
            with pytest.raises(LimitReached, match="as many as there may be"):
                await fleet.make(second)
            await fleet.make(first)  # it is there already
            await fleet.remove(first.name)
            await fleet.make(second)

    async def test_no_more_awake_than_may_be(
        self, make_fleet: MakeFleet, make_record: MakeRecord, scripted_model: ScriptedModel
    ) -> None:
        """One rests for another, and remembers."""
        records = [make_record() for _ in range(2)]
        async with make_fleet(most_awake=1) as fleet:
            instances = [fleet.adopt(record) for record in records]
            for round_ in ("first", "second"):
                for number, instance in enumerate(instances):
                    text = f"{round_}-of-{number}"
                    assert await instance.send_command_and_wait(f"[[say {text}]]", _LIMIT) == (True, text)
                    assert fleet.awake == 1
        sent = json.dumps(scripted_model.requests[-1].body["messages"])
        assert "first-of-1" in sent
        assert "of-0" not in sent

    async def test_who_waits_for_a_seat_is_told_so(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        async with make_fleet(most_awake=1) as fleet:
            busy, first, second = [fleet.adopt(make_record()) for _ in range(3)]
            with anyio.fail_after(_LIMIT):
                running = await busy.submit("[[say a]] [[delay 1]] [[say b]]")
                async for event in running:
                    if isinstance(event, TextDelta):
                        break
                ahead = await first.submit("[[say c]]")
                await anyio.wait_all_tasks_blocked()  # it stands in line
                waiting = await second.submit("[[say d]]")
                assert isinstance(await anext(waiting), Waiting)
                assert [(await turn.result()).text for turn in (running, ahead, waiting)] == ["ab", "c", "d"]

    async def test_the_first_in_line_is_told_so(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        async with make_fleet(most_awake=1) as fleet:
            busy, other = [fleet.adopt(make_record()) for _ in range(2)]
            with anyio.fail_after(_LIMIT):
                running = await busy.submit("[[say a]] [[delay 1]] [[say b]]")
                async for event in running:
                    if isinstance(event, TextDelta):
                        break
                waiting = await other.submit("[[say c]]")
                assert await anext(waiting) == Waiting(1)
                assert [(await turn.result()).text for turn in (running, waiting)] == ["ab", "c"]

    async def test_an_answer_is_read_again_by_who_waits_for_a_seat(
        self, make_fleet: MakeFleet, make_record: MakeRecord
    ) -> None:
        """A command that had been answered before is given again under its id, behind others in line."""
        records = [make_record() for _ in range(3)]
        async with make_fleet() as fleet:
            instance = fleet.adopt(records[0])
            answered = await instance.submit("[[say once]]")
            await answered.result()
            await instance.sleep()
        async with make_fleet(most_awake=1) as fleet:
            with anyio.fail_after(_LIMIT):
                running = await fleet.adopt(records[1]).submit("[[say a]] [[delay 1]] [[say b]]")
                async for event in running:
                    if isinstance(event, TextDelta):
                        break
                await fleet.adopt(records[2]).submit("[[say c]]")
                await anyio.wait_all_tasks_blocked()  # it stands in line
                again = await fleet.open(records[0].name).submit("[[say once]]", id=answered.id)
                assert (await again.result()).text == "once"

    async def test_who_is_removed_leaves_its_seat(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        first, second = make_record(), make_record()
        async with make_fleet(most_awake=1) as fleet:
            assert await fleet.adopt(first).send_command_and_wait("[[say a]]", _LIMIT) == (True, "a")
            await fleet.remove(first.name)
            assert await fleet.adopt(second).send_command_and_wait("[[say b]]", _LIMIT) == (True, "b")

    async def test_a_spent_budget_refuses_the_next_command(
        self, make_fleet: MakeFleet, make_record: MakeRecord, scripted_model: ScriptedModel
    ) -> None:
        """Before anything is sent, and also after the fleet has begun again; others go on."""
        poor, rich = make_record(), make_record()
        budgets = [Budget(tokens=1, instance=poor.name)]
        async with make_fleet(budgets=budgets) as fleet:
            instance = fleet.adopt(poor)
            assert await instance.send_command_and_wait("[[say first]]", _LIMIT) == (True, "first")
            assert fleet.accounts.total(instance=poor.name).turns == 1
            with pytest.raises(BudgetExceeded):
                await instance.submit("[[say second]]")
        async with make_fleet(budgets=budgets) as fleet:
            with pytest.raises(BudgetExceeded):
                await fleet.open(poor.name).submit("[[say second]]")
            assert await fleet.adopt(rich).send_command_and_wait("[[say hello]]", _LIMIT) == (True, "hello")
        assert scripted_model.prompts["[[say second]]"] == 0

    async def test_a_budget_that_is_spent_meanwhile_refuses_what_stands_in_line(
        self, make_fleet: MakeFleet, make_record: MakeRecord, scripted_model: ScriptedModel
    ) -> None:
        rich = make_record()
        poor = [make_record(project=rich.name) for _ in range(2)]
        async with make_fleet(most_awake=1, budgets=[Budget(tokens=1, project=rich.name)]) as fleet:
            busy, other = map(fleet.adopt, poor)
            with anyio.fail_after(_LIMIT):
                running = await busy.submit("[[say a]] [[delay 1]] [[say b]]")
                async for event in running:
                    if isinstance(event, TextDelta):
                        break
                waiting = await other.submit("[[say in line]]")
                assert (await running.result()).text == "ab"
                with pytest.raises(BudgetExceeded):
                    await waiting.result()
                assert await fleet.adopt(rich).send_command_and_wait("[[say seated]]", _LIMIT) == (True, "seated")
        assert scripted_model.prompts["[[say in line]]"] == 0

    # Attended

    async def test_a_turn_goes_on_though_nobody_reads(
        self, make_fleet: MakeFleet, make_record: MakeRecord, scripted_model: ScriptedModel
    ) -> None:
        async def decide(request: OpenRequest) -> Decision:
            return Allow()

        async with make_fleet(on_permission=decide) as fleet:
            instance = fleet.adopt(make_record())
            first = await instance.submit(f"{_TOUCH} [[repeat 3000 x]]")
            second = await instance.submit("[[say second]]")
            with anyio.fail_after(_LIMIT):
                assert (await second.result()).text == "second"
                assert (await first.result()).text == "x" * 3000

    async def test_it_ends_and_begins_again(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        """What ran and waited goes on, and what nobody had decided is asked again, under its id."""
        record = make_record()
        async with make_fleet() as fleet:
            instance = fleet.adopt(record)
            first = await instance.submit(f"[[say a]] {_TOUCH} [[say b]]")
            second = await instance.submit("[[say second]]")
            asked = await _asked(fleet)
        async with make_fleet() as fleet:
            again = await _asked(fleet)
            assert (again.id, again.turn, again.since) == (asked.id, first.id, asked.since)
            fleet.desk.answer(again.id, Allow())
            instance = fleet.open(record.name)
            with anyio.fail_after(_LIMIT):
                assert (await (await instance.turn(second.id)).result()).text == "second"
                result = await (await instance.turn(first.id)).result()
        assert (result.verdict, result.text) == (Verdict.COMPLETED, "a\n\nb")

    # Permissions

    async def test_a_permission_is_answered_once(
        self, make_fleet: MakeFleet, make_record: MakeRecord, scripted_model: ScriptedModel
    ) -> None:
        """The first answer wins; whoever comes later, and whoever watches, is told whose it was."""
        lost: list[AlreadyDecided] = []
        async with make_fleet() as fleet:
            watch = fleet.desk.watch()
            turn = await fleet.adopt(make_record()).submit(f"{_TOUCH} [[say done]]")
            request = await _asked(fleet)
            fleet.desk.answer(request.id, Allow(), by="Ann")
            for name in ("Bob", "Cem"):
                with pytest.raises(AlreadyDecided) as caught:
                    fleet.desk.answer(request.id, Deny("no"), by=name)
                lost.append(caught.value)
            with anyio.fail_after(_LIMIT):
                events = [event async for event in turn]
                seen = [await anext(watch), await anext(watch)]
            assert fleet.desk.open() == []
        assert [event.is_error for event in events if isinstance(event, ToolResult)] == [False]
        assert {(error.by, error.how) for error in lost} == {("Ann", "allow")}
        assert isinstance(seen[0], Asked)
        assert seen[1] == Decided(request.id, request.instance, True, "Ann", "allow")

    async def test_a_permission_that_is_denied(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        async with make_fleet() as fleet:
            turn = await fleet.adopt(make_record()).submit(f"{_TOUCH} [[say done]]")
            fleet.desk.answer((await _asked(fleet)).id, Deny("Not in this house."))
            with anyio.fail_after(_LIMIT):
                events = [event async for event in turn]
        said = [str(event.content) for event in events if isinstance(event, ToolResult) and event.is_error]
        assert len(said) == 1
        assert "Not in this house." in said[0]

    async def test_nobody_decides_in_time(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        async with make_fleet(permission_wait=0.0) as fleet:
            turn = await fleet.adopt(make_record()).submit(f"{_TOUCH} [[say done]]")
            with anyio.fail_after(_LIMIT):
                events = [event async for event in turn]
        assert [event.is_error for event in events if isinstance(event, ToolResult)] == [True]

    async def test_a_policy_that_raises_leaves_it_to_somebody(
        self, make_fleet: MakeFleet, make_record: MakeRecord
    ) -> None:
        async def decide(request: OpenRequest) -> Decision:
            raise RuntimeError("out of order")

        async with make_fleet(on_permission=decide) as fleet:
            turn = await fleet.adopt(make_record()).submit(f"{_TOUCH} [[say done]]")
            request = await _asked(fleet)
            assert "out of order" in request.undecided
            fleet.desk.answer(request.id, Allow())
            with anyio.fail_after(_LIMIT):
                assert (await turn.result()).text.strip() == "done"

    async def test_a_policy_that_hangs_holds_up_nobody_else(
        self, make_fleet: MakeFleet, make_record: MakeRecord
    ) -> None:
        begun = anyio.Event()

        async def decide(request: OpenRequest) -> Decision:
            begun.set()
            await anyio.sleep_forever()
            raise AssertionError

        async with make_fleet(on_permission=decide) as fleet:
            hanging = await fleet.adopt(make_record()).submit(f"{_TOUCH} [[say done]]")
            with anyio.fail_after(_LIMIT):
                await begun.wait()
                other = fleet.adopt(make_record())
                assert await other.send_command_and_wait("[[say hello]]", _LIMIT) == (True, "hello")
                await hanging.interrupt()
                assert (await hanging.result()).verdict is Verdict.INTERRUPTED

    async def test_a_request_whose_turn_is_interrupted_is_moot(
        self, make_fleet: MakeFleet, make_record: MakeRecord
    ) -> None:
        async with make_fleet() as fleet:
            watch = fleet.desk.watch()
            turn = await fleet.adopt(make_record()).submit(f"{_TOUCH} [[say done]]")
            request = await _asked(fleet)
            with anyio.fail_after(_LIMIT):
                await turn.interrupt()
                assert isinstance(await anext(watch), Asked)
                assert await anext(watch) == Moot(request.id, request.instance)
            assert fleet.desk.open() == []
            with pytest.raises(AlreadyDecided):
                fleet.desk.answer(request.id, Allow())

    # Feeds

    async def test_all_that_is_said_whoever_asked(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        record = make_record()
        async with make_fleet() as fleet, make_fleet(name="another") as another:
            instance = await fleet.make(record)
            heard: list[Heard] = []

            async def listen() -> None:
                async with aclosing(fleet.feed(record.name)) as feed:
                    heard.extend(await until_results(feed, 2))

            with anyio.fail_after(_LIMIT):
                async with anyio.create_task_group() as group:
                    group.start_soon(listen)
                    await anyio.wait_all_tasks_blocked()
                    theirs = another.open(record.name)
                    assert await theirs.send_command_and_wait("[[say theirs]]", _LIMIT) == (True, "theirs")
                    assert await instance.send_command_and_wait("[[say ours]]", _LIMIT) == (True, "ours")
        assert text_of(heard) == "theirsours"
        places = [item.at for item in heard]
        assert places == sorted(set(places))
        assert len({item.turn for item in heard}) == 2

    async def test_a_position_is_understood_by_another_fleet(
        self, make_fleet: MakeFleet, make_record: MakeRecord
    ) -> None:
        record = make_record()
        async with make_fleet() as fleet:
            instance = await fleet.make(record)
            async with aclosing(fleet.feed(record.name)) as feed:
                turn = await instance.submit("[[say a b c d e f]]")
                heard = await until_results(feed)
            await instance.send_command_and_wait("[[say later]]", _LIMIT)
            for number in (0, len(heard) // 2, len(heard) - 1):
                after, ends = str(heard[number].at), 2 if number < len(heard) - 1 else 1
                async with (
                    make_fleet(name="another") as another,
                    aclosing(another.feed(record.name, after=after)) as feed,
                ):
                    rest = await until_results(feed, ends)
                assert rest[: len(heard) - number - 1] == heard[number + 1 :]
                assert text_of(rest).endswith("later")
                async with aclosing(fleet.feed(record.name, after=after)) as feed:
                    assert await until_results(feed, ends) == rest, "memory and journal say the same"
        assert turn.id == heard[0].turn

    async def test_what_is_kept_nowhere(self, make_fleet: MakeFleet, make_record: MakeRecord) -> None:
        record = make_record()
        async with make_fleet() as fleet:
            await fleet.make(record)
            with anyio.fail_after(_LIMIT), pytest.raises(PositionGone):
                async with aclosing(fleet.feed(record.name, after="nojournal.7.0")) as feed:
                    await anext(feed)

    async def test_readers_at_any_pace_over_one_connection(
        self, make_fleet: MakeFleet, make_record: MakeRecord
    ) -> None:
        record = make_record()
        heard: list[list[Heard]] = [[] for _ in range(_READERS)]
        listening = anyio.Semaphore(0)
        connected: list[Any] = []

        async with make_fleet() as fleet:
            instance = await fleet.make(record)

            async def read(number: int) -> None:
                async with aclosing(fleet.feed(record.name)) as feed:
                    listening.release()
                    async for item in feed:
                        heard[number].append(item)
                        if isinstance(item.event, TurnResult):
                            break
                        for _ in range(number % 5):
                            await anyio.lowlevel.checkpoint()
                        if not number and not connected:
                            connected.append((await instance.get_info())["connected"])

            with anyio.fail_after(_LIMIT):
                async with anyio.create_task_group() as group:
                    for number in range(_READERS):
                        group.start_soon(read, number)
                    for _ in range(_READERS):
                        await listening.acquire()
                    await anyio.wait_all_tasks_blocked()
                    turn = await instance.submit("[[repeat 1500 word,]]")
                    await turn.result()
        assert {text_of(items) for items in heard} == {"word," * 1500}
        assert all(items == heard[0] for items in heard)
        assert [len(programs) for programs in connected] == [1]


async def _asked(fleet: Fleet) -> OpenRequest:
    """The request that waits at the desk, as soon as its instance waits for it."""
    watch = fleet.desk.watch()
    with anyio.fail_after(_LIMIT):
        while True:
            for request in fleet.desk.open():
                if request.attended:
                    return request
            await anext(watch)


def text_of(heard: list[Heard]) -> str:
    """The answers in what was heard."""
    return "".join(item.event.text for item in heard if isinstance(item.event, TextDelta))


async def until_results(feed: Any, count: int = 1) -> list[Heard]:
    """What a feed says, up to so many ends of turns."""
    heard: list[Heard] = []
    with anyio.fail_after(_LIMIT):
        async for item in feed:
            heard.append(item)
            count -= isinstance(item.event, TurnResult)
            if not count:
                break
    return heard
