"""`make bench`, or `make bench ONLY=round-trip` for one part."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile

import anyio

from . import report
from .figures import Sheet

PARTS = (
    "round-trip",
    "first-token",
    "sdk",
    "send",
    "claude",
    "sealed",
    "throughput",
    "many",
    "idle",
    "fleet",
    "start",
    "safety",
    "pane",
    "containers",
    "swarm",
    "service",
    "page",
)


async def main() -> None:
    only = os.environ.get("ONLY", "")
    if only and only not in PARTS:
        sys.exit(f"ONLY={only}: there is {', '.join(PARTS)}")
    sheet, titles = Sheet(), {}
    with tempfile.TemporaryDirectory(prefix="cc-bridge-bench-") as state:
        os.environ["CC_BRIDGE_HOME"] = state  # nothing of the user's instances is touched
        for part in PARTS:
            if only in ("", part):
                module = importlib.import_module(f".{part.replace('-', '_')}", __package__)
                titles[part] = module.TITLE
                sheet.begin(part, module.TITLE)
                await module.run(sheet)
    report.write_json(sheet)
    missed = [figure.name for figure in sheet.figures if figure.met is False]
    print(f"\nbench.json has {len(sheet.figures)} figures; missed: {', '.join(missed) or 'none'}")
    if not only:
        report.write_page(sheet, titles)
        print("docs/performance.md and its plots are of this run")


anyio.run(main)
