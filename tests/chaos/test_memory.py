"""An answer larger than memory should be, to a reader that is slow, and to one that stops. covers: B1, R2

``make chaos`` has 300 MB of it at 10 MB/s, and a stop of a minute; ``make test`` a tenth.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600), pytest.mark.long]

MEGABYTES = int(os.environ.get("CC_BRIDGE_CHAOS_MEGABYTES", "30"))
READER = Path(__file__).with_name("reader.py")


def peak(pid: int) -> int:
    """Bytes that the process has had in memory at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


@pytest.mark.parametrize(("rate", "stop"), [(10, 0), (0, MEGABYTES / 5)], ids=["slow", "stops"])
async def test_memory_is_flat_and_nothing_is_lost(make_stubbed: Any, rate: float, stop: float) -> None:
    instance = await make_stubbed()
    await instance.start()
    argv = [sys.executable, str(READER), instance.name, str(MEGABYTES), str(rate), str(stop)]
    done = await anyio.run_process(argv, stderr=None)
    found = json.loads(done.stdout)
    assert (found["ok"], found["pieces"]) == (True, MEGABYTES * 16)
    assert found["grown"] < 50e6, "the host keeps what was read"
    assert peak(instance._place._process.pid) < 50e6, "the agent keeps what was not read"
