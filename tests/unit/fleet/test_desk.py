"""The permission desk: who decides, once, and over restarts. covers: B4"""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from cc_bridge import AlreadyDecided, BridgeError, ClaudeInstance, InvalidInput, PermissionRequest, PermissionRules
from cc_bridge.fleet import desk as module
from cc_bridge.fleet import permission_watch
from cc_bridge.fleet.choices import MOST_KEPT, session_updates
from cc_bridge.fleet.desk import AllowAlways, AllowForSession, Asked, Decided, Desk, Missed, Moot, OpenRequest
from cc_bridge.fleet.permission_paths import Place
from cc_bridge.fleet.permission_store import RequestStore
from cc_bridge.fleet.rules import Rules, allow_always, kept_rules
from cc_bridge.instance import Allow, Decision, Deny
from cc_bridge.instances.registry import Registry

pytestmark = pytest.mark.anyio

PLACE = Place("/shop", "/home/me", lambda path: path)
SUGGESTED = {
    "type": "addRules",
    "rules": [{"toolName": "Bash", "ruleContent": "ls *"}],
    "behavior": "allow",
    "destination": "localSettings",
}


def asked(
    command: str = "ls -l", request_id: str = "r", suggestions: tuple[Any, ...] = (SUGGESTED,)
) -> PermissionRequest:
    return PermissionRequest(request_id, "Bash", {"command": command}, suggestions)


def rules_of(**texts: Any) -> Callable[[str], Rules]:
    return lambda instance: Rules(PermissionRules(**texts), PLACE)


@dataclass
class Fleet:
    """Attends instances: asks the desk, and notes what it says."""

    group: TaskGroup
    desk: Desk
    decisions: dict[str, Decision] = field(default_factory=dict)
    scopes: dict[str, anyio.CancelScope] = field(default_factory=dict)

    async def ask(self, request: PermissionRequest, instance: str = "demo", turn: str = "t") -> None:
        """Returns when it waits, or is decided."""

        async def attend() -> None:
            with anyio.CancelScope() as scope:
                self.scopes[request.request_id] = scope
                self.decisions[request.request_id] = await self.desk.decide(instance, turn, request)

        self.group.start_soon(attend)
        await anyio.wait_all_tasks_blocked()

    async def cancel(self, request_id: str) -> None:
        self.scopes[request_id].cancel()
        await anyio.wait_all_tasks_blocked()

    @property
    def id(self) -> str:
        """Of the one request that is open."""
        (request,) = self.desk.open()
        return request.id


MakeFleet = Callable[..., Fleet]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def make_fleet(tmp_path: Path) -> AsyncIterator[MakeFleet]:
    async with anyio.create_task_group() as group:

        def make(**options: Any) -> Fleet:
            return Fleet(group, Desk(tmp_path / "desk", **{"rules": rules_of(), **options}))

        yield make
        group.cancel_scope.cancel()


async def restarted(fleet: Fleet, make_fleet: MakeFleet, **options: Any) -> Fleet:
    fleet.desk.close()
    for request_id in list(fleet.scopes):
        await fleet.cancel(request_id)
    return make_fleet(**options)


# Who decides


async def test_rules_decide_before_code_and_code_before_people(make_fleet: MakeFleet) -> None:
    seen: list[str] = []

    async def policy(request: OpenRequest) -> Decision | None:
        seen.append(str((request.input or {})["command"]))
        return Deny("By code.") if "code" in seen[-1] else None

    rules = rules_of(allow=("Bash(ls:*)",), deny=("Bash(rm:*)",), ask=("Bash(git:*)",))
    fleet = make_fleet(rules=rules, on_permission=policy)
    for number, command in enumerate(["ls -l", "rm x", "git push", "code", "other"]):
        await fleet.ask(asked(command, str(number)))
    assert fleet.decisions["0"] == Allow()
    assert fleet.decisions["1"] == Deny("The rule Bash(rm:*) denies this.")
    assert fleet.decisions["3"] == Deny("By code.")
    assert seen == ["code", "other"]
    assert [(request.input, request.undecided) for request in fleet.desk.open()] == [
        ({"command": "git push"}, "The rule Bash(git:*) asks."),
        ({"command": "other"}, ""),
    ]


@pytest.mark.parametrize("decision", [Allow(), Allow({"command": "pwd"}), Deny("No.")])
async def test_somebody_decides(make_fleet: MakeFleet, decision: Decision) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    fleet.desk.answer(fleet.id, decision, by="ann")
    await anyio.wait_all_tasks_blocked()
    assert fleet.decisions == {"r": decision}
    assert fleet.desk.open() == []


