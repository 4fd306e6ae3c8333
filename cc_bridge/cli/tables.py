"""Tables and progress bars, by rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from ..engine.progress import Step
from .harmless import plain

__all__ = ["Bar", "live_table", "print_table"]

#: Characters of a step's text that are shown.
_LONGEST = 100


class Bar:
    """One changing line on stderr for something long; gone when it is over."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            _KnownBar(bar_width=24),
            TextColumn("{task.description}"),
            console=Console(stderr=True, highlight=False, emoji=False),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def show(self, step: Step) -> None:
        """How far it is."""
        text = escape(plain(step.text[:_LONGEST]))
        self._progress.update(self._task, description=text, completed=step.done or 0, total=step.total)

    def stop(self) -> None:
        """It is over."""
        self._progress.stop()


class _KnownBar(BarColumn):
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
