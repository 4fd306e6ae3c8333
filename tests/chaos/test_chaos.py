"""Whoever dies when: nothing lost, nothing twice, nothing left behind. covers: B1, C11, C12, C13, C16

``make chaos SEED=7 ROUNDS=300`` plays more of it than ``make test`` does; the same seed plays the same rounds.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import DockerContainer, LocalProcess
from cc_bridge.testing import ScriptedModel
from tests.conftest import lacking

from .faults import FAULTS, Fault, left_behind
from .rig import Trial, play
from .table import PROPERTY

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")
ROUNDS = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", len(FAULTS) * 2))


def plan() -> list[Any]:
    """Number, fault and kind of instance of each round; every fault and kind in turn."""
    places = [(fault, kind) for kind in ("local", "docker") for fault in FAULTS if kind in fault.kinds]
    rounds = [(number, *places[number % len(places)]) for number in range(ROUNDS)]
    return [pytest.param(*each, marks=[pytest.mark.alone(each[1].alone)] if each[1].alone else []) for each in rounds]


@pytest.fixture
def place(
    make_record: Callable[..., Any],
    scripted_model: ScriptedModel,
    tmp_path: Path,
    state_root: Path,
    images: Any,
    claude: str,
) -> Any:
    """Makes an instance for a round, and removes it; what is left of it then."""

    @asynccontextmanager
    async def make(kind: str, small_disk: bool, left: list[str]) -> AsyncIterator[Any]:
        if kind == "docker":
            env = scripted_model.claude_env()
            record = make_record(kind="docker", image=images.claude, network="host", env=env, ephemeral=False)
            instance: Any = DockerContainer(record)
        else:
            (tmp_path / "home").mkdir(exist_ok=True)
            record = make_record(env=scripted_model.claude_env(tmp_path / "home"), ephemeral=False)
            instance = LocalProcess(record)
        mounted = instance._home.journal
        try:
            if small_disk:
                mounted.mkdir(parents=True)
                mount(mounted)
            await instance.start()
            yield instance
        finally:
            with anyio.CancelScope(shield=True):
                await instance._bridge.aclose()
                await instance._place.stop()
                if small_disk:
                    subprocess.run(["umount", "-l", mounted], check=True)
                await instance.remove()
                await instance.cleanup()
        left += left_behind(record, state_root)

    return make


def mount(place: Path) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if done.returncode:
        lacking("docker", "mounting a small file system needs root")


@pytest.mark.timeout(max(600, ROUNDS * 30))
@pytest.mark.parametrize(("number", "fault", "kind"), plan(), ids=lambda value: getattr(value, "name", str(value)))
async def test_round(
    place: Any, scripted_model: ScriptedModel, number: int, fault: Fault, kind: str, record_property: Any
) -> None:
    rng = random.Random(f"{SEED} {number}")
    left: list[str] = []
    async with place(kind, fault.small_disk, left) as instance:
        trial = Trial(rng, scripted_model, instance, pieces=rng.randint(1, 100))
        verdicts = await play(trial, fault.strike, fault.read_after)
        after = await instance.send_command_and_wait("[[say goes on]]", 60)
    left += filter(None, (ask() for ask in trial.broken))
    verdicts += ["left behind"] if left else []
    record_property(PROPERTY, [fault.name, *verdicts])
    assert verdicts[1:] == [], (trial.error, trial.said, left)
    assert not (fault.survivable and trial.error), trial.error
    assert after == (True, "goes on"), "the conversation does not go on"
