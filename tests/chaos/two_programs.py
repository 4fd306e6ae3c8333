"""Two programs with commands of their own, of which one or the other is suspended at random."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Mapping

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from cc_bridge.testing import ScriptedModel
from tests.chaos.texts import command


async def hear(process: Process, ended: dict[str, list[str]]) -> None:
    """What became of a program's commands, until it ends."""
    assert process.stdout
    lines = BufferedByteReceiveStream(process.stdout)
    assert await lines.receive_until(b"\n", 100) == b"begun"
    while True:
        try:
            turn_id, *said = json.loads(await lines.receive_until(b"\n", 100_000))
        except anyio.IncompleteRead:
            return
        assert turn_id not in ended
        ended[turn_id] = said


async def play(
    programs: Mapping[str, Process], count: int, ttl: float, rng: random.Random, model: ScriptedModel
) -> None:
    """Let them come to their end; each of so many commands of each was asked once, and answered in full."""
    ended: dict[str, list[str]] = {}

    async def suspend() -> None:
        while True:
            await anyio.sleep(rng.uniform(0, 2 * ttl))
            process = programs[rng.choice(sorted(programs))]
            if process.returncode is None:
                process.send_signal(signal.SIGSTOP)
                await anyio.sleep(rng.uniform(1.2, 3) * ttl)
                process.send_signal(signal.SIGCONT)

    async with anyio.create_task_group() as group:
        group.start_soon(suspend)
        async with anyio.create_task_group() as hearing:
            for process in programs.values():
                hearing.start_soon(hear, process, ended)
        group.cancel_scope.cancel()
    expected = {turn_id: text for name in programs for n in range(count) for turn_id, _, text in [command(name, n)]}
    wrong = {turn_id: said for turn_id, said in ended.items() if said[:2] != ["completed", expected[turn_id]]}
    assert not wrong, wrong
    assert set(ended) == set(expected), "lost"
    asked = {prompt: times for prompt, times in model.prompts.items() if "[[pace" in prompt}
    assert {prompt: times for prompt, times in asked.items() if times > 1} == {}, "twice"
    assert sum(asked.values()) == len(expected)
