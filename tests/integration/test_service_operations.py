"""What an administrator does with a service: options, compose, the unit, backup and restore. covers: B13"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml

from cc_bridge.testing import ScriptedModel
from tests.command import cc
from tests.conftest import lacking
from tests.served import Served, events, made

pytestmark = pytest.mark.anyio

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn's and the database drivers'."""
    return "asyncio"


@pytest.fixture
async def served(tmp_path: Path, scripted_model: ScriptedModel, claude: str) -> AsyncIterator[Served]:
    (tmp_path / "home").mkdir()
    config = tmp_path / "cc-bridge.toml"
    config.write_text('[service]\nlargest_body = "2k"\nhost_names = ["Chat.Example"]\n')
    env = {**scripted_model.claude_env(tmp_path / "home"), "CC_BRIDGE_CONFIG": str(config)}
    service = Served(tmp_path / "state", env)
    try:
        yield service
    finally:
        with anyio.CancelScope(shield=True):
            await service.clean()


async def test_the_file_says_what_the_command_line_does_not(served: Served) -> None:
    served.start()
    assert served.address.startswith("http://chat.example:")
    port = served.address.rsplit(":", 1)[1]
    served.address = f"http://127.0.0.1:{port}"
    async with served.client() as client:
        large = await client.post("/v1/instances", json={"name": "a", "template": "x" * 3000})
        assert large.status_code == 413
        named = await client.get("/v1/instances", headers={"Host": "chat.example"})
        assert (named.status_code, named.headers["date"][-3:]) == (200, "GMT")
        assert (await client.get("/v1/instances", headers={"Host": "other.example"})).status_code == 421
    assert served.stop() == 0
    served.start("--host-name", "other.example")
    assert served.address.startswith("http://other.example:")


def test_another_address_needs_a_name(tmp_path: Path) -> None:
    env = {**os.environ, "CC_BRIDGE_HOME": str(tmp_path), "CC_BRIDGE_CONFIG": ""}
    refused = cc("serve", "--host", "0.0.0.0", "--port", "0", env=env)
    assert refused.returncode != 0
    assert "--host-name" in refused.stderr


async def test_a_token_in_an_address_is_none(served: Served) -> None:
    served.start()
    served.address = f"http://127.0.0.1:{served.address.rsplit(':', 1)[1]}"
    async with served.client("") as client:
        for name in ("token", "access_token", "authorization"):
            assert (await client.get("/v1/instances", params={name: served.token})).status_code == 401


async def test_a_backup_that_is_taken_while_it_runs_has_what_was_acknowledged(served: Served, tmp_path: Path) -> None:
    served.start()
    served.address = f"http://127.0.0.1:{served.address.rsplit(':', 1)[1]}"
    async with served.client() as client:
        await made(client, "desk")
        asked = {"json": {"prompt": "hello"}, "headers": {"Prefer": "wait=60"}}
        turn = (await client.post("/v1/instances/desk/commands", **asked)).json()
        database = served.root / "service" / "service.db"
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(tmp_path / "backup")) as backup:
            source.backup(backup)  # what `.backup` of sqlite3 does
        await client.post("/v1/instances/desk/commands", **asked)
    assert served.stop() == 0
    for path in database.parent.glob("service.db*"):
        path.unlink()
    shutil.copy(tmp_path / "backup", database)
    served.start()
    served.address = f"http://127.0.0.1:{served.address.rsplit(':', 1)[1]}"
    async with served.client() as client:
        turns = (await client.get("/v1/instances/desk/turns")).json()["turns"]
        assert [(item["id"], item["result"]["text"]) for item in turns] == [(turn["id"], "You said: hello")]
        assert (await client.post("/v1/instances/desk/commands", **asked)).json()["result"]["ok"]


# Behind a proxy


