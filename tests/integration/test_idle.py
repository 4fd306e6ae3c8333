"""An idle bridge sleeps in the kernel: host and agent. covers: B3"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

pytestmark = pytest.mark.anyio

#: Seconds of idleness that are looked at.
WATCHED = 10.0


def switches(pid: int | str) -> int:
    """Voluntary context switches of a process, all its threads together: how often it has slept and was woken."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("voluntary"))
    return total


def agent_of(instance: Any) -> int:
    return int(instance._process.pid)


def own_task_switches() -> int:
    return switches("self")


async def test_nothing_wakes_an_idle_bridge(make_stubbed: Any) -> None:
    """The host waits for an event of a turn that says nothing; the agent for the same."""
    instance = await make_stubbed(silence=1000, interrupt_limit=0.2)
    async with await instance.submit("no-result") as turn:
        async for event in turn:
            if getattr(event, "text", "") == "All of it.":
                break
        woken: list[int] = []
        agent: list[int] = []

        async def measure() -> None:
            await anyio.sleep(0.5)
            before, before_agent = own_task_switches(), switches(agent_of(instance))
            await anyio.sleep(WATCHED)
            woken.append(own_task_switches() - before)
            agent.append(switches(agent_of(instance)) - before_agent)

        async with anyio.create_task_group() as group:
            group.start_soon(measure)
            with anyio.move_on_after(WATCHED + 1):
                async for _ in turn:
                    pass
    assert agent == [0], "the agent was woken"
    assert woken[0] <= 2, "the host was woken by more than the measurement's own timer"
