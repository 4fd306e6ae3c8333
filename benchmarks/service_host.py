"""The service that `service.py` measures: instances that speak at a steady pace, and a reader of each.

`python -m benchmarks.service_host COUNT RATE SECONDS` says its address and token; begins on a line on stdin; says when
each event was read in this process, by `Fleet.feed` alone; ends with SIGTERM.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from cc_bridge import ClaudeInstance
from cc_bridge.events import TextDelta
from cc_bridge.fleet import FeedPosition, Fleet, Heard
from cc_bridge.service.server import listen, serve
from cc_bridge.service.service import Service
from cc_bridge.service.store import Store


async def main(count: int, rate: float, seconds: float) -> None:
    scratch = Path(os.environ["CC_BRIDGE_HOME"])
    fleet = Fleet()
    names = [f"voice-{number}" for number in range(count)]
    for name in names:
        home = fleet.registry.home(name)
        home.prepare()
        home.save(ClaudeInstance.of(name=name, kind="local", workspace=scratch))
    token = scratch / "token"
    service = Service(Store.open(f"sqlite:///{scratch / 'service.db'}"), fleet, token_file=token)
    listening = listen("127.0.0.1", 0)
    heard: dict[str, float] = {}
    ready = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, service, listening, ready.set)
        await ready.wait()
        for name in names:  # before the streams: each event is a reader's first, and what a stream takes is added
            fleet.open(name)
            group.start_soon(_read, fleet, name, heard)
        print(json.dumps([listening.getsockname()[1], token.read_text().strip()]), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        used = time.process_time()
        await _speak(fleet, names, rate, seconds)
        await anyio.sleep(0.5)
        used = time.process_time() - used
        await anyio.to_thread.run_sync(partial(print, json.dumps({"cpu": used, "heard": heard}), flush=True))
        await anyio.to_thread.run_sync(sys.stdin.readline)
        service.stop()
        group.cancel_scope.cancel()


async def _read(fleet: Fleet, name: str, heard: dict[str, float]) -> None:
    async with aclosing(fleet.feed(name)) as feed:
        async for item in feed:
            heard[item.event.text] = time.monotonic()  # type: ignore[union-attr]


async def _speak(fleet: Fleet, names: list[str], rate: float, seconds: float) -> None:
    """As the attendant does it when an agent's output has been decoded: into the feed, and then the bell."""
    voices: list[Any] = [fleet._open[name][1] for name in names]
    for voice in voices:
        voice.feed.begin("bench", 0)
    began, pause, said = time.monotonic(), 1 / (rate * len(names)), 0
    last = int(rate * seconds) * len(names)
    while said < last:
        until = min(last, int((time.monotonic() - began) / pause) + 1)
        for number in range(said, until):
            index, which = number // len(names), number % len(names)
            at, event = FeedPosition("bench", index + 1, 0), TextDelta(f"{which}:{index}")
            voices[which].feed.add(Heard(at, "3f0c7d52-6f0e-4a43-9df4-6ad57c1f6c11", event), 200)
            voices[which]._bell.ring()
        said = until
        await anyio.sleep(max(0.0, began + said * pause - time.monotonic()))


if __name__ == "__main__":
    anyio.run(partial(main, int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