async def test_what_is_open_says_all_that_somebody_decides_by(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    await fleet.ask(asked("ls", "1"), instance="b")
    await fleet.ask(asked("ls", "2"), instance="a", turn="t2")
    (request,) = fleet.desk.open("a")
    assert (request.instance, request.turn, request.tool_name, request.input) == ("a", "t2", "Bash", {"command": "ls"})
    assert (request.suggestions, request.suggested_rules) == ((SUGGESTED,), ["Bash(ls *)"])
    assert (request.since, request.attended) == (datetime(2026, 1, 2, tzinfo=UTC), True)
    assert [request.instance for request in fleet.desk.open()] == ["b", "a"]


async def test_the_first_answer_wins_and_the_others_are_told(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    name = fleet.id
    fleet.desk.answer(name, Allow(), by="ann")
    for _ in range(2):  # before and after it was carried out
        with pytest.raises(AlreadyDecided, match="ann was first: allow") as caught:
            fleet.desk.answer(name, Deny(), by="bob")
        assert (caught.value.by, caught.value.how, caught.value.instance) == ("ann", "allow", "demo")
        await anyio.wait_all_tasks_blocked()
        fleet.desk.end_turn("demo", "t")
    assert fleet.decisions == {"r": Allow()}


@pytest.mark.parametrize("decision", [True, None, "allow", Allow])
async def test_what_is_no_decision_decides_nothing(make_fleet: MakeFleet, decision: Any) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    with pytest.raises(InvalidInput, match="no decision"):
        fleet.desk.answer(fleet.id, decision)
    with pytest.raises(InvalidInput, match="not JSON"):
        fleet.desk.answer(fleet.id, Allow({"command": object()}))
    with pytest.raises(InvalidInput, match="no permission request"):
        fleet.desk.answer("another", Allow())
    assert len(fleet.desk.open()) == 1


# Code that decides


@pytest.mark.parametrize("answer", [True, "yes", Allow])
async def test_a_policy_that_returns_something_else_allows_nothing(make_fleet: MakeFleet, answer: Any) -> None:
    async def policy(request: OpenRequest) -> Any:
        return answer

    fleet = make_fleet(on_permission=policy)
    await fleet.ask(asked())
    assert "is no decision" in fleet.desk.open()[0].undecided


async def test_a_policy_that_raises_leaves_it_to_somebody(make_fleet: MakeFleet) -> None:
    async def policy(request: OpenRequest) -> Decision:
        raise ZeroDivisionError("oh")

    fleet = make_fleet(on_permission=policy)
    await fleet.ask(asked())
    assert fleet.desk.open()[0].undecided == "on_permission failed: ZeroDivisionError: oh"


async def test_a_policy_that_is_no_coroutine_function_leaves_it_to_somebody(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(on_permission=lambda request: Allow())
    await fleet.ask(asked())
    assert "on_permission failed" in fleet.desk.open()[0].undecided


async def test_a_policy_that_hangs_leaves_it_to_somebody(make_fleet: MakeFleet) -> None:
    async def policy(request: OpenRequest) -> Decision:
        await anyio.sleep_forever()
        raise AssertionError

    fleet = make_fleet(on_permission=policy, policy_limit=0)
    watch = fleet.desk.watch()
    await fleet.ask(asked())
    with anyio.fail_after(60):
        await anext(watch)
    assert fleet.desk.open()[0].undecided == "on_permission has not decided within 0 seconds."


async def test_rules_that_cannot_be_read_allow_nothing_and_neither_does_code(make_fleet: MakeFleet) -> None:
    async def policy(request: OpenRequest) -> Decision:
        return Allow()

    def rules(instance: str) -> Rules:
        raise InvalidInput("the record is damaged")

    fleet = make_fleet(rules=rules, on_permission=policy)
    await fleet.ask(asked())
    assert "the record is damaged" in fleet.desk.open()[0].undecided


# Answers that last


async def test_for_the_session_is_claude_codes_own_suggestion(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    fleet.desk.answer(fleet.id, AllowForSession())
    await anyio.wait_all_tasks_blocked()
    assert fleet.decisions == {"r": Allow(updates=({**SUGGESTED, "destination": "session"},))}


def test_for_the_session_nothing_is_taken_that_is_not_usual() -> None:
    edits = {"type": "setMode", "mode": "acceptEdits"}
    all_of_them = (
        SUGGESTED,
        edits,
        {"type": "setMode", "mode": "bypassPermissions"},
        {**SUGGESTED, "behavior": "deny"},
    )
    taken = session_updates("desk", (*all_of_them, {"type": "addDirectories", "directories": ["/"]}, None), None)
    assert taken == ({**SUGGESTED, "destination": "session"}, {**edits, "destination": "session"})
    with pytest.raises(InvalidInput, match="no rule"):
        session_updates("desk", all_of_them[2:], None)


async def test_for_the_session_with_a_rule_of_ones_own(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    with pytest.raises(InvalidInput, match="no permission rule"):
        fleet.desk.answer(fleet.id, AllowForSession("ls -l!"))
    fleet.desk.answer(fleet.id, AllowForSession("Bash(ls:*)"))
    await anyio.wait_all_tasks_blocked()
    rule = {"toolName": "Bash", "ruleContent": "ls:*"}
    update = {"type": "addRules", "rules": [rule], "behavior": "allow", "destination": "session"}
    assert fleet.decisions == {"r": Allow(updates=(update,))}


@pytest.mark.parametrize("decision", [AllowForSession(), AllowAlways()])
async def test_where_nothing_is_suggested_a_rule_has_to_be_named(make_fleet: MakeFleet, decision: Any) -> None:
    fleet = make_fleet(remember=lambda instance, rule: None)
    await fleet.ask(asked(suggestions=()))
    with pytest.raises(InvalidInput, match="suggested no rule"):
        fleet.desk.answer(fleet.id, decision)
    assert len(fleet.desk.open()) == 1


async def test_always_is_in_the_record_and_answers_what_else_it_covers(make_fleet: MakeFleet, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    for name in ("demo", "other"):
        registry.home(name).prepare()
        registry.home(name).save(ClaudeInstance.of(name=name, kind="local", workspace=Path("/")))
    fleet = make_fleet(rules=kept_rules(registry), remember=allow_always(registry))
    await fleet.ask(asked("ls -l", "1"))
    await fleet.ask(asked("ls -a", "2"))
    await fleet.ask(asked("rm x", "3"))
    await fleet.ask(asked("ls -l", "4"), instance="other")
    fleet.desk.answer(fleet.desk.open("demo")[0].id, AllowAlways(), by="ann")
    await anyio.wait_all_tasks_blocked()
    assert fleet.decisions == {"1": Allow(), "2": Allow()}
    await fleet.ask(asked("ls", "5"))
    assert fleet.decisions["5"] == Allow()
    assert registry.load("demo").rules == PermissionRules(allow=("Bash(ls *)",))
    assert registry.load("other").rules == PermissionRules()


@pytest.mark.parametrize("rule", ["Bash(rm:*)", "Read", "nonsense(", "Bash(ls -l -a)"])
async def test_always_needs_a_rule_that_covers_what_is_asked(make_fleet: MakeFleet, rule: str) -> None:
    written: list[str] = []
    fleet = make_fleet(remember=lambda instance, text: written.append(text))
    await fleet.ask(asked())
    with pytest.raises(InvalidInput, match="rule"):
        fleet.desk.answer(fleet.id, AllowAlways(rule))
    assert written == []
    assert len(fleet.desk.open()) == 1


async def test_always_keeps_no_more_rules_than_somebody_reads(make_fleet: MakeFleet) -> None:
    written: list[str] = []
    fleet = make_fleet(remember=lambda instance, text: written.append(text))
    many = [{"toolName": "Bash", "ruleContent": f"ls {number}"} for number in range(MOST_KEPT)]
    suggested = {"type": "addRules", "behavior": "allow", "rules": [{"toolName": "Bash", "ruleContent": "ls *"}, *many]}
    await fleet.ask(asked(suggestions=(suggested,)))
    with pytest.raises(InvalidInput, match=f"suggested {MOST_KEPT + 1} rules") as refused:
        fleet.desk.answer(fleet.id, AllowAlways())
    assert (written, refused.value.hint) == ([], "Name one, or allow it once.")
    fleet.desk.answer(fleet.id, AllowAlways("Bash(ls *)"))
    assert written == ["Bash(ls *)"]


async def test_a_rule_that_cannot_be_written_decides_nothing(make_fleet: MakeFleet) -> None:
    def remember(instance: str, rule: str) -> None:
        raise InvalidInput("the record is damaged")

    fleet = make_fleet(remember=remember)
    await fleet.ask(asked())
    with pytest.raises(InvalidInput, match="damaged"):
        fleet.desk.answer(fleet.id, AllowAlways())
    fleet.desk.answer(fleet.id, Allow())


async def test_always_is_refused_where_nothing_keeps_it(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    with pytest.raises(InvalidInput, match="no rule can be kept"):
        fleet.desk.answer(fleet.id, AllowAlways())


# Time, and requests that need nobody


async def test_when_time_runs_out_it_is_denied(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(wait=0)
    watch = fleet.desk.watch()
    await fleet.ask(asked())
    with anyio.fail_after(60):
        first = await anext(watch)
        assert isinstance(first, Asked)
        assert await anext(watch) == Decided(first.request.id, "demo", allowed=False, by="", how="time")
    await anyio.wait_all_tasks_blocked()
    assert fleet.decisions == {"r": Deny("Nobody has decided in time.")}
    with pytest.raises(AlreadyDecided, match="in time"):
        fleet.desk.answer(first.request.id, Allow())


async def test_time_goes_on_over_a_restart_and_a_clock_that_jumps_ends_nothing_early(make_fleet: MakeFleet) -> None:
    day = datetime(2026, 1, 2, tzinfo=UTC)
    fleet = make_fleet(wait=3600, now=lambda: day)
    await fleet.ask(asked())
    fleet = await restarted(fleet, make_fleet, wait=3600, now=lambda: day - timedelta(days=9))
    await fleet.ask(asked())
    assert fleet.desk.open()[0].since == day
    fleet = await restarted(fleet, make_fleet, wait=3600, now=lambda: day + timedelta(hours=2))
    assert len(fleet.desk.open()) == 1
    await fleet.ask(asked())
    with anyio.fail_after(60):
        while "r" not in fleet.decisions:
            await anyio.lowlevel.checkpoint()
    assert isinstance(fleet.decisions["r"], Deny)


async def test_a_request_whose_asker_goes_is_moot(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    watch = fleet.desk.watch()
    await fleet.ask(asked())
    name = fleet.id
    await fleet.cancel("r")
    assert fleet.desk.open() == []
    assert isinstance(await anext(watch), Asked)
    assert await anext(watch) == Moot(name, "demo")
    with pytest.raises(AlreadyDecided, match="no decision any more"):
        fleet.desk.answer(name, Allow())
    assert make_fleet().desk.open() == []


async def test_what_was_moot_and_is_asked_again_is_open_again(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    await fleet.cancel("r")
    await fleet.ask(asked())
    fleet.desk.answer(fleet.id, Allow())


async def test_of_two_who_ask_the_same_both_are_told(make_fleet: MakeFleet) -> None:
    first = make_fleet()
    second = Fleet(first.group, first.desk)
    await first.ask(asked())
    await second.ask(asked())
    await first.cancel("r")
    first.desk.answer(first.id, Allow())
    await anyio.wait_all_tasks_blocked()
    assert (first.decisions, second.decisions) == ({}, {"r": Allow()})


async def test_an_instance_that_asks_too_much_is_denied(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    for number in range(101):
        await fleet.ask(asked("ls", str(number)))
    assert list(fleet.decisions) == ["100"]
    assert isinstance(fleet.decisions["100"], Deny)
    await fleet.ask(asked("ls", "x"), instance="other")
    assert len(fleet.desk.open("other")) == 1


async def test_what_cannot_be_read_is_denied(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(PermissionRequest("r", "Bash", {"command": object()}))
    assert fleet.decisions == {"r": Deny("This request cannot be read.")}


# Over restarts


async def test_what_waits_is_found_by_the_next_fleet(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    before = fleet.desk.open()[0]
    fleet = await restarted(fleet, make_fleet)
    (found,) = fleet.desk.open()
    assert (found.id, found.input, found.since, found.attended) == (before.id, before.input, before.since, False)
    await fleet.ask(asked())
    assert fleet.desk.open()[0].attended
    fleet.desk.answer(before.id, Allow())
    await anyio.wait_all_tasks_blocked()
    assert fleet.decisions == {"r": Allow()}


async def test_an_answer_that_had_not_arrived_is_given_by_the_next_fleet(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    decision = Allow({"command": "pwd"}, ({"type": "setMode"},))
    fleet.desk.answer(fleet.id, decision, by="ann")
    fleet = make_fleet()  # the one before was killed
    assert fleet.desk.open() == []
    await fleet.ask(asked())
    assert fleet.decisions == {"r": decision}
    fleet.desk.end_turn("demo", "t")
    fleet = make_fleet()
    await fleet.ask(asked())
    assert fleet.decisions == {}


async def test_an_answer_may_be_given_before_the_instance_is_reached(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    fleet = await restarted(fleet, make_fleet)
    fleet.desk.answer(fleet.id, Deny("No."))
    fleet = make_fleet()
    await fleet.ask(asked())
    assert fleet.decisions == {"r": Deny("No.")}


async def test_an_answer_wins_that_comes_while_a_policy_thinks(make_fleet: MakeFleet) -> None:
    thought = anyio.Event()

    async def policy(request: OpenRequest) -> Decision:
        await thought.wait()
        return Allow()

    fleet = make_fleet()
    await fleet.ask(asked())
    fleet = await restarted(fleet, make_fleet, on_permission=policy)
    await fleet.ask(asked())
    fleet.desk.answer(fleet.id, Deny("No."))
    thought.set()
    await anyio.wait_all_tasks_blocked()
    assert fleet.decisions == {"r": Deny("No.")}


async def test_a_policy_that_decides_what_was_kept_takes_it_off_the_desk(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    fleet = await restarted(fleet, make_fleet, rules=rules_of(allow=("Bash(ls:*)",)))
    name, watch = fleet.id, fleet.desk.watch()
    await fleet.ask(asked())
    assert (fleet.desk.open(), fleet.decisions) == ([], {"r": Allow()})
    assert await anext(watch) == Decided(name, "demo", allowed=True, by="", how="rule")


async def test_answers_whose_arrival_nobody_tells_are_bounded(
    make_fleet: MakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_ANSWERED", 3)
    fleet = make_fleet()
    for number in range(8):
        await fleet.ask(asked("ls", str(number)))
        fleet.desk.answer(fleet.id, Allow())
        await anyio.wait_all_tasks_blocked()
    assert len(list((tmp_path / "desk").iterdir())) <= 4
    assert len(fleet.decisions) == 8


async def test_an_answer_is_for_what_was_asked_and_for_nothing_else(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    fleet.desk.answer(fleet.id, Allow())
    await anyio.wait_all_tasks_blocked()
    others = Fleet(fleet.group, fleet.desk)
    await others.ask(asked("rm -rf x"))
    await others.ask(PermissionRequest("r", "Write", {"command": "ls -l"}))
    await others.ask(asked(), turn="another")
    await others.ask(asked(), instance="another")
    await others.ask(asked(request_id="another"))
    assert others.decisions == {}
    assert len({request.id for request in fleet.desk.open()}) == 5


async def test_a_turn_that_ended_while_nobody_was_there_leaves_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    await fleet.ask(asked("ls", "1"))
    await fleet.ask(asked("ls", "2"), instance="other")
    fleet = await restarted(fleet, make_fleet)
    watch = fleet.desk.watch()
    fleet.desk.end_turn("demo", "t")
    fleet.desk.end_turn("demo", "t")
    assert isinstance(await anext(watch), Moot)
    assert [request.instance for request in fleet.desk.open()] == ["other"]
    fleet.desk.forget("other")
    assert make_fleet().desk.open() == []


async def test_it_is_private(make_fleet: MakeFleet, tmp_path: Path) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    (file,) = (tmp_path / "desk").iterdir()
    assert (tmp_path / "desk").stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"id": "x"}', "\udcff", '{"id": 1, "instance": 2}', "[" * 100_000]
)
async def test_files_that_cannot_be_read_are_asked_anew(make_fleet: MakeFleet, tmp_path: Path, text: str) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    (file,) = (tmp_path / "desk").iterdir()
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "desk" / "tmpx").write_text("half")
    fleet = make_fleet()
    assert fleet.desk.open() == []
    assert list((tmp_path / "desk").iterdir()) == []
    await fleet.ask(asked())
    assert len(fleet.desk.open()) == 1


async def test_a_long_input_is_not_kept_and_comes_again(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(remember=lambda instance, rule: None)
    await fleet.ask(asked("ls " + "x" * 100_000))
    fleet = await restarted(fleet, make_fleet)
    assert fleet.desk.open()[0].input is None
    await fleet.ask(asked("ls " + "x" * 100_000))
    assert len(str(fleet.desk.open()[0].input)) > 100_000


def full_disk(store: RequestStore, *args: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_holds_up_nobody_who_waits(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestStore, "save", full_disk)
    fleet = make_fleet()
    await fleet.ask(asked())
    assert "not kept on disk: No space left" in fleet.desk.open()[0].undecided
    fleet.desk.answer(fleet.id, Allow())
    await anyio.wait_all_tasks_blocked()
    assert fleet.decisions == {"r": Allow()}


async def test_an_answer_for_later_that_cannot_be_kept_is_not_taken(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet()
    await fleet.ask(asked())
    fleet = await restarted(fleet, make_fleet)
    with monkeypatch.context() as patch:
        patch.setattr(RequestStore, "save", full_disk)
        with pytest.raises(BridgeError, match="No space left"):
            fleet.desk.answer(fleet.id, Allow())
    fleet.desk.answer(fleet.id, Deny())


# Who watches


async def test_who_watches_is_told_in_order(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    watch, other = fleet.desk.watch(), fleet.desk.watch()
    await fleet.ask(asked())
    (request,) = fleet.desk.open()
    fleet.desk.answer(request.id, Allow(), by="ann")
    for each in (watch, other):
        assert await anext(each) == Asked(request)
        assert await anext(each) == Decided(request.id, "demo", allowed=True, by="ann", how="allow")
    fleet.desk.close()
    assert [event async for event in watch] == []
    assert [event async for event in fleet.desk.watch()] == []


async def test_who_waits_to_be_told_is_woken(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    told: list[Any] = []

    async def watch() -> None:
        told.extend([event async for event in fleet.desk.watch()])

    fleet.group.start_soon(watch)
    await anyio.wait_all_tasks_blocked()
    await fleet.ask(asked())
    fleet.desk.close()
    await anyio.wait_all_tasks_blocked()
    assert [type(event) for event in told] == [Asked]


async def test_a_slow_watcher_is_told_that_it_has_missed_some(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permission_watch, "_MOST", 3)
    fleet = make_fleet()
    watch = fleet.desk.watch()
    for number in range(5):
        await fleet.ask(asked("ls", str(number)))
    assert isinstance(await anext(watch), Missed)
    assert isinstance(await anext(watch), Asked)
    assert len(fleet.desk.open()) == 5


# All of it


@dataclass
class ClaudeCode:
    """A fake of what asks: requests are open until an answer arrives, whatever becomes of the fleet."""

    waiting: dict[str, PermissionRequest]
    arrived: dict[str, list[Decision]] = field(default_factory=dict)

    def receive(self, request_id: str, decision: Decision) -> None:
        self.arrived.setdefault(request_id, []).append(decision)
        del self.waiting[request_id]


@pytest.mark.parametrize("seed", range(3))
async def test_200_requests_under_restarts_are_each_answered_exactly_once(tmp_path: Path, seed: int) -> None:
    """The fleet is killed at random moments, also between an answer and its arrival; answers are given twice."""
    dice = random.Random(seed)
    names = [str(number) for number in range(200)]
    claude = ClaudeCode({name: asked(f"ls {name}", name) for name in names})
    answers: dict[str, Decision] = {}

    async def attend(desk: Desk, name: str) -> None:
        decision = await desk.decide("demo-" + str(int(name) % 7), "turn", claude.waiting[name])
        if dice.random() < 0.7:  # else it is killed before the answer arrives
            claude.receive(name, decision)

    while claude.waiting:
        desk = Desk(tmp_path / "desk", rules=rules_of())
        async with anyio.create_task_group() as group:
            for name in dice.sample(sorted(claude.waiting), min(len(claude.waiting), dice.randint(0, 60))):
                group.start_soon(attend, desk, name)
            await anyio.wait_all_tasks_blocked()
            for request in dice.sample(desk.open(), min(len(desk.open()), dice.randint(0, 20))):
                command = str((request.input or {})["command"])
                decision: Decision = dice.choice([Allow(), Deny(command)])
                desk.answer(request.id, decision)
                answers[command.removeprefix("ls ")] = decision
                with pytest.raises(AlreadyDecided):
                    desk.answer(request.id, Deny("Too late."))
            if dice.random() < 0.5:
                await anyio.wait_all_tasks_blocked()
            desk.close()  # what a kill leaves on disk: from here on nothing is written
            group.cancel_scope.cancel()
    assert claude.arrived == {name: [answers[name]] for name in names}
