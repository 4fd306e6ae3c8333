"""A host program that reads a long answer slowly, and tells how much memory that took."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio

from cc_bridge import LocalProcess, TextDelta
from cc_bridge.instances.registry import Registry


def resident() -> int:
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


async def main(name: str, megabytes: int, rate: float, stop: float) -> None:
    """Read at ``rate`` MB/s (0: as fast as it comes), and stop for ``stop`` seconds after a tenth."""
    instance = LocalProcess(Registry().load(name))
    expected = size = 0
    began, first, peak = anyio.current_time(), 0, 0
    async with await instance.submit(f"pours {megabytes}") as turn:
        async for event in turn:
            if not isinstance(event, TextDelta) or event.text == "\n\n":
                continue
            assert int(event.text[:8]) == expected, f"piece {event.text[:8]} instead of {expected}"
            expected, size = expected + 1, size + len(event.text)
            first = first or resident()
            peak = max(peak, resident())
            if rate:
                await anyio.sleep_until(began + size / rate / 1e6)
            if stop and size > megabytes * 1e5:
                await anyio.sleep(stop)
                stop = 0
        result = await turn.result()
    await instance.release()
    print(json.dumps({"ok": result.ok, "pieces": expected, "grown": peak - first}))


anyio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
