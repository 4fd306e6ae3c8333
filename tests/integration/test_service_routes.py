"""Permissions, files, conversations, usage and settings over HTTP: the service as a process, the real Claude Code.

covers: B13, T1
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel
from tests.served import Served, events

pytestmark = pytest.mark.anyio

LIMIT = 60.0

_TOUCH = '[[tool Bash {"command": "touch made-by-a-tool"}]]'

_CONFIG = """
[[budgets]]
usd = 5
instance = "*"
then = "interrupt"
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, claude: str) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    (root / "cc-bridge.toml").write_text(_CONFIG)
    with ScriptedModel() as model:
        env = {**model.claude_env(root), "CC_BRIDGE_CONFIG": str(root / "cc-bridge.toml")}
        service = Served(root / "state", env)
        try:
            yield service.start()
        finally:
            anyio.run(service.clean)


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with served.client() as found:
        yield found


@pytest.fixture
async def name(client: httpx.AsyncClient) -> str:
    """Of an instance of this test's own."""
    chosen = f"t{uuid.uuid4().hex[:10]}"
    made = await client.post("/v1/instances", json={"name": chosen, "template": "default"})
    assert made.status_code == 201, made.text
    return chosen


@pytest.fixture(scope="module")
def shared(served: Served) -> str:
    with httpx.Client(base_url=served.address, headers={"Authorization": f"Bearer {served.token}"}) as client:
        made = client.post("/v1/instances", json={"name": "shared", "template": "default"}, timeout=LIMIT)
    assert made.status_code == 201, made.text
    return "shared"


@pytest.fixture
def emptied(served: Served, shared: str) -> str:
    """Of an instance that tests share which do not talk to it; nothing is in its workspace."""
    for path in workspace_of(served, shared).iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return shared


def workspace_of(served: Served, name: str) -> Path:
    registry = Registry(served.root)
    records = [registry.load(kept) for kept in registry.names()]
    found = next(record for record in records if name in (record.name, record.labels.get("cc-bridge.alias")))
    assert found.workspace is not None
    return found.workspace


async def said(client: httpx.AsyncClient, name: str, prompt: str) -> dict[str, Any]:
    """The turn, when it has ended."""
    response = await client.post(
        f"/v1/instances/{name}/commands", json={"prompt": prompt}, headers={"Prefer": "wait=60"}
    )
    assert response.status_code == 200, response.text
    turn: dict[str, Any] = response.json()
    return turn


async def begun(client: httpx.AsyncClient, name: str, prompt: str) -> str:
    """The id of a turn that goes on."""
    response = await client.post(f"/v1/instances/{name}/commands", json={"prompt": prompt})
    return str(response.json()["id"])


async def asked(client: httpx.AsyncClient, name: str, turn: str) -> list[dict[str, Any]]:
    """What a turn asks for, once it asks."""
    with anyio.fail_after(LIMIT):
        async with client.stream("GET", f"/v1/instances/{name}/turns/{turn}/events") as response:
            async for _, kind, _ in events(response):
                if kind == "permission_request":
                    break
    with anyio.fail_after(LIMIT):
        async with client.stream("GET", "/v1/events") as response:  # it comes to the desk after it was said
            async for _, _, data in events(response):
                if data["name"] == name and data["permissions"]:
                    break
    found = (await client.get("/v1/permissions")).json()["permissions"]
    return [item for item in found if item["instance"] == name]


async def until_result(client: httpx.AsyncClient, name: str, turn: str) -> dict[str, Any]:
    with anyio.fail_after(LIMIT):
        async with client.stream("GET", f"/v1/instances/{name}/turns/{turn}/events") as response:
            async for _, kind, data in events(response):
                if kind == "turn_result":
                    return data
    raise AssertionError("the stream has ended without a result")


async def restricted(
    client: httpx.AsyncClient, served: Served, *scopes: str, instances: list[str]
) -> httpx.AsyncClient:
    made = await client.post("/v1/tokens", json={"name": "visitor", "scopes": list(scopes), "instances": instances})
    assert made.status_code == 201, made.text
    return served.client(made.json()["secret"])


