"""What turns have used and cost, counted once, over kills and restarts; and budgets. covers: B23"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import BudgetExceeded, InvalidInput, TurnResult, Verdict
from cc_bridge.fleet import accounts as module
from cc_bridge.fleet.account_book import Book
from cc_bridge.fleet.accounts import Accounts, Budget, TokenUsage

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
USED = {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}


def result(so_far: float, usage: dict[str, Any] | None = None, **more: Any) -> TurnResult:
    return TurnResult(Verdict.COMPLETED, "", cost_usd=so_far, usage=USED if usage is None else usage, **more)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def test_what_was_used_by_everything_that_can_be_named(directory: Path) -> None:
    clock = Clock()
    accounts = Accounts(directory, clock)
    accounts.note("a", "shop", "s1", "t1", result(1.0))
    accounts.note("a", "shop", "s1", "t2", result(1.5))
    accounts.note("b", "shop", "s2", "t3", result(4.0))
    clock.now += timedelta(days=1)
    accounts.note("a", "", "s3", "t4", result(8.0))
    assert accounts.total() == TokenUsage(40, 12, 20, 8, 13.5, 4)
    assert accounts.total(instance="a") == TokenUsage(30, 9, 15, 6, 9.5, 3)
    assert accounts.total(project="shop").cost_usd == 5.5
    assert accounts.total(session="s1").cost_usd == 1.5
    assert accounts.total(turn="t2") == TokenUsage(10, 3, 5, 2, 0.5, 1)
    assert accounts.total(day=NOON.date()).turns == 3
    assert accounts.total(instance="a", day=date(2026, 3, 5)).cost_usd == 8.0
    assert accounts.total(instance="a", project="shop").cost_usd == 1.5
    assert accounts.total(instance="b", session="s1") == accounts.total(turn="x") == TokenUsage()
    assert accounts.total(day=NOON.date()).tokens == 60


# A turn's own cost


def test_the_same_turn_counts_once_also_after_a_restart(directory: Path) -> None:
    for _ in range(2):
        accounts = Accounts(directory, lambda: NOON)
        accounts.note("a", "p", "s", "t", result(1.0))
        accounts.note("a", "p", "s", "t", result(1.0))
    assert accounts.total().turns == 1
    accounts.note("b", "p", "s2", "t", result(1.0))
    assert accounts.total().turns == 2


def test_a_turns_cost_is_what_its_session_has_cost_since_also_after_a_restart(directory: Path) -> None:
    Accounts(directory).note("a", "p", "s", "t1", result(1.0))
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "t2", result(1.25))
    assert accounts.total(turn="t2").cost_usd == 0.25


def test_after_a_kill_the_sum_goes_on_from_where_a_process_last_ended_in_order(directory: Path) -> None:
    noted = [("1", 1.0), ("1", 2.0), ("2", 2.5), ("2", 3.0)]  # the second process goes on from 2.0
    for number, (process, so_far) in enumerate(noted):
        Accounts(directory).note("a", "p", "s", f"t{number}", result(so_far), process=process)
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "after", result(3.5), process="3", killed=True)
    accounts.note("a", "p", "s", "later", result(4.0), process="3")
    accounts.note("a", "p", "s", "resumed", result(4.25), process="4")
    turns = ["t0", "t1", "t2", "t3", "after", "later", "resumed"]
    assert [accounts.total(turn=turn).cost_usd for turn in turns] == [1.0, 1.0, 0.5, 0.5, 1.5, 0.5, 0.25]


def test_a_kill_of_which_nobody_has_said_anything_shows_in_a_sum_that_is_smaller(directory: Path) -> None:
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "t1", result(1.0), process="1")
    accounts.note("a", "p", "s", "t2", result(4.0), process="2")
    accounts.note("a", "p", "s", "t3", result(1.5), process="3")
    assert accounts.total(turn="t3").cost_usd == 0.5
    accounts.note("a", "p", "s", "t4", result(0.25))
    assert accounts.total(turn="t4").cost_usd == 0.25


@pytest.mark.parametrize("end", [{"exit_code": -9}, {"exit_code": 137}, {"out_of_memory": True}])
def test_after_a_turn_that_was_killed_the_sum_goes_on_from_before(directory: Path, end: dict[str, Any]) -> None:
    Accounts(directory).note("a", "p", "s", "t1", result(1.0))
    Accounts(directory).note("a", "p", "s", "t2", result(0.0, {}, **end))
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "t3", result(3.0))
    assert [accounts.total(turn=turn).cost_usd for turn in ("t2", "t3")] == [0.0, 3.0]


def test_a_turn_of_which_nothing_was_said_is_paid_with_the_next(directory: Path) -> None:
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "t1", result(1.0))
    accounts.note("a", "p", "s", "t2", result(0.0, {}), usage={"output_tokens": 7})
    accounts.note("a", "p", "s", "t3", result(3.0))
    assert [accounts.total(turn=turn).cost_usd for turn in ("t2", "t3")] == [0.0, 2.0]
    assert accounts.total(turn="t2").output == 7


@pytest.mark.parametrize("claimed", [float("nan"), float("inf"), -1.0, 1e300, "1", None, True])
def test_what_a_container_claims_is_checked(directory: Path, claimed: Any) -> None:
    accounts = Accounts(directory)
    accounts.note("a", "p", "s" * 10_000, "t", result(claimed, {"input_tokens": claimed, "output_tokens": -1}))
    accounts.note("a", "p", "s", "t2", result(1.0, {"input_tokens": 2**80, "output_tokens": 1}))
    assert accounts.total() == TokenUsage(0, 1, 0, 0, 1.0, 2)
    assert Accounts(directory).total() == accounts.total()


# On disk


def test_it_is_private(directory: Path) -> None:
    Accounts(directory).note("a", "p", "s", "t", result(1.0))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "accounts.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_kill_has_torn_is_cut_wherever_it_was_torn(directory: Path) -> None:
    file = directory / "accounts.jsonl"
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "t1", result(1.0))
    whole = file.stat().st_size
    accounts.note("a", "p", "s", "t2", result(3.0))
    both = file.read_bytes()
    for torn in range(whole, len(both)):
        file.write_bytes(both[:torn])
        assert Accounts(directory, read_only=True).total().turns == 1
        assert file.stat().st_size == torn
        accounts = Accounts(directory)
        assert (accounts.total().turns, accounts.damaged) == (1, 0)
        accounts.note("a", "p", "s", "t2", result(3.0))
        assert file.read_bytes().count(b"\n") == 2
        assert Accounts(directory).total().cost_usd == 3.0


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"\xff\xfe", b"[" * 70_000, b'{"day": "x"}', b"x" * 300_000])
def test_lines_that_cannot_be_read_are_told_and_hide_no_others(directory: Path, text: bytes) -> None:
    file = directory / "accounts.jsonl"
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "t1", result(1.0))
    with file.open("ab") as book:
        book.write(text + b"\n")
    accounts.note("a", "p", "s", "t2", result(3.0))
    accounts = Accounts(directory)
    assert (accounts.total().cost_usd, accounts.damaged) == (3.0, 1)


@pytest.mark.parametrize("field", ["input", "day", "turn", "process", "so_far"])
def test_a_line_with_a_field_that_is_none_counts_nothing_false(directory: Path, field: str) -> None:
    file = directory / "accounts.jsonl"
    Accounts(directory).note("a", "p", "s", "t1", result(1.0))
    file.write_text(json.dumps({**json.loads(file.read_text()), field: [-1]}) + "\n")
    accounts = Accounts(directory)
    assert accounts.damaged == (0 if field == "so_far" else 1)


def test_what_does_not_fit_on_a_full_disk_counts_and_is_written_later(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Accounts(directory)
    accounts.note("a", "p", "s", "t1", result(1.0))
    write, room = os.write, [20]

    def full(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= (written := write(fd, data[: room[0]]))
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        accounts.note("a", "p", "s", "t2", result(3.0))
        accounts.note("a", "p", "s", "t3", result(4.0))
    assert (accounts.total().cost_usd, accounts.unwritten) == (4.0, 2)
    assert Accounts(directory, read_only=True).total().turns == 1
    accounts.note("a", "p", "s", "t4", result(5.0))
    assert accounts.unwritten == 0
    assert Accounts(directory).total() == accounts.total()


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_jumps_counts_nothing_twice_and_loses_nothing(directory: Path, jump: timedelta) -> None:
    clock = Clock()
    accounts = Accounts(directory, clock, budgets=[Budget(usd=2, instance="a")])
    accounts.note("a", "p", "s", "t1", result(1.0))
    clock.now += jump
    accounts.note("a", "p", "s", "t1", result(1.0))
    accounts.note("a", "p", "s", "t2", result(2.0))
    accounts.check("a", "p")
    clock.now = NOON
    accounts = Accounts(directory, clock, budgets=[Budget(usd=2, instance="a")])
    accounts.note("a", "p", "s", "t3", result(3.0))
    assert accounts.total().cost_usd == 3.0
    assert accounts.total(day=NOON.date()).cost_usd == 2.0
    with pytest.raises(BudgetExceeded):
        accounts.check("a", "p")


def test_older_turns_are_put_together_by_day(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TURNS", 10)
    clock = Clock()
    accounts = Accounts(directory, clock)
    for number in range(21 * 4):
        clock.now = NOON + timedelta(days=number // 21)
        accounts.note("a", "p", f"s{number % 2}", f"t{number}", result(number // 2 + 1.0))
    lines = (directory / "accounts.jsonl").read_bytes().count(b"\n")
    assert lines < 40
    again = Accounts(directory, clock)
    assert again.total() == accounts.total()
    assert again.total().turns == 84
    assert again.total().cost_usd == 84.0
    assert again.total(day=NOON.date()).turns == 21
    assert again.total(instance="a", session="s1", day=NOON.date()).turns == 10
    again.note("a", "p", "s0", "t82", result(42.0))
    assert again.total().turns == 84
    again.note("a", "p", "s0", "new", result(43.5))
    assert again.total(turn="new").cost_usd == 1.5


def test_where_they_cannot_be_put_together_nothing_is_lost(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(book: Book, lines: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_MOST_TURNS", 10)
    monkeypatch.setattr(Book, "replace", full)
    accounts = Accounts(directory)
    for number in range(50):
        accounts.note("a", "p", "s", f"t{number}", result(number + 1.0))
    assert Accounts(directory).total() == accounts.total()
    assert accounts.total().turns == 50


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="file"):
        Accounts(tmp_path / "file")
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / "accounts.jsonl").mkdir()
    with pytest.raises(InvalidInput, match="accounts"):
        Accounts(tmp_path / "accounts")


def test_who_only_reads_changes_nothing(directory: Path) -> None:
    accounts = Accounts(directory, read_only=True)
    assert not directory.exists()
    with pytest.raises(InvalidInput, match="only read"):
        accounts.note("a", "p", "s", "t", result(1.0))


Noted = st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.booleans(), st.integers(0, 60))


@given(st.lists(Noted, max_size=30))
def test_each_turn_counts_once_whatever_is_killed_when(noted: list[tuple[str, int, bool, int]]) -> None:
    """After a kill the tail may be torn anywhere in the last line, and the turns are noted again."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, "accounts")
        file = directory / "accounts.jsonl"
        accounts, seen = Accounts(directory), dict[tuple[str, int], None]()
        for instance, turn, killed, torn in noted:
            seen[instance, turn] = None
            accounts.note(instance, "p", f"{instance}{turn}", str(turn), result(turn + 1.0))
            if killed:
                kept = file.read_bytes()
                begin = kept.rfind(b"\n", 0, -1) + 1
                file.write_bytes(kept[: max(begin, len(kept) - torn)])
                accounts = Accounts(directory)
                for again, number in seen:
                    accounts.note(again, "p", f"{again}{number}", str(number), result(number + 1.0))
        assert accounts.total().turns == len(seen)
        assert accounts.total().cost_usd == sum(number + 1.0 for _, number in seen)
        assert Accounts(directory).total() == accounts.total()


