"""What turns have used and cost: by turn, session, instance, project and day; and budgets that stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal

from ..errors import BudgetExceeded, InvalidInput
from ..events import TurnResult
from ..logs import Log
from ..state import unusable
from .account_book import Book, Line, TokenUsage, count, dollars

__all__ = ["Accounts", "Budget", "TokenUsage"]

#: Turns that are kept one by one; of twice as many, the older half is put together by day.
_MOST_TURNS = 10_000

#: Characters of a session's id, which comes out of a container, and of a project's name.
_LONGEST_NAME = 200

#: How a process ends that could not save what its session had cost: by SIGKILL, also in a container.
_KILLED = (-9, 137)


@dataclass(frozen=True)
class Budget:
    """What may be spent.

    Attributes:
        usd: US dollars, as Claude Code estimates them; or
        tokens: of all kinds.
        instance: whose budget it is; ``*``: each instance has one of its own.
        project: the same for projects; one of the two is to be named.
        per: ``day`` (UTC) or in all (``total``).
        then: what happens when it is spent: the next command is refused (``refuse``), and running turns are
            interrupted, too (``interrupt``).

    Raises:
        InvalidInput: it names no amount, or both, or neither instance nor project.
    """

    usd: float | None = None
    tokens: int | None = None
    instance: str = ""
    project: str = ""
    per: Literal["day", "total"] = "day"
    then: Literal["refuse", "interrupt"] = "refuse"

    def __post_init__(self) -> None:
        if (self.usd is None) == (self.tokens is None):
            raise InvalidInput("a budget is an amount of US dollars or a number of tokens", hint="Name one of the two.")
        if not math.isfinite(self.amount) or self.amount < 0:
            raise InvalidInput(f"{self.amount} is no budget", hint="It is 0 or more.")
        if bool(self.instance) == bool(self.project):
            raise InvalidInput("a budget is an instance's or a project's", hint='Name one of the two, or "*" for each.')
        if self.per not in ("day", "total") or self.then not in ("refuse", "interrupt"):
            raise InvalidInput(f"a budget per {self.per!r} that then {self.then!r}s is none", hint="See Budget.")

    @property
    def amount(self) -> float:
        """How much, of whatever it is."""
        return self.usd if self.usd is not None else float(self.tokens or 0)

    def _in_words(self, amount: float) -> str:
        return f"${amount:.2f}" if self.usd is not None else f"{amount:.0f} tokens"


@dataclass(frozen=True)
class _Running:
    instance: str
    project: str
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class _Sums:
    so_far: float = 0.0
    saved: float = 0.0
    process: str = ""


class Accounts:
    """The accounts of a fleet, kept on disk.

    Args:
        directory: where; this object's alone, unless it only reads.
        now: the time; UTC. A turn counts for the day on which it is noted, whatever the clock has said before.
        budgets: what may be spent.
        read_only: to look at the accounts of a fleet that runs.

    Raises:
        InvalidInput: the directory cannot be used.

    Attributes:
        damaged: lines of the file that could not be read, and do not count.
        unwritten: turns that count and are not on disk, because it was full. They are written with the next turn.
    """

    def __init__(
        self,
        directory: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        budgets: Iterable[Budget] = (),
        read_only: bool = False,
    ) -> None:
        self._now = now
        self._budgets = tuple(budgets)
        self._log = Log("", "fleet")
        self._read_only = read_only
        self._most_turns = 2 * _MOST_TURNS
        self._book = Book(directory)
        self._lines: list[Line] = []  # those of turns, and what was put together before
        self._turns: dict[tuple[str, str], TokenUsage] = {}
        self._sums: dict[tuple[str, str, str], TokenUsage] = {}  # of what, its name, the day or all
        self._sessions: dict[str, _Sums] = {}
        self._running: dict[tuple[str, str], _Running] = {}
        self._unwritten: list[Line] = []
        try:
            if not read_only:
                self._book.prepare()
            for line in self._book.load():
                self._count(line)
        except OSError as error:
            raise unusable(directory, error) from error
        if self.damaged:
            self._log.warning("accounts_damaged", lines=self.damaged, path=str(self._book.path))

    @property
    def damaged(self) -> int:
        """As the class says."""
        return self._book.damaged

    @property
    def unwritten(self) -> int:
        """As the class says."""
        return len(self._unwritten)

    def note(
        self,
        instance: str,
        project: str,
        session: str,
        turn: str,
        result: TurnResult,
        usage: Mapping[str, Any] | None = None,
        *,
        process: str = "",
        killed: bool = False,
    ) -> None:
        """Count a turn that has ended; once, however often it is noted. Turns of a session in their order.

        Args:
            usage: token counts in the place of the result's, whose are 0 for a turn that was interrupted.
            process: anything that is another for another process of Claude Code's. Without it, what a turn has cost
                after a kill cannot always be told.
            killed: the process before this one was (SIGKILL, or out of memory), after the session's last turn. Where it
                was killed within a turn, that turn's result says so.

        Raises:
            InvalidInput: these accounts are only read.
        """
        if self._read_only:
            raise InvalidInput("these accounts are only read", instance=instance)
        self._running.pop((instance, turn), None)
        if (instance, turn) in self._turns:
            return
        session, project = session[:_LONGEST_NAME], project[:_LONGEST_NAME]
        cost, sums = self._cost_of(session or instance, result, process[:_LONGEST_NAME], killed=killed)
        counts = usage if usage is not None else result.usage
        used = TokenUsage(
            count(counts.get("input_tokens")),
            count(counts.get("output_tokens")),
            count(counts.get("cache_read_input_tokens")),
            count(counts.get("cache_creation_input_tokens")),
            cost,
            turns=1,
        )
        line = Line(
            self._today().isoformat(), instance, project, session, turn, used, sums.so_far, sums.saved, sums.process
        )
        self._count(line)
        self._unwritten.append(line)
        self._write()

    def running(self, instance: str, project: str, turn: str, usage: TokenUsage) -> None:
        """Count what a turn has used until now, in the place of what it had before, until it is noted."""
        if (instance, turn) not in self._turns:
            self._running[instance, turn] = _Running(instance, project[:_LONGEST_NAME], replace(usage, turns=1))

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What may be spent."""
        return self._budgets

    def spent(self, budget: Budget, name: str) -> float:
        """What is spent of a budget, in what it is counted in, running turns included.

        Args:
            name: of the instance or the project whose it is.
        """
        of_what = "instance" if budget.instance else "project"
        day = self._today().isoformat() if budget.per == "day" else ""
        spent = self._sums.get((of_what, name, day), TokenUsage())
        for running in self._running.values():
            if getattr(running, of_what) == name:
                spent += running.usage
        return spent.cost_usd if budget.usd is not None else float(spent.tokens)

    def check(self, instance: str, project: str) -> None:
        """Make sure that the instance may have another command.

        Raises:
            BudgetExceeded: which budget is spent, by how much, and when it opens again.
        """
        for budget in self._budgets:
            if exceeded := self._exceeded(budget, instance, project):
                raise exceeded

    def interrupts(self, instance: str, project: str) -> BudgetExceeded | None:
        """Why a running turn of the instance is to be interrupted; None: it may go on. Ask after each count."""
        found = (self._exceeded(budget, instance, project) for budget in self._budgets if budget.then == "interrupt")
        return next((exceeded for exceeded in found if exceeded), None)

    def total(
        self,
        *,
        instance: str | None = None,
        project: str | None = None,
        session: str | None = None,
        turn: str | None = None,
        day: date | None = None,
    ) -> TokenUsage:
        """What was used by all that is named, together. Running turns do not count.

        Args:
            turn: known for the last 10,000 turns, at least.
            day: in UTC.
        """
        wanted = {"instance": instance, "project": project, "session": session, "turn": turn}
        named = {name: value for name, value in wanted.items() if value is not None}
        on = day.isoformat() if day else None
        if len(named) <= 1 and turn is None:
            of_what, name = next(iter(named.items()), ("", ""))
            return self._sums.get((of_what, name, on or ""), TokenUsage())
        found = TokenUsage()
        for line in self._lines:
            if (on is None or line.day == on) and all(getattr(line, name) == value for name, value in named.items()):
                found += line.usage
        return found

    def _today(self) -> date:
        return self._now().astimezone(UTC).date()

    def _cost_of(self, session: str, result: TurnResult, process: str, *, killed: bool) -> tuple[float, _Sums]:
        """A turn's own cost, and the session's sums: Claude Code tells the session's only (docs/claude-code.md)."""
        last = self._sessions.get(session, _Sums())
        before, saved, process = last.so_far, last.saved, process or last.process
        if killed:
            before = saved
        elif process != last.process:
            saved = before
        so_far = dollars(result.cost_usd)
        if not so_far and not result.usage:  # it said nothing: the next result has the cost of this turn, too
            dies = result.out_of_memory or result.exit_code in _KILLED
            return 0.0, _Sums(saved if dies else before, saved, process)
        if so_far < before:  # killed, and nobody has said so
            saved = last.saved
            before = saved if so_far >= saved else 0.0
        return so_far - before, _Sums(so_far, saved, process)

    def _count(self, line: Line) -> None:
        if line.turn:
            if (line.instance, line.turn) in self._turns:
                return
            self._turns[line.instance, line.turn] = line.usage
        self._lines.append(line)
        self._sessions[line.session or line.instance] = _Sums(line.so_far, line.saved, line.process)
        names = ("", ""), ("instance", line.instance), ("project", line.project), ("session", line.session)
        for of_what, name in names:
            for day in ("", line.day):
                key = (of_what, name, day)
                self._sums[key] = self._sums.get(key, TokenUsage()) + line.usage

    def _write(self) -> None:
        try:
            while self._unwritten:
                self._book.append(self._unwritten[0])
                del self._unwritten[0]
            if len(self._turns) > self._most_turns:
                self._most_turns = len(self._turns) + _MOST_TURNS // 10  # if there is no room for it just now
                self._put_together()
                self._most_turns = 2 * _MOST_TURNS
        except OSError as error:
            self._log.warning("accounts_not_written", reason=error.strerror, turns=len(self._unwritten))

    def _put_together(self) -> None:
        """Make one line of each session's older turns of a day."""
        older, newer = self._lines[:-_MOST_TURNS], self._lines[-_MOST_TURNS:]
        days: dict[tuple[str, str, str, str], Line] = {}
        for line in older:
            key = (line.day, line.instance, line.project, line.session)
            usage = line.usage + days[key].usage if key in days else line.usage
            days.pop(key, None)  # to the end: of a session's lines, the last one has what it has cost so far
            days[key] = replace(line, turn="", usage=usage)
        lines = [*days.values(), *newer]
        self._book.replace(lines)
        self._lines = lines
        self._turns = {(line.instance, line.turn): line.usage for line in newer if line.turn}

    def _exceeded(self, budget: Budget, instance: str, project: str) -> BudgetExceeded | None:
        of_what, name = ("instance", instance) if budget.instance else ("project", project)
        if (budget.instance or budget.project) not in ("*", name) or not name:
            return None
        amount = self.spent(budget, name)
        if amount < budget.amount:
            return None
        opens = datetime.combine(self._today() + timedelta(days=1), time(), UTC) if budget.per == "day" else None
        when = f"It opens again at {opens:%Y-%m-%d %H:%M} UTC; until then, raise it." if opens else "Raise it."
        today_or_all = "today" if opens else "in all"
        of_it = f"{budget._in_words(amount)} of {budget._in_words(budget.amount)} {today_or_all}"
        what = f"the budget of the {of_what} {name} is spent: {of_it}"
        return BudgetExceeded(what, instance=instance, hint=when, budget=budget.amount, spent=amount, opens=opens)
