"""How soon the end of an answer in a pane is known: by us, by polling the transcript, and by a screen at rest.

All of the same turns, from the moment in which Claude Code runs its Stop hooks (one of the user's own notes it).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from cc_bridge import ClaudeInstance, TmuxInstance

from .figures import Sheet
from .stage import milli, scripted_model

TITLE = "the end of an answer in a pane is known, after Claude Code's own Stop"
TURNS = 12


async def run(sheet: Sheet) -> None:
    if shutil.which("tmux") is None:
        sheet.note("not measured: tmux is not installed")
        return
    name = f"bench-pane-{os.getpid()}"
    with tempfile.TemporaryDirectory() as scratch, scripted_model() as model:
        config, workspace, stops = Path(scratch, "config"), Path(scratch, "work"), Path(scratch, "stops")
        config.mkdir()
        workspace.mkdir()
        hook = {"type": "command", "command": f"date +%s.%N >>{stops}"}
        (config / "settings.json").write_text(json.dumps({"hooks": {"Stop": [{"hooks": [hook]}]}}))
        env = {**model, "CLAUDE_CONFIG_DIR": str(config)}
        record = ClaudeInstance.of(name=name, kind="tmux", workspace=workspace, env=env, ephemeral=True)
        ours: list[float] = []
        async with TmuxInstance(record) as instance:
            socket = instance.attach_argv[3]
            polled, rested = (
                Witness(2.0, lambda: _size(config)),
                Witness(0.025, lambda: _screen(socket, name), rest=2.0),
            )
            for number in range(TURNS):
                await instance.send_command_and_wait(f"[[say turn {number}]] [[delay 0.3]] [[say is over]]")
                ours.append(time.time())
                # Out of step with the pollers, and long enough for the slowest rule.
                await anyio.sleep(4.5 + 0.37 * (number % 5))
            polled.close()
            rested.close()
        moments = [float(line) for line in stops.read_text().split()]
    known = sheet.add("cc-bridge", milli([when - stop for when, stop in zip(ours, moments, strict=True)]), "ms")
    for rule, witness in (("a transcript, polled every 2 s", polled), ("a screen at rest for 2 s", rested)):
        later = [next(when for when in witness.noticed if when > stop) - stop for stop in moments]
        sheet.add(rule, milli(later), "ms", known, least=20)


class Witness:
    """Looks at something every ``pause`` seconds, and notes when it has changed, or has been at rest since."""

    def __init__(self, pause: float, look: Callable[[], Any], rest: float = 0.0) -> None:
        self.noticed: list[float] = []
        self._pause, self._look, self._rest = pause, look, rest
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        seen, changed = self._look(), 0.0
        while not self._closing.wait(self._pause):
            now = self._look()
            if now != seen:
                seen, changed = now, time.time()
                if not self._rest:
                    self.noticed.append(changed)
            elif self._rest and changed and time.time() - changed >= self._rest:
                changed = 0.0
                self.noticed.append(time.time())

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


def _size(config: Path) -> int:
    return sum(path.stat().st_size for path in config.glob("projects/*/*.jsonl"))


def _screen(socket: str, name: str) -> str:
    argv = ["tmux", "-S", socket, "capture-pane", "-p", "-t", name]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
