"""The service as the host: killed at random moments, with clients that come back by the id of their last event.

Every command that was acknowledged is answered once and whole, in the order of its instance, and every stream is
complete: over SQLite and over PostgreSQL. ``make chaos ROUNDS=300`` plays 200 commands on ten instances.
covers: B1, B13
"""

from __future__ import annotations

import os
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from cc_bridge.testing import ScriptedModel
from tests.conftest import lacking
from tests.postgresql import Cluster, programs
from tests.served import Served, events, lost_connections, made

from .table import PROPERTY

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.timeout(900)]

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")
IS_LONG = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", "20")) > 100
COMMANDS, INSTANCES, KILLS = (200, 10, 20) if IS_LONG else (24, 4, 3)

#: Seconds without an answer after which something is lost.
LIMIT = 120.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'service.db'}"
        return
    if (found := programs()) is None:
        lacking("postgresql", "PostgreSQL is not installed")
        return
    cluster = Cluster(found)
    try:
        yield cluster.database()
    finally:
        cluster.remove()


@pytest.fixture
async def served(tmp_path: Path, database: str, claude: str) -> AsyncIterator[tuple[Served, ScriptedModel]]:
    (tmp_path / "home").mkdir()
    with ScriptedModel() as model:
        service = Served(tmp_path / "state", model.claude_env(tmp_path / "home"), database)
        try:
            yield service.start(), model
        finally:
            with anyio.CancelScope(shield=True):
                await service.clean()


@dataclass
class Answer:
    """A command, and what its client has heard."""

    instance: str
    prompt: str
    whole: str
    turn: str = ""
    number: int = 0
    heard: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


async def ask(served: Served, answer: Answer) -> None:
    """A client that does not give up: it sends with a key until it is acknowledged, and reads until the end."""
    key, last = {"Idempotency-Key": str(uuid.uuid4())}, ""
    while not answer.result:
        with lost_connections():
            async with served.client() as client:
                if not answer.turn:
                    path = f"/v1/instances/{answer.instance}/commands"
                    response = await client.post(path, json={"prompt": answer.prompt}, headers=key)
                    if response.status_code == 503:
                        continue
                    assert response.status_code == 202, response.text
                    answer.turn, answer.number = response.json()["id"], response.json()["number"]
                last = await listen(client, answer, last)
        await anyio.sleep(0.02)


async def listen(client: httpx.AsyncClient, answer: Answer, last: str) -> str:
    path = f"/v1/instances/{answer.instance}/turns/{answer.turn}/events"
    with lost_connections():
        async with client.stream("GET", path, headers={"Last-Event-ID": last} if last else {}) as response:
            async for at, kind, data in events(response):
                last = at or last
                if kind == "text_delta":
                    answer.heard.append(data["text"])
                elif kind == "turn_result":
                    answer.result = data
    return last


async def test_a_service_that_is_killed(served: tuple[Served, ScriptedModel], record_property: Any) -> None:
    service, model = served
    rng = random.Random(f"{SEED} service {os.environ.get('PYTEST_CURRENT_TEST', '')}")
    names = [f"chat-{number}" for number in range(INSTANCES)]
    async with service.client() as client:
        await made(client, *names)
    answers = []
    for number in range(COMMANDS):
        words = [f"w{number}.{piece} " for piece in range(rng.randint(1, 12))]
        said = "".join(f"[[say {word}]]" for word in words)
        answers.append(Answer(rng.choice(names), f"[[pace 0.02]]{said}[[say end]] {number}", "".join(words) + "end"))

    with anyio.fail_after(LIMIT * (4 if IS_LONG else 1)):
        async with anyio.create_task_group() as group:
            group.start_soon(kill_at_random, service, rng)
            for answer in answers:
                await anyio.sleep(rng.uniform(0, 0.2))
                group.start_soon(ask, service, answer)

    wrong = judge(answers, model)
    record_property(PROPERTY, ["service killed", *([verdict for verdict, _ in wrong] or ["complete"])])
    assert not wrong


async def kill_at_random(service: Served, rng: random.Random) -> None:
    for _ in range(KILLS):
        await anyio.sleep(rng.uniform(0.2, 3))
        await anyio.to_thread.run_sync(service.kill)
        await anyio.to_thread.run_sync(service.start)


def judge(answers: list[Answer], model: ScriptedModel) -> list[tuple[str, str]]:
    """What is wrong: a verdict, and the facts."""
    asked = Counter(request.prompt for request in model.requests)
    order: dict[str, list[str]] = defaultdict(list)
    for request in model.requests:
        order["all"].append(request.prompt)
    wrong = []
    for answer in answers:
        heard = "".join(answer.heard)
        if answer.result.get("text") != answer.whole or not answer.result.get("ok"):
            wrong.append(("lost", f"{answer}"))
        elif heard != answer.whole:
            wrong.append(("duplicated" if len(heard) > len(answer.whole) else "lost", f"{answer}"))
        if asked[answer.prompt] != 1:
            wrong.append(("duplicated", f"{answer}: asked {asked[answer.prompt]} times"))
    for name in {answer.instance for answer in answers}:
        mine = sorted((answer for answer in answers if answer.instance == name), key=lambda answer: answer.number)
        places = [order["all"].index(answer.prompt) for answer in mine if answer.prompt in asked]
        if places != sorted(places):
            wrong.append(("reordered", f"{name}: {places}"))
    return wrong