@contextmanager
def nginx(place: Path, upstream: str) -> Iterator[str]:
    """The proxy of the docs in front of this service, without TLS; its address."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        lacking("nginx", "nginx is not installed")
    assert program
    page = (PROJECT / "docs" / "how-to" / "run-the-service.md").read_text()
    server = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)[0]
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    server = re.sub(r".*ssl_certificate.*\n", "", server.replace("listen 443 ssl", f"listen 127.0.0.1:{port}"))
    assert "http://127.0.0.1:8765" in server
    places = "".join(
        f"{kind}_temp_path {place}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = place / "nginx.conf"
    config.write_text(
        f"daemon off; pid {place}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {places} {server.replace('http://127.0.0.1:8765', upstream)} }}"
    )
    proxy = subprocess.Popen([program, "-p", str(place), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        proxy.terminate()
        proxy.wait(30)


async def test_the_proxy_of_the_docs_holds_nothing_back(served: Served, tmp_path: Path) -> None:
    served.start()
    upstream = f"http://127.0.0.1:{served.address.rsplit(':', 1)[1].strip('/')}"
    (tmp_path / "proxy").mkdir()
    with nginx(tmp_path / "proxy", upstream) as served.address:
        async with served.client() as client:
            client.headers["Host"] = "chat.example"
            await until_it_answers(client)
            await made(client, "desk")
            prompt = {"prompt": "[[say one]] [[delay 600]] [[say two]]"}
            headers = {"Accept": "text/event-stream", "Origin": "https://chat.example"}
            path = "/v1/instances/desk/commands"
            async with client.stream("POST", path, json=prompt, headers=headers) as response:
                async for _, kind, _ in events(response):
                    if kind == "text_delta":
                        break  # it came through while the answer goes on
            signed_in = await client.post("/v1/session", json={"token": served.token}, headers={"X-CC-Bridge": "1"})
            assert signed_in.is_success, signed_in.text
            assert "secure" in signed_in.headers["set-cookie"].lower()


async def until_it_answers(client: httpx.AsyncClient) -> None:
    with anyio.fail_after(30):
        while True:
            try:
                assert (await client.get("/healthz")).status_code == 200
                return
            except httpx.ConnectError:
                await anyio.sleep(0.05)  # back-off: nginx does not say when it listens


# Files


def test_compose_publishes_nothing_and_gives_away_no_engine_of_roots() -> None:
    services: dict[str, Any] = yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text())["services"]
    assert [port.startswith("127.0.0.1:") for item in services.values() for port in item.get("ports", [])] == [True]
    assert services["database"]["network_mode"] == "none"
    mounts = [mount for item in services.values() for mount in item["volumes"]]
    assert not [mount for mount in mounts if mount.startswith("/var/run/docker.sock")]
    state = next(mount for mount in mounts if "CC_BRIDGE_STATE" in mount)
    outside, _, inside = state.rpartition(":")
    assert re.sub(r":\?[^}]*", "", outside) == inside == "${CC_BRIDGE_STATE}", (
        "the engine mounts by paths of its machine"
    )
    service = services["service"]
    assert (service["read_only"], service["cap_drop"], "privileged" in service) == (True, ["ALL"], False)


def test_what_compose_and_the_image_start_are_options_that_exist() -> None:
    known = cc("serve", "--help").stdout
    compose = yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text())["services"]["service"]["command"]
    dockerfile = (PROJECT / "docker" / "service.Dockerfile").read_text()
    image = json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)[-1])
    for words in (compose, image):
        assert words[0] == "serve"
        for word in words:
            assert not word.startswith("--") or word.partition("=")[0] in known, word


def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        lacking("systemd", "systemd-analyze is not installed")
    text = (PROJECT / "packaging" / "cc-bridge.service").read_text()
    unit = tmp_path / "cc-bridge.service"
    unit.write_text(text.replace("/opt/cc-bridge/bin/cc-bridge", sys.executable))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    ours = [line for line in checked.stderr.splitlines() if "cc-bridge.service" in line]
    assert not ours
    argv = ["systemd-analyze", "security", "--offline=yes", "--threshold=30", str(unit)]
    rated = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout


def test_each_promise_of_the_service_names_its_tests() -> None:
    text = (PROJECT / "docs" / "reference" / "service-security.md").read_text()
    promised = text[: text.index("## What is not promised")]
    promises = re.split(r"^- ", promised, flags=re.MULTILINE)[1:]
    assert len(promises) >= 20
    for promise in promises:
        named = re.findall(r"`(tests/[^`]+)`", promise)
        assert named, f"no test is named by: {promise}"
        assert all((PROJECT / path).is_file() for path in named), promise