async def audited(client: httpx.AsyncClient, name: str) -> list[tuple[str, dict[str, Any]]]:
    entries = (await client.get("/v1/audit")).json()["entries"]
    return [(entry["what"], entry["details"]) for entry in entries if entry["instance"] == name]


class TestPermissions:
    async def test_a_request_shows_the_whole_input_and_waits_for_one_answer(
        self, client: httpx.AsyncClient, served: Served, name: str
    ) -> None:
        turn = await begun(client, name, f"{_TOUCH} [[say done]]")
        (request,) = await asked(client, name, turn)
        assert (request["tool"], request["turn"], request["attended"]) == ("Bash", turn, True)
        assert request["input"]["command"] == "touch made-by-a-tool"
        assert request["suggested_rules"] == ["Bash(touch made-by-a-tool *)"]
        address = f"/v1/permissions/{request['id']}"
        assert (await client.get(address)).json() == request
        answer = await client.post(address, json={"answer": "allow"})
        assert answer.json() == {"id": request["id"], "instance": name, "answer": "allow", "by": "first"}
        late = await client.post(address, json={"answer": "deny"})
        assert late.status_code == 409
        assert (late.json()["by"], late.json()["how"]) == ("first", "allow")
        assert (await until_result(client, name, turn))["text"] == "done"
        assert (workspace_of(served, name) / "made-by-a-tool").exists()
        assert (await client.get(address)).status_code == 404
        assert ("permission.answered", {"id": request["id"], "answer": "allow", "tool": "Bash"}) in await audited(
            client, name
        )

    async def test_what_is_denied_does_not_happen_and_the_model_reads_why(
        self, client: httpx.AsyncClient, served: Served, name: str
    ) -> None:
        turn = await begun(client, name, f"{_TOUCH} [[say done]]")
        (request,) = await asked(client, name, turn)
        answer = await client.post(
            f"/v1/permissions/{request['id']}", json={"answer": "deny", "reason": "not in this house"}
        )
        assert answer.is_success
        assert (await until_result(client, name, turn))["ok"]
        assert not (workspace_of(served, name) / "made-by-a-tool").exists()
        messages = (await client.get(f"/v1/instances/{name}/history")).json()["messages"]
        (result,) = [message for message in messages if message["kind"] == "result"]
        assert result["is_error"]
        assert "not in this house" in result["text"]

    async def test_the_tool_is_given_another_input(self, client: httpx.AsyncClient, served: Served, name: str) -> None:
        turn = await begun(client, name, _TOUCH)
        (request,) = await asked(client, name, turn)
        changed = {**request["input"], "command": "touch another"}
        assert (
            await client.post(f"/v1/permissions/{request['id']}", json={"answer": "allow", "input": changed})
        ).is_success
        await until_result(client, name, turn)
        assert [path.name for path in workspace_of(served, name).iterdir()] == ["another"]

    async def test_always_writes_a_rule_and_is_not_asked_again(self, client: httpx.AsyncClient, name: str) -> None:
        turn = await begun(client, name, _TOUCH)
        (request,) = await asked(client, name, turn)
        address = f"/v1/permissions/{request['id']}"
        refused = await client.post(address, json={"answer": "always", "rule": "Bash(rm *)"})
        assert refused.status_code == 422
        assert "does not cover" in refused.json()["detail"]
        assert (await client.post(address, json={"answer": "always", "rule": "Bash(touch *)"})).is_success
        await until_result(client, name, turn)
        assert (await said(client, name, '[[tool Bash {"command": "touch b"}]] [[say done]]'))["result"]["ok"]

    @pytest.mark.parametrize(
        "body",
        [
            {"answer": "allow", "rule": "Bash(touch *)"},
            {"answer": "deny", "input": {}},
            {"answer": "session", "reason": "because"},
            {"answer": "perhaps"},
            {"answer": "allow", "surprise": 1},
            {},
        ],
    )
    async def test_members_that_do_not_go_with_an_answer_are_refused(
        self, client: httpx.AsyncClient, body: dict[str, Any]
    ) -> None:
        assert (await client.post("/v1/permissions/abc", json=body)).status_code == 422

    async def test_who_does_not_see_the_instance_does_not_see_its_requests(
        self, client: httpx.AsyncClient, served: Served, name: str
    ) -> None:
        turn = await begun(client, name, _TOUCH)
        (request,) = await asked(client, name, turn)
        address = f"/v1/permissions/{request['id']}"
        async with await restricted(client, served, "read", "permissions", instances=["other"]) as stranger:
            assert (await stranger.get("/v1/permissions")).json() == {"permissions": []}
            assert (await stranger.get(address)).status_code == 404
            assert (await stranger.post(address, json={"answer": "allow"})).status_code == 404
        async with await restricted(client, served, "read", instances=[name]) as reader:
            assert (await reader.get(address)).status_code == 200
            assert (await reader.post(address, json={"answer": "allow"})).status_code == 403
        assert (await client.post(address, json={"answer": "deny"})).is_success
        async with await restricted(client, served, "read", "permissions", instances=["other"]) as stranger:
            late = await stranger.post(address, json={"answer": "allow"})
            assert late.status_code == 404
            assert "by" not in late.json()


