"""The service as its clients see it: a process of its own, the real Claude Code, the scripted model.

covers: B13
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from cc_bridge.testing import ScriptedModel
from tests.served import Served, events, lost_connections, made

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn's and the database drivers'."""
    return "asyncio"


@pytest.fixture
async def served(tmp_path: Path, scripted_model: ScriptedModel, claude: str) -> AsyncIterator[Served]:
    service = Served(tmp_path / "state", scripted_model.claude_env(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    try:
        yield service.start()
    finally:
        with anyio.CancelScope(shield=True):
            await service.clean()


@pytest.fixture
async def own_client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with served.client() as found:
        await made(found, "desk")
        yield found


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """Whom the instances of `of_all` talk to."""
    with ScriptedModel() as found:
        yield found


@pytest.fixture(scope="module")
def of_all(tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel, claude: str) -> Iterator[Served]:
    """One that nothing happens to, for all tests that only ask: each finds its instance idle, and leaves it so."""
    root = tmp_path_factory.mktemp("served")
    service = Served(root / "state", model.claude_env(root))
    try:
        service.start()
        anyio.run(prepare, service)
        yield service
    finally:
        anyio.run(service.clean)


async def prepare(service: Served) -> None:
    async with service.client() as found:
        await made(found, "desk")


@pytest.fixture
async def client(of_all: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with of_all.client() as found:
        yield found


async def sent(client: httpx.AsyncClient, prompt: Any, name: str = "desk", **headers: str) -> dict[str, Any]:
    response = await client.post(f"/v1/instances/{name}/commands", json={"prompt": prompt}, headers=headers)
    assert response.is_success, response.text
    return response.json()


async def ended(client: httpx.AsyncClient, turn: dict[str, Any]) -> dict[str, Any]:
    """The turn, once its stream has ended."""
    path = f"/v1/instances/{turn['instance']}/turns/{turn['id']}"
    async with client.stream("GET", f"{path}/events") as response:
        async for _ in events(response):
            pass
    return (await client.get(path)).json()


# Commands


async def test_a_command_is_acknowledged_and_answered(client: httpx.AsyncClient) -> None:
    turn = await sent(client, "hello")
    assert turn["state"] != "ended"
    assert (await ended(client, turn))["result"]["text"] == "You said: hello"


async def test_who_prefers_to_wait_gets_the_whole_answer(client: httpx.AsyncClient) -> None:
    turn = await sent(client, "hello", Prefer="wait=60")
    assert (turn["state"], turn["result"]["ok"], turn["result"]["text"]) == ("ended", True, "You said: hello")


async def test_who_does_not_want_to_wait_so_long_gets_the_turn(client: httpx.AsyncClient) -> None:
    turn = await sent(client, "[[hang]]", Prefer="wait=1")
    assert turn["state"] != "ended"
    assert (await client.delete(f"/v1/instances/desk/turns/{turn['id']}")).status_code == 204
    assert (await ended(client, turn))["result"]["verdict"] == "interrupted"


async def test_the_answer_streams_with_ids_and_ends_with_its_result(client: httpx.AsyncClient) -> None:
    body = {"prompt": "[[say one]] [[say two]]"}
    async with client.stream(
        "POST", "/v1/instances/desk/commands", json=body, headers={"Accept": "text/event-stream"}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        heard = [item async for item in events(response)]
    assert "".join(data["text"] for _, kind, data in heard if kind == "text_delta") == "onetwo"
    assert [kind for _, kind, _ in heard][-1] == "turn_result"
    ids = [at for at, kind, _ in heard if kind != "waiting"]
    assert len(set(ids)) == len(ids)
    assert all(ids)


async def test_a_prompt_of_blocks(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    blocks = [{"type": "text", "text": "read this"}, {"type": "document", "data": "aGVsbG8=", "title": "a.txt"}]
    turn = await sent(client, blocks, Prefer="wait=60")
    assert turn["result"]["ok"]
    assert turn["prompt"] == blocks
    assert "a.txt" in json.dumps(model.requests[-1].body)


async def test_the_same_key_is_the_same_command(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    turns = await asyncio.gather(*[sent(client, "only once", **key) for _ in range(5)])
    assert len({turn["id"] for turn in turns}) == 1
    await ended(client, turns[0])
    assert (await sent(client, "only once", **key))["state"] == "ended"
    other = await client.post("/v1/instances/desk/commands", json={"prompt": "another"}, headers=key)
    assert other.status_code == 409
    assert model.prompts["only once"] == 1


async def test_commands_wait_in_line_and_are_answered_in_order(client: httpx.AsyncClient) -> None:
    turns = [await sent(client, f"[[delay 0.2]][[say {number}]]") for number in range(4)]
    results = [await ended(client, turn) for turn in turns]
    assert [result["result"]["text"] for result in results] == ["0", "1", "2", "3"]
    assert [result["number"] for result in results] == sorted(result["number"] for result in results)


async def test_what_waits_can_be_changed_and_taken_back(client: httpx.AsyncClient, model: ScriptedModel) -> None:
    first = await sent(client, "[[delay 2]][[say first]]")
    second, third = await sent(client, "second"), await sent(client, "third")
    assert [(await client.get(f"/v1/instances/desk/turns/{turn['id']}")).json()["position"] for turn in (second, third)]
    path = f"/v1/instances/desk/turns/{second['id']}"
    assert (await client.put(path, json={"prompt": "another second"})).json()["prompt"] == "another second"
    assert (await client.delete(f"/v1/instances/desk/turns/{third['id']}")).status_code == 204
    assert (await ended(client, first))["result"]["text"] == "first"
    assert (await ended(client, second))["result"]["text"] == "You said: another second"
    assert (await ended(client, third))["result"]["verdict"] == "withdrawn"
    assert (await client.put(path, json={"prompt": "too late"})).status_code == 409
    asked = json.dumps([request.body for request in model.requests])
    assert "third" not in asked
    assert "You said: second" not in asked


# Streams


async def test_a_client_that_comes_back_goes_on_after_its_last_event(client: httpx.AsyncClient) -> None:
    turn = await sent(client, "[[pace 0.05]][[repeat 20 word ]]")
    path, said, last = f"/v1/instances/desk/turns/{turn['id']}/events", [], ""
    for most in (3, 5, 1000):
        headers = {"Last-Event-ID": last} if last else {}
        async with client.stream("GET", path, headers=headers) as response:
            async for at, kind, data in events(response):
                if kind == "text_delta":
                    said.append(data["text"])
                last = at or last
                if kind == "text_delta" and (most := most - 1) == 0:
                    break
    assert "".join(said) == "word " * 20
    assert (await client.get(path, headers={"Last-Event-ID": last})).status_code == 204


async def test_killed_in_mid_answer_the_next_service_goes_on_with_it(
    served: Served, own_client: httpx.AsyncClient, scripted_model: ScriptedModel
) -> None:
    turn = await sent(own_client, "[[pace 0.05]][[repeat 60 word ]]")
    path, said, last = f"/v1/instances/desk/turns/{turn['id']}/events", [], ""
    with lost_connections():
        async with own_client.stream("GET", path) as response:
            async for at, kind, data in events(response):
                last = at or last
                if kind == "text_delta":
                    said.append(data["text"])
                    if len(said) == 5:
                        served.kill()
    served.start()
    async with own_client.stream("GET", path, headers={"Last-Event-ID": last}) as response:
        async for _, kind, data in events(response):
            if kind == "text_delta":
                said.append(data["text"])
    assert "".join(said) == "word " * 60
    assert [request.prompt for request in scripted_model.requests].count("[[pace 0.05]][[repeat 60 word ]]") == 1


async def test_what_was_acknowledged_is_answered_by_the_next_service(
    served: Served, own_client: httpx.AsyncClient
) -> None:
    turns = [await sent(own_client, f"[[delay 0.3]][[say {number}]]") for number in range(3)]
    served.kill()
    served.start()
    assert [(await ended(own_client, turn))["result"]["text"] for turn in turns] == ["0", "1", "2"]


async def test_told_to_stop_it_says_goodbye_and_turns_go_on(served: Served, own_client: httpx.AsyncClient) -> None:
    turn = await sent(own_client, "[[pace 0.05]][[repeat 40 word ]]")
    path, kinds = f"/v1/instances/desk/turns/{turn['id']}/events", []
    async with own_client.stream("GET", path) as response:
        async for _, kind, _ in events(response):
            kinds.append(kind)
            if kinds.count("text_delta") == 3:
                served.terminate()
    assert kinds[-1] == "bye"
    assert served.stop() == 0
    served.start()
    assert (await ended(own_client, turn))["result"]["text"] == "word " * 40


async def test_a_reader_that_vanishes_ends_nothing(client: httpx.AsyncClient) -> None:
    turn = await sent(client, "[[pace 0.05]][[repeat 20 word ]]")
    async with client.stream("GET", f"/v1/instances/desk/turns/{turn['id']}/events") as response:
        async for _ in events(response):
            break
    assert (await ended(client, turn))["result"]["text"] == "word " * 20


async def test_all_that_an_instance_says_whoever_asks(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/v1/instances/desk/events") as response:
        heard = events(response)
        first = await sent(client, "one")
        second = await sent(client, "two")
        ends = []
        async for _, kind, data in heard:
            if kind == "turn_result":
                ends.append((data["turn"], data["text"]))
                if len(ends) == 2:
                    break
        await heard.aclose()
    assert ends == [(first["id"], "You said: one"), (second["id"], "You said: two")]


async def test_who_watches_is_told_what_each_instance_does(own_client: httpx.AsyncClient) -> None:
    states = []
    async with own_client.stream("GET", "/v1/events") as response:
        heard = events(response)
        async for _, kind, data in heard:
            states.append(data.get("state", kind))
            if len(states) == 1:
                await sent(own_client, "[[delay 0.5]]hello")
            elif states[-1] == "idle" and "busy" in states:
                break
        await made(own_client, "other")
        async for _, kind, data in heard:
            if data["name"] == "other" and kind == "instance":
                await own_client.patch("/v1/instances/other", json={"title": "Ünlü 2"})
                break
        async for _, _, data in heard:
            if data.get("title") == "Ünlü 2":
                await own_client.delete("/v1/instances/other")
                break
        async for _, kind, data in heard:
            if kind == "removed":
                assert data["name"] == "other"
                break
        await heard.aclose()
    assert states[0] in ("idle", "asleep")


async def test_an_instance_that_is_made_again_knows_nothing_of_the_one_before(own_client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "one"}
    first = await sent(own_client, "hello", Prefer="wait=60", **key)
    waits = await sent(own_client, "[[hang]]")
    await sent(own_client, "waits behind it")
    assert (await own_client.delete("/v1/instances/desk")).status_code == 204
    assert (await own_client.get(f"/v1/instances/desk/turns/{waits['id']}")).status_code == 404
    await made(own_client, "desk")
    assert (await own_client.get("/v1/instances/desk/turns")).json()["turns"] == []
    again = await sent(own_client, "another", Prefer="wait=60", **key)
    assert again["id"] != first["id"]
    assert again["result"]["text"] == "You said: another"


async def test_what_waits_for_an_instance_that_is_removed_is_never_asked(
    own_client: httpx.AsyncClient, scripted_model: ScriptedModel
) -> None:
    await sent(own_client, "[[hang]]")
    for number in range(3):
        await sent(own_client, f"of the old one {number}")
    assert (await own_client.delete("/v1/instances/desk")).status_code == 204
    await made(own_client, "desk")
    assert (await sent(own_client, "of the new one", Prefer="wait=60"))["result"]["text"] == "You said: of the new one"
    assert not [prompt for prompt in scripted_model.prompts if "old one" in prompt]


async def test_a_retry_with_its_key_is_refused_by_no_limit(of_all: Served, client: httpx.AsyncClient) -> None:
    limits = {"name": "one", "scopes": ["read", "command"], "limits": {"at_once": 1}}
    secret = (await client.post("/v1/tokens", json=limits)).json()["secret"]
    async with of_all.client(secret) as one:
        first = await sent(one, "[[delay 1]]hello", **{"Idempotency-Key": "k"})
        assert (await one.post("/v1/instances/desk/commands", json={"prompt": "more"})).status_code == 429
        assert (await sent(one, "[[delay 1]]hello", **{"Idempotency-Key": "k"}))["id"] == first["id"]
        await ended(one, first)


async def test_who_may_only_manage_is_sent_no_answers(of_all: Served, client: httpx.AsyncClient) -> None:
    secret = (await client.post("/v1/tokens", json={"name": "m", "scopes": ["manage"]})).json()["secret"]
    async with of_all.client(secret) as manager:
        refused = await manager.post("/v1/webhooks", json={"url": "https://example.org/"})
        assert refused.status_code == 403


async def test_a_token_that_is_revoked_hears_no_more(of_all: Served, client: httpx.AsyncClient) -> None:
    new = await client.post("/v1/tokens", json={"name": "guest", "scopes": ["read"]})
    async with (
        of_all.client(new.json()["secret"]) as guest,
        guest.stream("GET", "/v1/instances/desk/events") as response,
    ):
        assert response.status_code == 200
        await client.delete(f"/v1/tokens/{new.json()['id']}")
        assert [kind async for _, kind, _ in events(response)] == ["bye"]
        assert (await guest.get("/v1/instances")).status_code == 401


# Who may do what, and what no request passes


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Authorization": "Bearer ccb_wrong"}, 401),
        ({"Authorization": "Basic dTpw"}, 401),
        ({"Authorization": ""}, 401),
    ],
)
async def test_what_is_refused(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    turns = (await client.get("/v1/instances/desk/turns")).json()
    response = await client.post("/v1/instances/desk/commands", json={"prompt": "hello"}, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert (await client.get("/v1/instances/desk/turns")).json() == turns


async def test_the_head_of_a_request_is_bounded(of_all: Served) -> None:
    address = httpx.URL(of_all.address)
    async with await anyio.connect_tcp(address.host, address.port or 80) as stream:
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        with anyio.fail_after(30), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            while True:
                await stream.send(b"x" * 16 * 1024)
                with anyio.move_on_after(0.01):
                    await stream.receive()


@pytest.mark.parametrize("token", ["", "ccb_only_looks_like_one"])
async def test_the_body_of_a_stranger_is_not_read(of_all: Served, token: str) -> None:
    async with of_all.client(token) as stranger:
        refused = await stranger.post("/v1/instances/desk/commands", content=b"[" * 20_000_000)
    assert refused.status_code == 401


async def test_who_is_revoked_before_the_body_has_come_gets_nothing(client: httpx.AsyncClient, of_all: Served) -> None:
    wanted = {"name": "held", "scopes": ["read", "manage"]}
    made = (await client.post("/v1/tokens", json=wanted)).json()

    async def held() -> AsyncIterator[bytes]:
        yield b'{"name": "child", "scopes": ["read"]'
        assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
        yield b"}"

    async with of_all.client(made["secret"]) as theirs:
        refused = await theirs.post("/v1/tokens", content=held(), headers={"Content-Type": "application/json"})
    assert refused.status_code == 401
    assert "child" not in (await client.get("/v1/tokens")).text


async def test_a_body_that_does_not_say_how_large_it_is(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(40):
            yield b"x" * 1024 * 1024

    response = await client.post(
        "/v1/instances/desk/commands", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/instances/nobody", None, 404),
        ("POST", "/v1/instances/nobody/commands", {"prompt": "x"}, 404),
        ("POST", "/v1/instances/desk/commands", {"prompt": "  "}, 422),
        ("POST", "/v1/instances/desk/commands", {"prompt": "x", "more": 1}, 422),
        ("POST", "/v1/instances/desk/commands", {"prompt": [{"type": "image", "data": "aGVsbG8="}]}, 422),
        ("POST", "/v1/instances/desk/commands", {"prompt": [{"type": "image", "data": "%%%"}]}, 422),
        ("POST", "/v1/instances", {"name": "Bad Name", "template": "default"}, 422),
        ("POST", "/v1/instances", {"name": "new", "template": "nothing"}, 404),
        ("GET", f"/v1/instances/desk/turns/{uuid.UUID(int=7)}", None, 404),
        ("GET", f"/v1/instances/desk/turns/{uuid.UUID(int=7)}/events", None, 404),
        ("GET", "/v1/instances/desk/events?after=nonsense", None, 422),
        ("GET", "/v1/nothing", None, 404),
        ("PUT", "/v1/instances", {}, 405),
    ],
)
async def test_what_cannot_be_is_a_problem_with_a_reason(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    response = await client.request(method, path, json=body)
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["detail"]


async def test_a_second_service_on_the_same_database_is_refused(served: Served, own_client: httpx.AsyncClient) -> None:
    second = Served(served.root, {})
    with pytest.raises(AssertionError, match="it has ended: 2"):
        second.start()
    second.kill()
    assert (await own_client.get("/readyz")).status_code == 200
