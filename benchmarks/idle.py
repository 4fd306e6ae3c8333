"""What instances cost that do nothing."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import anyio

from .figures import Sheet
from .stage import agent, connect, cpu, resident, start_child, switches

TITLE = "instances that wait for a command, over 10 seconds"
SECONDS = 10.0


async def run(sheet: Sheet) -> None:
    for count in (1, 100):
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            agents, channels = [], []
            for number in range(count):
                directory = Path(scratch, str(number))
                agents.append(stack.enter_context(agent(directory)).pid)
                link, channel = await connect(directory)
                await start_child(link, channel, ["cat"])
                channels.append(channel)
            await anyio.sleep(1)
            woken = [switches(pid) for pid in agents]
            used, host = sum(cpu(pid) for pid in agents), time.process_time()
            async with anyio.create_task_group() as group:
                for channel in channels:
                    group.start_soon(channel.receive)  # the host waits, too
                await anyio.sleep(SECONDS)
                group.cancel_scope.cancel()
            host = time.process_time() - host
            after = [switches(pid) for pid in agents]
            sheet.add(f"{count}: wake-ups of the agents", sum(after) - sum(woken), "in all", most=0)
            sheet.add(
                f"{count}: processor time of the agents", (sum(cpu(p) for p in agents) - used) * 1e3, "ms", most=0
            )
            sheet.add(f"{count}: processor time of the host, to begin and end waiting included", host * 1e3, "ms")
            sheet.add(f"{count}: resident memory of an agent", [resident(pid) for pid in agents], "MiB", most=16)
            for channel in channels:
                await channel.aclose()
