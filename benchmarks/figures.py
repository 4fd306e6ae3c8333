"""Figures: medians with their spread, what they are compared with, and what was aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One thing that was measured.

    Attributes:
        low, high: 10th and 90th percentile; the value itself where it was measured once.
        compared_with: the figure that ``ratio`` is to.
        target: what was aimed at, in words; ``met``: whether it was reached; None: nothing was aimed at.
    """

    part: str
    name: str
    value: float
    unit: str
    low: float
    high: float
    compared_with: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Sheet:
    """The figures of one run, in order."""

    figures: list[Figure] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    part: str = ""
    title: str = ""

    def begin(self, part: str, title: str) -> None:
        self.part, self.title = part, title
        print(f"\n{part}: {title}", flush=True)

    def note(self, text: str) -> None:
        """What a reader should know, such as why something was not measured."""
        self.notes.setdefault(self.part, []).append(text)
        print(f"  ({text})", flush=True)

    def add(
        self,
        name: str,
        samples: Sequence[float] | float,
        unit: str,
        base: Figure | None = None,
        *,
        most: float | None = None,
        least: float | None = None,
        below: Figure | None = None,
    ) -> Figure:
        """A figure from its samples.

        Args:
            most, least: aimed at for the ratio to ``base``; for the value where there is no base.
            below: aimed at: less than this one.
        """
        values = [samples] if isinstance(samples, int | float) else list(samples)
        value = statistics.median(values)
        low, high = (value, value)
        if len(values) > 1:
            cuts = statistics.quantiles(values, n=10, method="inclusive")
            low, high = cuts[0], cuts[-1]
        ratio = value / base.value if base is not None and base.value else None
        tried = ratio if base is not None else value
        met: bool | None = None
        words = []
        if most is not None:
            met = tried is not None and tried <= most
            words.append(f"at most {most:g}{' ×' if base else ' ' + unit}")
        if least is not None:
            met = tried is not None and tried >= least and met is not False
            words.append(f"at least {least:g}{' ×' if base else ' ' + unit}")
        if below is not None:
            met = value < below.value and met is not False
            words.append(f"below {below.name}")
        figure = Figure(
            self.part, name, value, unit, low, high, base.name if base else "", ratio, ", ".join(words), met
        )
        self.figures.append(figure)
        print("  " + line(figure), flush=True)
        return figure


def number(value: float) -> str:
    """Three digits that matter."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def line(figure: Figure) -> str:
    """A figure for a terminal."""
    spread = f"({number(figure.low)} to {number(figure.high)})" if figure.low != figure.high else ""
    ratio = f"{number(figure.ratio)} × {figure.compared_with}" if figure.ratio is not None else ""
    mark = "" if figure.met is None else "  met" if figure.met else f"  MISSED: {figure.target}"
    return f"{figure.name:<46} {number(figure.value):>9} {figure.unit:<8} {spread:<22} {ratio}{mark}"