class TestFiles:
    async def test_what_is_put_is_there_and_comes_back(
        self, client: httpx.AsyncClient, served: Served, emptied: str
    ) -> None:
        address, data = f"/v1/instances/{emptied}/files/content", os.urandom(3_000_000)
        put = await client.put(address, params={"path": "in/deep/ä b.bin"}, content=data)
        assert put.status_code == 201, put.text
        assert (put.json()["name"], put.json()["kind"], put.json()["size"]) == ("ä b.bin", "file", 3_000_000)
        file = workspace_of(served, emptied) / "in" / "deep" / "ä b.bin"
        assert file.read_bytes() == data
        assert [path.name for path in file.parent.iterdir()] == ["ä b.bin"]
        got = await client.get(address, params={"path": "in/deep/ä b.bin"})
        assert got.content == data
        assert (await client.put(address, params={"path": "in/deep/ä b.bin"}, content=b"short")).status_code == 200
        assert file.read_bytes() == b"short"
        listed = (await client.get(f"/v1/instances/{emptied}/files", params={"path": "in/deep"})).json()
        assert [(item["path"], item["size"]) for item in listed["entries"]] == [("in/deep/ä b.bin", 5)]
        what, details = (await audited(client, emptied))[0]
        assert what == "file.written"
        assert details["path"] == "in/deep/ä b.bin"

    async def test_a_download_is_an_attachment_whatever_it_is(self, client: httpx.AsyncClient, emptied: str) -> None:
        address = f"/v1/instances/{emptied}/files/content"
        page = "<script>alert(1)</script>"
        await client.put(address, params={"path": 'a"\r\n.html'}, content=page.encode())
        got = await client.get(address, params={"path": 'a"\r\n.html'})
        assert got.text == page
        assert got.headers["content-type"] == "application/octet-stream"
        assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''a%22%0D%0A.html"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in got.headers["content-security-policy"]

    @pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "a\0b", "", "x/" * 200, "n" * 300])
    async def test_no_path_leads_out_of_the_workspace(self, client: httpx.AsyncClient, emptied: str, path: str) -> None:
        address = f"/v1/instances/{emptied}/files/content"
        assert (await client.get(address, params={"path": path})).status_code == 422
        assert (await client.put(address, params={"path": path}, content=b"x")).status_code == 422

    async def test_links_are_not_followed(
        self, client: httpx.AsyncClient, served: Served, emptied: str, tmp_path: Path
    ) -> None:
        workspace = workspace_of(served, emptied)
        (tmp_path / "secret").write_text("secret")
        (workspace / "link").symlink_to(tmp_path / "secret")
        (workspace / "way").symlink_to(tmp_path)
        address = f"/v1/instances/{emptied}/files/content"
        for path in ("link", "way/secret"):
            got = await client.get(address, params={"path": path})
            assert got.status_code == 422
            assert "secret" not in got.text
        assert (await client.get(f"/v1/instances/{emptied}/files", params={"path": "way"})).status_code == 422
        assert (await client.put(address, params={"path": "way/new"}, content=b"x")).status_code == 422
        assert not (tmp_path / "new").exists()
        assert (await client.put(address, params={"path": "link"}, content=b"x")).status_code == 200
        assert (tmp_path / "secret").read_text() == "secret"
        assert not (workspace / "link").is_symlink()
        listed = (await client.get(f"/v1/instances/{emptied}/files")).json()["entries"]
        assert [(item["name"], item["kind"]) for item in listed] == [("link", "file"), ("way", "link")]

    async def test_what_is_no_file_is_not_waited_for(
        self, client: httpx.AsyncClient, served: Served, emptied: str
    ) -> None:
        os.mkfifo(workspace_of(served, emptied) / "pipe")
        (workspace_of(served, emptied) / "directory").mkdir()
        address = f"/v1/instances/{emptied}/files/content"
        for path in ("pipe", "directory"):
            assert (await client.get(address, params={"path": path})).status_code == 422
        assert (await client.put(address, params={"path": "directory"}, content=b"x")).status_code == 422
        assert (await client.get(address, params={"path": "nothing"})).status_code == 404
        assert (await client.get(f"/v1/instances/{emptied}/files", params={"path": "nothing"})).status_code == 404

    async def test_a_directory_of_many_is_cut(self, client: httpx.AsyncClient, served: Served, emptied: str) -> None:
        many = workspace_of(served, emptied) / "many"
        many.mkdir()
        for number in range(2001):
            (many / str(number)).touch()
        listed = (await client.get(f"/v1/instances/{emptied}/files", params={"path": "many"})).json()
        assert listed["truncated"]
        assert len(listed["entries"]) == 2000
        assert [item["name"] for item in listed["entries"]] == sorted(item["name"] for item in listed["entries"])

    async def test_an_upload_that_breaks_off_leaves_nothing(
        self, client: httpx.AsyncClient, served: Served, emptied: str
    ) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 2_000_000
            raise OSError("the client dies")

        address = f"/v1/instances/{emptied}/files/content"
        with pytest.raises(OSError, match="dies"):
            await client.put(address, params={"path": "half"}, content=broken())
        with anyio.fail_after(LIMIT):
            while list(workspace_of(served, emptied).iterdir()):
                await anyio.sleep(0.05)

    async def test_what_is_there_keeps_its_mode(self, client: httpx.AsyncClient, served: Served, emptied: str) -> None:
        script = workspace_of(served, emptied) / "script"
        script.write_text("old")
        script.chmod(0o750)
        await client.put(f"/v1/instances/{emptied}/files/content", params={"path": "script"}, content=b"new")
        assert (script.read_text(), script.stat().st_mode & 0o7777) == ("new", 0o750)

    async def test_who_reads_does_not_write(self, client: httpx.AsyncClient, served: Served, emptied: str) -> None:
        address = f"/v1/instances/{emptied}/files/content"
        async with await restricted(client, served, "read", instances=[emptied]) as reader:
            assert (await reader.get(f"/v1/instances/{emptied}/files")).status_code == 200
            assert (await reader.put(address, params={"path": "a"}, content=b"x")).status_code == 403
        async with await restricted(client, served, "read", "command", instances=["other"]) as stranger:
            assert (await stranger.get(f"/v1/instances/{emptied}/files")).status_code == 404
            assert (await stranger.put(address, params={"path": "a"}, content=b"x")).status_code == 404


