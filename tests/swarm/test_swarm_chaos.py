"""Instances all over a swarm, commands at random moments, and machines that die, are cut off, drained and come back.

Each command is answered whole and once, or ends with a named error; every conversation knows all that it has answered;
nothing is left at any machine. Every second instance is a fleet's. ``make swarm-test`` plays thirty instances.
covers: B1, B4, B11
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import to_thread

from cc_bridge import BridgeError, InstanceInterface, TurnResult, Verdict
from cc_bridge.engine.client import Engine
from cc_bridge.fleet import Fleet
from cc_bridge.testing import ScriptedModel
from tests.chaos.table import PROPERTY
from tests.swarm.cluster import Cluster, Node
from tests.swarm.conftest import MakeService

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.swarm, pytest.mark.long]

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")

#: Seconds for one command, whatever befalls it meanwhile, and for all of it.
LIMIT = 300.0


@dataclass
class Told:
    """A command, and what has become of it."""

    prompt: str
    whole: str
    result: TurnResult | None = None
    error: BridgeError | None = None

    def wrong(self) -> str:
        """In a word of the table's; empty: nothing."""
        if self.result is None:
            return "" if self.error is not None else "lost"
        if self.result.ok:
            return "" if self.result.text == self.whole else "lost"
        named = self.result.verdict in (Verdict.INTERRUPTED, Verdict.FAILED)
        return "" if named and self.whole.startswith(self.result.text) else "lost"


@dataclass
class Talk:
    """What is said to one instance."""

    instance: InstanceInterface
    rng: random.Random
    told: list[Told] = field(default_factory=list)

    async def go_on(self, count: int) -> None:
        """So many commands, one after the other, at random moments."""
        for number in range(count):
            await anyio.sleep(self.rng.uniform(0, 2))
            words = [f"{self.instance.name}.{number}.{piece} " for piece in range(self.rng.randint(1, 20))]
            said = "".join(f"[[say {word}]]" for word in words)
            prompt = f"[[pace 0.05]]{said}[[say end]] command {number}."
            await self.tell(Told(prompt, "".join(words) + "end"))

    async def tell(self, command: Told) -> None:
        self.told.append(command)
        try:
            with anyio.fail_after(LIMIT):
                command.result = await (await self.instance.submit(command.prompt)).result()
        except BridgeError as error:
            command.error = error

    async def ask(self) -> None:
        """What it knows; again where the last machine that came back has had this moved, too."""
        for number in range(3):
            await self.tell(Told(f"[[say all]] What do you know, {self.instance.name}? {number}", "all"))
            if self.told[-1].result is not None and self.told[-1].result.ok:
                return

    def forgotten(self, model: ScriptedModel) -> list[tuple[str, str]]:
        """What is wrong with what Claude Code knows of the conversation, by the last that it has asked the model."""
        last = self.told[-1]
        request = next(request for request in reversed(model.requests) if last.prompt in request.prompt)
        known = json.dumps([message for message in request.body["messages"] if message["role"] == "user"])
        counts = {command.prompt: known.count(json.dumps(command.prompt)[1:-1]) for command in self.told}
        wrong = [("duplicated", prompt) for prompt, count in counts.items() if count > 1]
        answered = [command.prompt for command in self.told if command.result is not None and command.result.ok]
        wrong += [("lost", f"forgotten: {prompt}") for prompt in answered if not counts[prompt]]
        places = [known.find(json.dumps(prompt)[1:-1]) for prompt in answered if counts[prompt]]
        return wrong + ([] if places == sorted(places) else [("reordered", known)])


def faults(cluster: Cluster, node: Node) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """What may befall a machine, and how it is undone."""
    return {
        "killed": (partial(cluster.kill, node), partial(cluster.boot, node)),
        "cut off": (partial(cluster.partition, node), partial(cluster.heal, node)),
        "drained": (partial(cluster.drain, node), partial(cluster.activate, node)),
        "stopped": (partial(cluster.stop, node), partial(cluster.cont, node)),
        "restarted": (partial(cluster.restart, node), lambda: None),
    }


async def befall(cluster: Cluster, rng: random.Random, wanted: list[str], befallen: Counter[str]) -> None:
    """One machine after the other, but the manager; until this is cancelled, between two of them."""
    while True:
        await anyio.sleep(rng.uniform(1, 4))
        node = rng.choice(cluster.nodes[1:])
        wanted = wanted or list(faults(cluster, node))
        name = wanted.pop(rng.randrange(len(wanted)))
        begin, undo = faults(cluster, node)[name]
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(begin)
            befallen[name] += 1
            await anyio.sleep(rng.choice([0.5, 3, 6]))  # before and after Swarm has given it up
            await to_thread.run_sync(undo)
            await to_thread.run_sync(cluster.await_back, node)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("instances", "commands", "wanted"),
    [
        pytest.param(4, 4, ["killed", "cut off"], id="few"),
        pytest.param(30, 20, [], marks=pytest.mark.thorough, id="many"),
    ],
)
async def test_machines_come_and_go(
    swarm: Cluster,
    make_service: MakeService,
    node_model: ScriptedModel,
    record_property: Any,
    instances: int,
    commands: int,
    wanted: list[str],
) -> None:
    rng, befallen, engine = random.Random(f"{SEED} swarm"), Counter[str](), Engine()
    made = [await make_service(client=engine) for _ in range(instances)]
    async with Fleet() as fleet:
        driven = [fleet.adopt(one.record) if number % 2 else one for number, one in enumerate(made)]
        talks = [Talk(instance, random.Random(f"{SEED} {number}")) for number, instance in enumerate(driven)]
        async with anyio.create_task_group() as group:
            group.start_soon(befall, swarm, rng, list(wanted), befallen)
            async with anyio.create_task_group() as talking:
                for talk in talks:
                    talking.start_soon(talk.go_on, commands)
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as asking:
            for talk in talks:
                asking.start_soon(talk.ask)

    wrong = [(command.wrong(), str(command)) for talk in talks for command in talk.told if command.wrong()]
    for talk in talks:
        last = talk.told[-1].result
        wrong += (
            talk.forgotten(node_model) if last is not None and last.ok else [("lost", f"at the end: {talk.told[-1]}")]
        )
    async with anyio.create_task_group() as removing:
        for one in made:
            removing.start_soon(partial(one.remove, conversation=True))
    await engine.aclose()
    wrong += [("left behind", what) for what in swarm.left()]
    everything = [command for talk in talks for command in talk.told]
    whole = sum(command.result is not None and command.result.ok for command in everything)
    errors = Counter(type(command.error).__name__ for command in everything if command.error is not None)
    errors["TurnInterrupted"] += sum(command.result is not None and not command.result.ok for command in everything)
    print(f"{len(everything)} commands, {whole} answered; {dict(errors)}; {dict(befallen)}")
    verdict = "complete" if whole == len(everything) else "interrupted"
    record_property(PROPERTY, ["machines of a swarm", verdict, *sorted({what for what, _ in wrong})])
    assert not wrong, "\n".join(f"{what}: {facts}" for what, facts in wrong)
