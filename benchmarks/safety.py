"""What it costs that nothing is lost: the journal, a connection that breaks, and reading again."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from cc_bridge import ClaudeInstance, LocalProcess
from cc_bridge.events import TextDelta
from cc_bridge.protocol.link import Link, Output, Position

from .figures import Sheet
from .stage import agent, connect, milli, scripted_model
from .throughput import line_of, streamed

TITLE = "the journal, a connection that breaks in mid-answer, and reading again"
LINES = 15_000
REPEATS = 5
DROPS = 15
MEGABYTES = 100

#: The agent with a journal that keeps nothing: what is left of its cost when the writing is gone. A host that lags
#: can be given nothing from there, so for it everything waits in memory.
_FORGETFUL = """
import sys
sys.path.insert(0, {archive!r})
from cc_bridge_agent import client, journal, __main__
client.HIGH_WATER = 1 << 40
def append(self, frames):
    self.last += len(frames)
    self.first = self.last + 1
journal.Journal.append = append
sys.exit(__main__.main())
"""


async def run(sheet: Sheet) -> None:
    from cc_bridge.state import agent_archive

    forgetful = (sys.executable, "-IS", "-c", _FORGETFUL.format(archive=str(agent_archive())))
    with tempfile.TemporaryDirectory() as scratch:
        line = line_of(4096)
        file = Path(scratch, "lines")
        file.write_bytes(line * LINES)
        amount = len(line) * LINES / 1e6
        found: dict[str, list[float]] = {"off": [], "on": []}
        for number in range(REPEATS):
            for name, python in (("off", forgetful), ("on", ())):
                seconds = await streamed(file, LINES, Path(scratch, f"{name}-{number}"), python)
                found[name].append(amount / seconds)
        off = sheet.add("4 kB lines, journal off", found["off"], "MB/s")
        sheet.add("4 kB lines, journal on", found["on"], "MB/s", off)
        big = Path(scratch, "big")
        count = MEGABYTES * 1_000_000 // len(line)
        big.write_bytes(line * count)
        sheet.add(f"replay of {MEGABYTES} MB", await _replayed(big, count, Path(scratch, "replay")), "MB/s", off)
    sheet.add("a drop in mid-answer: until the next event", milli(await _drops()), "ms")


async def _replayed(file: Path, count: int, directory: Path) -> float:
    """MB/s of a second host that reads all of it from the journal, after the first has."""
    with agent(directory):
        link, channel = await connect(directory)
        async with channel:
            link.start_claude(["cat", str(file)], {}, "/")
            await channel.send(link.data_to_send())
            got = 0
            while got < count:
                got += sum(isinstance(e, Output) for e in link.receive_data(await channel.receive()))
            position = link.position
        assert position is not None
        again, channel = await connect(directory, Link(after=Position(0, position.journal)))
        async with channel:
            began = time.perf_counter()
            while again.last_seq < position.seq:
                again.receive_data(await channel.receive())
            return file.stat().st_size / 1e6 / (time.perf_counter() - began)


async def _drops() -> list[float]:
    """The connection is closed under the host's hands while tokens come, one every 2 ms."""
    found = []
    with tempfile.TemporaryDirectory() as scratch, scripted_model() as env:
        home = Path(scratch)
        record = ClaudeInstance.of(
            name=f"bench-{os.getpid()}", kind="local", workspace=home, env={**env, "HOME": scratch}, ephemeral=True
        )
        async with LocalProcess(record) as instance:
            for _ in range(DROPS):
                dropped = 0.0
                async with await instance.submit("[[pace 0.002]] [[repeat 60 x]]") as turn:
                    seen = 0
                    async for event in turn:
                        if isinstance(event, TextDelta):
                            seen += 1
                            if dropped:
                                found.append(time.perf_counter() - dropped)
                                dropped = 0.0
                            if seen == 20:
                                connection = instance._bridge._driver.uplink.connection
                                assert connection is not None
                                await connection.channel.aclose()
                                dropped = time.perf_counter()
    return found
