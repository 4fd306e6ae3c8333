"""The table at the end of a run of chaos."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from .rig import VERDICTS

#: For each fault: how many rounds, and how often each verdict.
table: dict[str, Counter[str]] = defaultdict(Counter)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if table:
        columns = ("rounds", *VERDICTS)
        terminalreporter.write_sep("=", "chaos")
        terminalreporter.write_line(f"{'fault':<20}" + "".join(f"{name:>13}" for name in columns))
        for fault, counts in table.items():
            terminalreporter.write_line(f"{fault:<20}" + "".join(f"{counts[name]:>13}" for name in columns))
