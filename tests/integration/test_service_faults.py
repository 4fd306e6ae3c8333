"""What a service does while what it stands on is away: its database, its disk, its Claude Code. covers: B13"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from cc_bridge.testing import ScriptedModel
from tests.postgresql import Cluster
from tests.served import Served, events, made

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def small_disk(tmp_path: Path, as_root: None) -> Iterator[Path]:
    """Four megabytes, for a database."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
async def serve(tmp_path: Path, scripted_model: ScriptedModel, claude: str) -> AsyncIterator[list[Served]]:
    """Services that were started, to be ended; append to it."""
    started: list[Served] = []
    yield started
    with anyio.CancelScope(shield=True):
        for service in started:
            await service.clean()


def served(root: Path, model: ScriptedModel, database: str) -> Served:
    (root / "home").mkdir()
    return Served(root / "state", model.claude_env(root / "home"), database)


async def answered(client: httpx.AsyncClient, turn: str) -> str:
    async with client.stream("GET", f"/v1/instances/desk/turns/{turn}/events") as response:
        found = [data async for _, kind, data in events(response) if kind == "turn_result"]
    return str(found[-1]["text"])


async def test_a_database_that_goes_away_loses_nothing_that_was_acknowledged(
    tmp_path: Path, scripted_model: ScriptedModel, serve: list[Served], own_postgresql: Cluster
) -> None:
    service = served(tmp_path, scripted_model, own_postgresql.database())
    serve.append(service)
    service.start()
    async with service.client() as client:
        await made(client, "desk")
        sent = await client.post("/v1/instances/desk/commands", json={"prompt": "[[delay 1]][[say before]]"})
        waits = await client.post("/v1/instances/desk/commands", json={"prompt": "[[say behind it]]"})
        async with client.stream("GET", f"/v1/instances/desk/turns/{sent.json()['id']}/events") as response:
            heard = events(response)
            async for _, kind, _ in heard:
                if kind == "turn_started":
                    await anyio.to_thread.run_sync(own_postgresql.stop)
                    refused = await client.post("/v1/instances/desk/commands", json={"prompt": "now"})
                    assert refused.status_code == 503
                    assert int(refused.headers["Retry-After"]) > 0
                    assert (await client.get("/healthz")).status_code == 200
                elif kind == "text_delta":
                    await anyio.to_thread.run_sync(own_postgresql.start)
            await heard.aclose()
        assert await answered(client, sent.json()["id"]) == "before"
        assert await answered(client, waits.json()["id"]) == "behind it"
        again = await client.post(
            "/v1/instances/desk/commands", json={"prompt": "again"}, headers={"Prefer": "wait=60"}
        )
        assert again.json()["result"]["text"] == "You said: again"
    assert scripted_model.prompts["now"] == 0, "what was refused is not done"


async def test_a_disk_that_is_full_refuses_and_goes_on_when_there_is_room(
    tmp_path: Path, scripted_model: ScriptedModel, serve: list[Served], small_disk: Path
) -> None:
    service = served(tmp_path, scripted_model, f"sqlite:///{small_disk / 'service.db'}")
    serve.append(service)
    service.start()
    async with service.client() as client:
        await made(client, "desk")
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
            for _ in range(8 * 1024):
                file.write(b"\0" * 1024)
        refused = await client.post("/v1/instances/desk/commands", json={"prompt": "x" * 100_000})
        assert refused.status_code == 503, refused.text
        ballast.unlink()
        done = await client.post("/v1/instances/desk/commands", json={"prompt": "now"}, headers={"Prefer": "wait=60"})
        assert done.json()["result"]["text"] == "You said: now"
        assert len((await client.get("/v1/instances/desk/turns")).json()["turns"]) == 1