class TestConversations:
    async def test_history_comes_in_parts_from_the_end(self, client: httpx.AsyncClient, name: str) -> None:
        address = f"/v1/instances/{name}/history"
        assert (await client.get(address)).json() == {"messages": [], "before": None, "running": None}
        turns = [await said(client, name, f"[[say {number}]]") for number in range(3)]
        whole = (await client.get(address)).json()
        assert [(item["index"], item["kind"], item["turn"]) for item in whole["messages"]] == [
            item
            for number, turn in enumerate(turns)
            for item in ((2 * number, "prompt", turn["id"]), (2 * number + 1, "answer", ""))
        ]
        assert whole["before"] is None
        parts: list[dict[str, Any]] = []
        before: int | None = None
        while True:
            part = (await client.get(address, params={"limit": 4, **({"before": before} if before else {})})).json()
            parts = part["messages"] + parts
            if (before := part["before"]) is None:
                break
        assert parts == whole["messages"]

    async def test_what_goes_on_is_left_out_and_named(self, client: httpx.AsyncClient, name: str) -> None:
        await said(client, name, "[[say before]]")
        turn = await begun(client, name, f"[[say now]] {_TOUCH} [[say after]]")
        (request,) = await asked(client, name, turn)
        found = (await client.get(f"/v1/instances/{name}/history")).json()
        assert found["running"] == turn
        assert [item["text"] for item in found["messages"]] == ["[[say before]]", "before"]
        await client.post(f"/v1/permissions/{request['id']}", json={"answer": "allow"})
        await until_result(client, name, turn)
        found = (await client.get(f"/v1/instances/{name}/history")).json()
        assert found["running"] is None
        assert [item["kind"] for item in found["messages"][2:]] == ["prompt", "answer", "tool", "result", "answer"]
        assert found["messages"][4]["input"]["command"] == "touch made-by-a-tool"

    async def test_an_export_is_a_conversation_that_can_be_imported(
        self, client: httpx.AsyncClient, name: str, tmp_path: Path
    ) -> None:
        assert (await client.get(f"/v1/instances/{name}/export")).status_code == 422
        await said(client, name, "[[say something]]")
        got = await client.get(f"/v1/instances/{name}/export")
        assert got.headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}.conversation.tar.gz"
        with tarfile.open(fileobj=io.BytesIO(got.content)) as tar:
            assert tar.getnames()[0] == "conversation.json"
        (tmp_path / "file").write_bytes(got.content)
        session = Registry(tmp_path / "state").sessions.import_file(tmp_path / "file")
        assert session in got_session(got.content)

    async def test_a_fork_goes_on_in_a_copy_with_copies_of_its_files(
        self, client: httpx.AsyncClient, served: Served, name: str
    ) -> None:
        await said(client, name, "[[say something]]")
        workspace = workspace_of(served, name)
        (workspace / "deep").mkdir()
        (workspace / "deep" / "file").write_text("of the first")
        (workspace / "link").symlink_to("/etc/passwd")
        new = f"{name}-2"
        made = await client.post(f"/v1/instances/{name}/fork", json={"name": new, "title": "Another"})
        assert made.status_code == 201, made.text
        assert (made.json()["name"], made.json()["title"]) == (new, "Another")
        before = (await client.get(f"/v1/instances/{new}/history")).json()["messages"]
        assert [item["text"] for item in before] == ["[[say something]]", "something"]
        await said(client, new, "[[say else]]")
        after = (await client.get(f"/v1/instances/{new}/history")).json()["messages"]
        assert [item["text"] for item in after] == ["[[say something]]", "something", "[[say else]]", "else"]
        assert len((await client.get(f"/v1/instances/{name}/history")).json()["messages"]) == 2
        copy = workspace_of(served, new)
        assert copy != workspace
        assert (copy / "deep" / "file").read_text() == "of the first"
        assert os.readlink(copy / "link") == "/etc/passwd"
        assert (await client.post(f"/v1/instances/{name}/fork", json={"name": new})).status_code == 409
        assert (await client.delete(f"/v1/instances/{name}")).status_code == 204
        assert (copy / "deep" / "file").exists()
        assert not workspace.exists()
        assert (await client.delete(f"/v1/instances/{new}")).status_code == 204
        assert not copy.exists()

    async def test_what_has_not_begun_cannot_be_forked(self, client: httpx.AsyncClient, name: str) -> None:
        response = await client.post(f"/v1/instances/{name}/fork", json={"name": f"{name}-2"})
        assert response.status_code == 422
        assert (await client.get(f"/v1/instances/{name}-2")).status_code == 404


