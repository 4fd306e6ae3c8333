"""An idle bridge sleeps in the kernel: host and agent. covers: B3"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

pytestmark = pytest.mark.anyio

#: Seconds of idleness that are looked at.
WATCHED = 10.0

#: A host that waits for an event of a turn which says nothing more; nothing else happens in its process.
HOST = """
import sys, anyio
from cc_bridge import LocalProcess, TextDelta
from cc_bridge.instances.registry import Registry

async def main():
    instance = LocalProcess(Registry().load(sys.argv[1]), silence=1000)
    async with await instance.submit("no-result") as turn:
        async for event in turn:
            if isinstance(event, TextDelta) and event.text == "All of it.":
                print("said", end="", flush=True)

anyio.run(main)
"""


def switches(pid: int) -> int:
    """Voluntary context switches of a process, all its threads together: how often it has slept and was woken."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("voluntary"))
    return total


async def settled(pid: int) -> int:
    """Its switches, when what it had to do has been done."""
    with anyio.fail_after(30):
        now, before = switches(pid), -1
        while now != before:
            await anyio.sleep(1)
            now, before = switches(pid), now
    return now


@pytest.mark.long
async def test_nothing_wakes_an_idle_bridge(make_stubbed: Any) -> None:
    """The host waits for an event of a turn that says nothing; the agent for the same."""
    instance = await make_stubbed(interrupt_limit=0.2)
    await instance.start()
    argv = [sys.executable, "-c", HOST, instance.name]
    async with await anyio.open_process(argv, stderr=None, stdin=subprocess.DEVNULL) as host:
        try:
            assert host.stdout
            assert await host.stdout.receive() == b"said"
            pids = {"host": host.pid, "agent": instance._place._process.pid}
            before = {name: await settled(pid) for name, pid in pids.items()}
            await anyio.sleep(WATCHED)
            woken = {name: switches(pid) - before[name] for name, pid in pids.items()}
        finally:
            host.kill()
    assert woken == {"host": 0, "agent": 0}
