"""A process beside the main one, whose connections break at random and whose agent is killed. covers: B6, C13"""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import anyio
import pytest

from cc_bridge import ConnectionLost, LocalProcess
from cc_bridge.bridge.raw import RawSession

from .rig import cut_at_random

pytestmark = [pytest.mark.anyio, pytest.mark.long]

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")
ROUNDS = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", "16"))

#: Says what it hears, and how much that was when its input has ended.
ECHO = ["-c", "exec 3>&1; tee /dev/fd/3 | wc -c >&2; exit 7"]


async def talk(session: RawSession, chance: random.Random) -> tuple[bytes, bytes, bytes]:
    """Write something, and read all; what was written, and what came."""
    parts = [chance.randbytes(int(10 ** chance.uniform(0, 5))) for _ in range(chance.randint(1, 20))]

    async def write() -> None:
        for part in parts:
            await session.write(part)
        await session.end_input()

    said = {"stdout": b"", "stderr": b""}
    async with anyio.create_task_group() as group:
        group.start_soon(write)
        while (came := await session.receive()) is not None:
            said[came.stream] += came.data
    return b"".join(parts), said["stdout"], said["stderr"]


@pytest.fixture
async def instance(make_stubbed: Any) -> LocalProcess:
    made: LocalProcess = await make_stubbed(program="/bin/sh")
    return made


async def test_nothing_is_lost_or_doubled_whatever_breaks(instance: LocalProcess) -> None:
    connect, look = instance.connect, instance.connect_to_look
    cuts = 0
    for number in range(ROUNDS):
        chance = random.Random(f"{SEED}-{number}")
        instance.connect, instance.connect_to_look = connect, look  # type: ignore[method-assign]
        made = cut_at_random(instance, chance)
        with anyio.fail_after(60):
            session = await instance.beside.run(ECHO, {})
            written, out, err = await talk(session, chance)
            exited = session.exited
            await session.aclose()
        assert out == written, f"round {number} of seed {SEED}"
        assert err.strip() == str(len(written)).encode()
        assert exited is not None
        assert exited.code == 7
        cuts += sum(channel.cut for channel in made)
    assert cuts > ROUNDS // 2, "hardly anything was cut"


async def test_an_agent_that_is_killed_is_told_and_nothing_is_doubled(instance: LocalProcess) -> None:
    for number in range(max(2, ROUNDS // 8)):
        chance = random.Random(f"{SEED}-killed-{number}")
        with anyio.fail_after(60):
            session = await instance.beside.run(ECHO, {})
            agent = instance._place._process.pid  # type: ignore[attr-defined]
            await session.write(b"said")
            came = await session.receive()
            assert came is not None
            if chance.random() < 0.5:
                await session.write(b"x" * 50_000)
            os.kill(agent, signal.SIGKILL)
            out = came.data
            with pytest.raises(ConnectionLost, match="ended with its agent"):
                while (came := await session.receive()) is not None:
                    out += came.data
            with pytest.raises(ConnectionLost):
                await session.write(b"more")
            await session.aclose()
        assert (b"said" + b"x" * 50_000).startswith(out)