def got_session(content: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        file = tar.extractfile("conversation.json")
        assert file is not None
        return str(json.load(file)["session_id"])


class TestUsage:
    async def test_what_turns_have_used_and_what_is_spent(
        self, client: httpx.AsyncClient, served: Served, name: str
    ) -> None:
        turn = await said(client, name, "[[say something]]")
        found = (await client.get("/v1/usage", params={"instance": name})).json()
        assert found["usage"]["turns"] == 1
        assert found["usage"]["cost_usd"] == pytest.approx(turn["result"]["cost_usd"])
        assert found["usage"]["tokens"] > 0
        (budget,) = found["budgets"]
        assert budget["spent"] == pytest.approx(found["usage"]["cost_usd"])
        assert (budget["of"], budget["name"], budget["per"], budget["usd"]) == ("instance", name, "day", 5.0)
        assert (await client.get("/v1/usage")).json()["usage"]["turns"] >= 1
        nothing = (await client.get("/v1/usage", params={"instance": name, "day": "2020-01-01"})).json()
        assert nothing["usage"]["turns"] == 0
        assert (await client.get("/v1/usage", params={"day": "2020-13-01"})).status_code == 422
        async with await restricted(client, served, "read", instances=["other"]) as stranger:
            assert (await stranger.get("/v1/usage")).json()["usage"]["turns"] == 0
            assert (await stranger.get("/v1/usage", params={"instance": name})).status_code == 404
        async with await restricted(client, served, "read", instances=[name]) as reader:
            assert (await reader.get("/v1/usage")).json() == found

    async def test_templates_are_listed(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/templates")).json() == {
            "templates": [{"name": "default", "kind": "local", "spares": 0}]
        }


class TestSettings:
    async def test_models_are_chosen_and_shown(self, client: httpx.AsyncClient, name: str) -> None:
        address = f"/v1/instances/{name}/model"
        assert (await client.get(address)).json() == {"model": None}
        assert "haiku" in (await client.put(address, json={"model": "haiku"})).json()["model"]
        assert (await client.get(address)).json() == {"model": "haiku"}
        await client.put(address, json={"model": None})
        assert (await client.get(address)).json() == {"model": None}
        assert (await client.put(address, json={"model": "--evil"})).status_code == 422

    async def test_modes_take_the_scope_that_allows(self, client: httpx.AsyncClient, served: Served, name: str) -> None:
        address = f"/v1/instances/{name}/permission-mode"
        assert (await client.get(address)).json() == {"mode": "default"}
        async with await restricted(client, served, "read", "command", instances=[name]) as commander:
            assert (await commander.put(address, json={"mode": "acceptEdits"})).status_code == 403
        assert (await client.put(address, json={"mode": "acceptEdits"})).json() == {"mode": "acceptEdits"}
        assert (await client.get(address)).json() == {"mode": "acceptEdits"}
        refused = await client.put(address, json={"mode": "bypassPermissions"})
        assert refused.status_code >= 400
        assert (await client.get(address)).json() == {"mode": "acceptEdits"}
        assert [details for what, details in await audited(client, name) if "mode" in what] == [{"mode": "acceptEdits"}]

    async def test_slash_commands_and_the_context(self, client: httpx.AsyncClient, name: str) -> None:
        commands = (await client.get(f"/v1/instances/{name}/commands-list")).json()["commands"]
        assert {"compact", "context"} <= {command["name"] for command in commands}
        context = (await client.get(f"/v1/instances/{name}/context")).json()
        assert 0 < context["total_tokens"] < context["max_tokens"]
        assert {"System prompt", "Free space"} <= {part["name"] for part in context["categories"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "files"),
        ("GET", "files/content?path=a"),
        ("PUT", "files/content?path=a"),
        ("GET", "history"),
        ("GET", "export"),
        ("POST", "fork"),
        ("GET", "commands-list"),
        ("GET", "model"),
        ("PUT", "model"),
        ("GET", "permission-mode"),
        ("PUT", "permission-mode"),
        ("GET", "context"),
    ],
)
async def test_nothing_of_this_is_there_for_who_does_not_see_the_instance(
    client: httpx.AsyncClient, served: Served, method: str, path: str
) -> None:
    bodies = {"fork": {"name": "new"}, "model": {"model": "haiku"}, "permission-mode": {"mode": "plan"}}
    body = {"json": bodies[path]} if method != "GET" and path in bodies else {}
    missing = await client.request(method, f"/v1/instances/nobody/{path}", **body)
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:cc-bridge:InstanceNotFound")
    async with served.client("") as stranger:
        assert (await stranger.request(method, f"/v1/instances/nobody/{path}", **body)).status_code == 401
