"""The table at the end of a run of chaos, from the reports of all its processes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from .rig import VERDICTS

#: Under which a round's fault and verdicts are in its report.
PROPERTY = "chaos"


def write(terminalreporter: Any) -> None:
    """For each fault: how many rounds, and how often each verdict."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, value in getattr(report, "user_properties", ()):
            if name == PROPERTY and report.when == "call":
                fault, *verdicts = value
                table[fault].update(["rounds", *verdicts])
    if table:
        columns = ("rounds", *VERDICTS)
        terminalreporter.write_sep("=", "chaos")
        terminalreporter.write_line(f"{'fault':<20}" + "".join(f"{name:>13}" for name in columns))
        for fault, counts in sorted(table.items()):
            terminalreporter.write_line(f"{fault:<20}" + "".join(f"{counts[name]:>13}" for name in columns))