# Budgets

MakeAccounts = Callable[..., Accounts]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_accounts(directory: Path, clock: Clock) -> MakeAccounts:
    return lambda *budgets: Accounts(directory, clock, budgets=budgets)


def test_a_budget_that_is_spent_says_which_by_how_much_and_until_when(
    make_accounts: MakeAccounts, clock: Clock
) -> None:
    accounts = make_accounts(Budget(usd=5, project="shop"))
    accounts.note("a", "shop", "s", "t1", result(4.99))
    accounts.check("a", "shop")
    accounts.note("b", "shop", "s2", "t2", result(0.5))
    with pytest.raises(BudgetExceeded) as caught:
        accounts.check("c", "shop")
    assert str(caught.value) == (
        "c: the budget of the project shop is spent: $5.49 of $5.00 today. "
        "It opens again at 2026-03-05 00:00 UTC; until then, raise it."
    )
    assert (caught.value.budget, caught.value.opens) == (5, datetime(2026, 3, 5, tzinfo=UTC))
    assert caught.value.spent == pytest.approx(5.49)
    accounts.check("a", "other")
    clock.now += timedelta(days=1)
    accounts.check("c", "shop")


def test_a_budget_in_all_never_opens_again(make_accounts: MakeAccounts, clock: Clock) -> None:
    accounts = make_accounts(Budget(usd=5, instance="a", per="total"))
    accounts.note("a", "", "s", "t1", result(5))
    clock.now += timedelta(days=100)
    with pytest.raises(BudgetExceeded, match=r"in all. Raise it.") as caught:
        accounts.check("a", "")
    assert caught.value.opens is None
    accounts.check("b", "")


