"""What a person or a program sees: the answer on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from .. import events
from ..engine.progress import Step
from ..events import Event, as_dict
from .harmless import plain, shown_on

__all__ = ["Display", "live_table", "print_json", "print_table", "short"]

_LONGEST = 100


class Display:
    """Shows a turn as it comes. Colours and spinner only on a terminal.

    Args:
        as_json: print events as JSON lines on stdout instead of the text.
    """

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self.asks = False  # a person is asked about permissions, and needs no notice of them
        self._notes = Console(stderr=True, highlight=False, emoji=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._ends_with_newline = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()
        self.end_line()

    @property
    def is_terminal(self) -> bool:
        """Somebody is looking at stdout."""
        return sys.stdout.isatty()

    def progress(self, step: Step | str) -> None:
        """A step of something long: one changing line with a bar on a terminal, a line each elsewhere."""
        step = Step(step) if isinstance(step, str) else step
        if not self._notes.is_terminal:
            if not step.passing:
                self._notes.print(escape(plain(step.text)), soft_wrap=True)
            return
        if self._bar is None:
            self._bar = Progress(
                SpinnerColumn(),
                _Bar(bar_width=24),
                TextColumn("{task.description}"),
                console=self._notes,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        text = escape(plain(step.text[:_LONGEST]))
        self._bar.update(self._task, description=text, completed=step.done or 0, total=step.total)

    def settle(self) -> None:
        """The long thing is over."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        """Something a person should know."""
        self.settle()
        self.end_line()
        self._notes.print(f"[dim]{escape(plain(text))}[/dim]", soft_wrap=True)

    def event(self, event: Event) -> None:
        """An event of a turn."""
        self.settle()
        if self._as_json:
            print_json(as_dict(event), lines=True)
            return
        match event:
            case events.TextDelta(text):
                sys.stdout.write(shown_on(sys.stdout, text))
                sys.stdout.flush()
                self._ends_with_newline = text.endswith("\n")
            case events.ToolUse(_, name, arguments):
                self.note(f"· {name} {short(arguments)}")
            case events.PermissionRequest(_, name, arguments) if not self.asks:
                self.note(f"· was denied {name} {short(arguments)}; --allowed-tools allows tools")
            case events.ApiRetry(attempt, most, delay, status, error):
                self.note(f"· API error {status or error}; retry {attempt} of {most} in {delay:.1f} s")
            case events.Silence(seconds, working):
                self.note(f"· nothing for {seconds:.0f} s" + ("; it is working" if working else ""))
            case _:
                pass

    def end_line(self) -> None:
        """Finish the answer's last line, on a terminal and elsewhere: tools that read lines expect it."""
        if not self._ends_with_newline:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._ends_with_newline = True


def print_json(value: Any, *, lines: bool = False) -> None:
    """A JSON document, or one of several on a line each."""
    text = json.dumps(value, ensure_ascii=False, indent=None if lines else 2, default=str)
    print(shown_on(sys.stdout, text), flush=True)


class _Bar(BarColumn):
    """A bar where it is known how much there is to do."""

    def render(self, task: Task) -> Any:
        return Text("") if task.total is None else super().render(task)


def print_table(headings: list[str], rows: list[list[str]]) -> None:
    """A table without borders, as other container tools print it; never cut where stdout is a file."""
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 1000
    with console.capture() as captured:
        console.print(_table(headings, rows))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


@contextmanager
def live_table() -> Iterator[Callable[[list[str], list[list[str]]], None]]:
    """A table that changes in its place, on a terminal."""
    with Live(console=Console(highlight=False, emoji=False), auto_refresh=False) as live:

        def show(headings: list[str], rows: list[list[str]]) -> None:
            live.update(_table(headings, rows), refresh=True)

        yield show


def _table(headings: list[str], rows: list[list[str]]) -> Table:
    table = Table(*headings, box=None, pad_edge=False, header_style="bold", show_header=any(headings))
    for row in rows:
        table.add_row(*(escape(plain(cell)) for cell in row))
    return table


def short(arguments: Any, longest: int = _LONGEST) -> str:
    """A tool's input on one line; what is left out is said."""
    text = json.dumps(arguments, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} characters more)"
