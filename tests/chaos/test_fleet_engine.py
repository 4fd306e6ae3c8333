"""The engine goes away under a fleet, and its containers with it; when it is back, all goes on.

``make chaos ROUNDS=300`` does it with fifty instances, for a minute. covers: B7, B21
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import ClaudeInstance, TurnResult, Verdict
from cc_bridge.fleet import Fleet
from cc_bridge.testing import ScriptedModel
from tests.conftest import ImageNames, MakeRecord, lacking

from .faults import ENGINE, run
from .table import PROPERTY

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.long]

IS_LONG = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", "20")) > 100
INSTANCES, AWAKE, AWAY = (50, 8, 60.0) if IS_LONG else (4, 2, 1.0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def records(images: ImageNames, make_record: MakeRecord, scripted_model: ScriptedModel) -> list[ClaudeInstance]:
    fields: dict[str, Any] = {"kind": "docker", "image": images.claude, "network": "host", "ephemeral": False}
    return [make_record(**fields, env=scripted_model.claude_env()) for _ in range(INSTANCES)]


@pytest.mark.alone("engine")
@pytest.mark.timeout(900)
async def test_an_engine_that_goes_away_for_a_while(
    records: list[ClaudeInstance], scripted_model: ScriptedModel, tmp_path: Path, record_property: Any
) -> None:
    """Each instance comes back; only who was in the middle of an answer is interrupted, and nothing is asked twice."""
    results: dict[str, list[TurnResult]] = {record.name: [] for record in records}

    async def talk(fleet: Fleet, record: ClaudeInstance) -> None:
        instance = fleet.adopt(record)
        turns = [await instance.submit(f"[[pace 0.05]][[repeat 20 w ]] {record.name} {number}") for number in range(2)]
        for turn in turns:
            results[record.name].append(await turn.result())

    async with Fleet(most_awake=AWAKE, patience=300.0) as fleet:
        try:
            async with anyio.create_task_group() as group:
                for record in records:
                    group.start_soon(talk, fleet, record)
                while not scripted_model.requests:
                    await anyio.sleep(0.05)
                if "none of ours runs" in await run(str(ENGINE), "stop"):
                    lacking("engine-restart", "the engine is not one that scripts/engine has started")
                await anyio.sleep(AWAY)
                await run(str(ENGINE), "start")
        finally:
            with anyio.CancelScope(shield=True):
                for record in records:
                    await fleet.adopt(record).remove(conversation=True)

    wrong = []
    for name, (first, second) in results.items():
        for number, result in enumerate((first, second)):
            asked = scripted_model.prompts[f"[[pace 0.05]][[repeat 20 w ]] {name} {number}"]
            whole = result.ok and result.text == "w " * 20 and asked == 1
            struck = result.verdict is Verdict.INTERRUPTED and ("w " * 20).startswith(result.text)
            if not whole and not (struck and asked <= 1):
                wrong.append(f"{name} {number}: {result}, asked {asked} times")
    interrupted = sum(result.verdict is Verdict.INTERRUPTED for pair in results.values() for result in pair)
    record_property(
        PROPERTY, ["engine away", *(["lost"] * len(wrong) or ["interrupted" if interrupted else "complete"])]
    )
    assert not wrong
    assert interrupted <= AWAKE