def test_each_instance_may_have_a_budget_of_its_own(make_accounts: MakeAccounts) -> None:
    accounts = make_accounts(Budget(usd=5, instance="*"), Budget(usd=1, project="*"))
    accounts.note("a", "", "s", "t1", result(5))
    accounts.check("b", "")
    with pytest.raises(BudgetExceeded, match="instance a"):
        accounts.check("a", "")


def test_a_budget_of_tokens(make_accounts: MakeAccounts) -> None:
    accounts = make_accounts(Budget(tokens=21, instance="a"))
    accounts.note("a", "p", "s", "t1", result(1))
    accounts.check("a", "p")
    accounts.note("a", "p", "s", "t2", result(1))
    with pytest.raises(BudgetExceeded, match="40 tokens of 21 tokens"):
        accounts.check("a", "p")


def test_a_running_turn_counts_until_it_is_noted(make_accounts: MakeAccounts) -> None:
    accounts = make_accounts(Budget(tokens=100, project="p", then="interrupt"))
    accounts.running("a", "p", "t1", TokenUsage(input=60))
    accounts.running("a", "p", "t1", TokenUsage(input=70))
    accounts.running("b", "other", "t2", TokenUsage(input=1000))
    assert accounts.interrupts("a", "p") is None
    accounts.running("b", "p", "t3", TokenUsage(output=30))
    assert isinstance(accounts.interrupts("a", "p"), BudgetExceeded)
    with pytest.raises(BudgetExceeded):
        accounts.check("b", "p")
    accounts.note("a", "p", "s", "t1", result(1))
    accounts.running("a", "p", "t1", TokenUsage(input=1000))
    assert accounts.interrupts("a", "p") is None
    assert accounts.total().tokens == 20


def test_a_budget_that_only_refuses_interrupts_nothing(make_accounts: MakeAccounts) -> None:
    accounts = make_accounts(Budget(usd=0, instance="a"))
    assert accounts.interrupts("a", "") is None
    with pytest.raises(BudgetExceeded):
        accounts.check("a", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"usd": 1},
        {"instance": "a"},
        {"usd": 1, "tokens": 1, "instance": "a"},
        {"usd": -1, "instance": "a"},
        {"usd": float("nan"), "instance": "a"},
        {"usd": 1, "instance": "a", "project": "p"},
        {"usd": 1, "instance": "a", "per": "week"},
        {"usd": 1, "instance": "a", "then": "stop"},
    ],
)
def test_what_is_no_budget_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Budget(**fields)
