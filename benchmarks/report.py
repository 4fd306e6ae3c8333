"""What a run leaves: bench.json, and of a whole run docs/performance.md with its plots."""

from __future__ import annotations

import html
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import date

from cc_bridge.errors import BridgeError
from cc_bridge.instances.process_place import find_claude

from .figures import Figure, Sheet, number
from .stage import PROJECT

PAGE = PROJECT / "docs" / "performance.md"
PLOTS = PROJECT / "docs" / "performance"
BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"

#: What is drawn: part, what its figures' names begin with, unit, and a title.
DRAWN = (
    ("round-trip", "", "µs", "A 200-byte line there and back"),
    ("first-token", "first token: ", "ms", "Until the first token"),
    ("pane", "", "ms", "Until the end of an answer in a pane is known"),
    ("throughput", "4 kB: ", "MB/s", "4 kB lines"),
)


def write_json(sheet: Sheet) -> None:
    data = {"versions": versions(), "figures": [figure.as_dict() for figure in sheet.figures], "notes": sheet.notes}
    (PROJECT / "bench.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def write_page(sheet: Sheet, titles: dict[str, str]) -> None:
    """Replace what the last run has written; the words around it are ours."""
    PLOTS.mkdir(exist_ok=True)
    parts = [_machine(), _aims(sheet.figures)]
    for part, title in titles.items():
        figures = [figure for figure in sheet.figures if figure.part == part]
        parts.append(f"## {part}\n\n{title[0].upper()}{title[1:]}.\n")
        for drawn, prefix, unit, what in DRAWN:
            if drawn == part:
                chosen = [
                    f for f in figures if f.name.startswith(prefix) and f.unit == unit and "added by" not in f.name
                ]
                (PLOTS / f"{part}.svg").write_text(_bars(what, unit, chosen, prefix))
                parts.append(f"![{what}](performance/{part}.svg)\n")
        parts += [_table(figures), *(f"\n{note[0].upper()}{note[1:]}.\n" for note in sheet.notes.get(part, ()))]
    text = PAGE.read_text()
    made = "\n".join(part.rstrip("\n") + "\n" for part in parts)
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{made}\n{END}", text, flags=re.DOTALL))


def versions() -> dict[str, str]:
    found = {"cc-bridge": importlib.metadata.version("cc-bridge"), "Python": platform.python_version()}
    try:
        found["Claude Code"] = _said(find_claude(), "--version").split(" ")[0]
    except BridgeError:
        pass
    for name, argv in (("tmux", ("tmux", "-V")), ("Docker", ("docker", "version", "-f", "{{.Server.Version}}"))):
        found[name] = _said(*argv).removeprefix("tmux ")
    for name in ("anyio", "claude-agent-sdk", "docker"):
        try:
            found[f"the package {name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return {name: version for name, version in found.items() if version}


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30).stdout.strip()
    except OSError:
        return ""


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    what = f"{len(os.sched_getaffinity(0))} processors ({platform.machine()}), {memory:.0f} GiB, {sys.platform}"
    listed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"Measured on {date.today()}: {what}; {listed}."


def _aims(figures: Sequence[Figure]) -> str:
    rows = ["| | compared with | aimed at | measured | |", "| --- | --- | --- | --- | --- |"]
    for figure in figures:
        if figure.met is not None:
            tried = f"{number(figure.ratio)} ×" if figure.ratio is not None else f"{number(figure.value)} {figure.unit}"
            state = "met" if figure.met else "**missed**"
            name = (
                figure.name
                if figure.name.startswith(figure.part.replace("-", " "))
                else f"{figure.part}: {figure.name}"
            )
            rows.append(f"| {name} | {figure.compared_with} | {figure.target} | {tried} | {state} |")
    return "## What was aimed at\n\n" + "\n".join(rows) + "\n"


def _table(figures: Sequence[Figure]) -> str:
    rows = ["| | median | 10th to 90th percentile | compared |", "| --- | --- | --- | --- |"]
    for figure in figures:
        spread = f"{number(figure.low)} to {number(figure.high)}" if figure.low != figure.high else ""
        ratio = f"{number(figure.ratio)} × {figure.compared_with}" if figure.ratio is not None else ""
        rows.append(f"| {figure.name} | {number(figure.value)} {figure.unit} | {spread} | {ratio} |")
    return "\n".join(rows) + "\n"


def _bars(title: str, unit: str, figures: Sequence[Figure], prefix: str) -> str:
    """Horizontal bars, one a figure, on a scale that begins at nought; the spread as a line."""
    width, left, row = 760, 330, 26
    most = max(figure.high for figure in figures) or 1.0
    height = 50 + row * len(figures)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{html.escape(title)} ({unit})</text>',
    ]
    scale = (width - left - 90) / most
    for index, figure in enumerate(figures):
        y = 40 + row * index
        name = html.escape(figure.name.removeprefix(prefix))
        ours = any(
            word in figure.name for word in ("NamedPipe", "Local", "Container", "cc-bridge", "Tmux", "agent and pipes")
        )
        end = left + figure.value * scale
        out += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>',
            f'<rect x="{left}" y="{y + 3}" width="{max(1.0, end - left):.1f}" height="15" '
            f'fill="{"#c2571a" if ours else "#7a8794"}"/>',
            f'<line x1="{left + figure.low * scale:.1f}" x2="{left + figure.high * scale:.1f}" y1="{y + 10}" '
            f'y2="{y + 10}" stroke="black"/>',
            f'<text x="{left + figure.high * scale + 6:.1f}" y="{y + 14}">{number(figure.value)}</text>',
        ]
    return "\n".join([*out, "</svg>", ""])
