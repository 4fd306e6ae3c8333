"""The Python client against the real service: what it asks for, and that it goes on when the service was away.

covers: B13
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from cc_bridge.client import AsyncClient, Client, Event, ServiceError, ServiceUnreachable
from cc_bridge.testing import ScriptedModel
from tests.served import Served

pytestmark = pytest.mark.anyio

LIMIT = 60.0

_TOUCH = '[[tool Bash {"command": "touch made-by-a-tool"}]]'


@pytest.fixture
def served(tmp_path: Path, scripted_model: ScriptedModel, claude: str) -> Iterator[Served]:
    (tmp_path / "home").mkdir()
    service = Served(tmp_path / "state", scripted_model.claude_env(tmp_path / "home"))
    try:
        yield service.start()
    finally:
        anyio.run(service.clean)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.address, served.token) as found:
        yield found


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "text_delta")


def test_a_conversation_from_its_beginning_to_its_end(client: Client, tmp_path: Path) -> None:
    made = client.make("work", title="Invoices")
    assert (made["name"], made["title"], made["kind"]) == ("work", "Invoices", "local")
    assert [item["name"] for item in client.instances()] == ["work"]
    turn = client.send("work", "[[say one]]", wait=LIMIT)
    assert turn["state"] == "ended"
    assert turn["result"]
    assert turn["result"]["text"] == "one"
    assert client.turn("work", turn["id"]) == turn
    events = list(client.stream("work", "[[say two]] [[say three]]"))
    assert text_of(events) == "twothree"
    assert events[-1].type == "turn_result"
    assert text_of(list(client.events("work", events[-1].turn))) == "twothree"
    assert [item["number"] for item in client.turns("work")] == [1, 2]
    assert [item["text"] for item in client.history("work")["messages"]] == [
        "[[say one]]",
        "one",
        "[[say two]] [[say three]]",
        "twothree",
    ]
    assert client.put("work", "in/a.txt", b"content")["size"] == 7
    assert client.put("work", "in/b.txt", iter([b"con", b"tent"]))["size"] == 7
    assert [item["name"] for item in client.files("work", "in")] == ["a.txt", "b.txt"]
    assert client.fetch("work", "in/b.txt") == b"content"
    assert client.export("work").startswith(b"\x1f\x8b")
    assert client.usage(instance="work")["turns"] == 2
    assert client.fork("work", "other")["name"] == "other"
    assert client.send("other", "[[say four]]", wait=LIMIT)["result"]
    for name in ("work", "other"):
        client.remove(name, conversation=True)
    assert client.instances() == []
    with pytest.raises(ServiceError) as caught:
        client.instance("work")
    assert (caught.value.status, caught.value.kind) == (404, "InstanceNotFound")


def test_a_permission_is_asked_for_and_answered_once(client: Client) -> None:
    client.make("work")
    turn = client.send("work", f"{_TOUCH} [[say done]]")
    for change in client.changes():
        if change.instance is not None and change.instance["permissions"]:
            break
    (request,) = client.permissions()
    assert request["input"] is not None
    assert request["input"]["command"] == "touch made-by-a-tool"
    client.answer(request["id"], "allow")
    with pytest.raises(ServiceError) as caught:
        client.answer(request["id"], "deny", reason="too late")
    assert (caught.value.status, caught.value.problem["how"]) == (409, "allow")
    assert text_of(list(client.events("work", turn["id"]))) == "done"
    assert [item["name"] for item in client.files("work")] == ["made-by-a-tool"]


def test_a_key_makes_a_command_one(client: Client, scripted_model: ScriptedModel) -> None:
    client.make("work")
    turns = [client.send("work", "[[say only once]]", key="mine", wait=LIMIT) for _ in range(3)]
    assert len({turn["id"] for turn in turns}) == 1
    assert scripted_model.prompts["[[say only once]]"] == 1


def test_waiting_ends_when_it_should_and_the_command_goes_on(client: Client) -> None:
    client.make("work")
    turn = client.send("work", "[[hang]]", wait=1)
    assert turn["state"] != "ended"
    client.cancel("work", turn["id"])
    assert [event.type for event in client.events("work", turn["id"])][-1] == "turn_result"
    ended = client.turn("work", turn["id"])
    assert ended["result"]
    assert ended["result"]["verdict"] == "interrupted"


def test_a_stream_goes_on_where_it_broke_off_when_the_service_was_killed(served: Served, client: Client) -> None:
    client.make("work")
    turn = client.send("work", " ".join(f"[[say {number},]] [[delay 0.15]]" for number in range(20)))
    found: list[Event] = []
    for event in client.events("work", turn["id"]):
        found.append(event)
        if event.type == "text_delta" and text_of(found) == "0,1,2,3,4,":
            served.kill()
            threading.Thread(target=served.start, name="starts again").start()
    assert text_of(found) == "".join(f"{number}," for number in range(20))
    places = [event.at for event in found if event.at]
    assert len(set(places)) == len(places)


def test_what_is_sent_while_the_service_is_away_arrives_once(
    served: Served, client: Client, scripted_model: ScriptedModel
) -> None:
    client.make("work")
    served.kill()
    again = threading.Timer(1.0, served.start)
    again.start()
    turn = client.send("work", "[[say here]]", wait=LIMIT)
    again.join()
    assert turn["result"]
    assert turn["result"]["text"] == "here"
    assert scripted_model.prompts["[[say here]]"] == 1


def test_nobody_is_waited_for_for_ever(served: Served) -> None:
    served.kill()
    with Client(served.address, served.token, patience=0.5) as client:
        with pytest.raises(ServiceUnreachable):
            client.instances()
        with pytest.raises(ServiceUnreachable):
            list(client.events("work", "3f0c7d52-6f0e-4a43-9df4-6ad57c1f6c11"))
    with Client(served.address, "wrong", patience=0.5) as stranger, pytest.raises(ServiceUnreachable):
        stranger.interrupt("work")


def test_a_wrong_token_is_refused_at_once(served: Served) -> None:
    with Client(served.address, "wrong") as client:
        with pytest.raises(ServiceError) as caught:
            client.instances()
        assert caught.value.status == 401
        with pytest.raises(ServiceError):
            next(client.changes())


async def test_the_asynchronous_one_does_the_same(served: Served) -> None:
    async with AsyncClient(served.address, served.token) as client:
        await client.make("work", labels={"of": "test"})
        assert (await client.instance("work"))["labels"]["of"] == "test"
        turn = await client.send("work", f"[[say a]] {_TOUCH} [[say b]]")
        async with aclosing(client.changes()) as changes:
            async for change in changes:
                if change.instance is not None and change.instance["permissions"]:
                    break
        for request in await client.permissions():
            await client.answer(request["id"], "deny", reason="not now")
        events = [event async for event in client.events("work", turn["id"])]
        assert text_of(events) == "a\n\nb"
        events = [event async for event in client.stream("work", "[[say c]]")]
        assert text_of(events) == "c"
        assert [item["number"] for item in await client.turns("work", limit=1)] == [2]
        assert (await client.turn("work", turn["id"]))["state"] == "ended"
        assert len((await client.history("work"))["messages"]) == 7

        async def content() -> Any:
            yield b"content"

        assert (await client.put("work", "a.txt", content()))["size"] == 7
        assert await client.fetch("work", "a.txt") == b"content"
        assert [item["name"] for item in await client.files("work")] == ["a.txt"]
        assert await client.export("work")
        assert (await client.usage())["turns"] == 2
        await client.fork("work", "other")
        await client.interrupt("work")
        await client.cancel("work", turn["id"])
        await client.remove("other")
        await client.remove("work")


async def test_the_asynchronous_one_goes_on_too(served: Served) -> None:
    async with AsyncClient(served.address, served.token) as client:
        await client.make("work")
        turn = await client.send("work", " ".join(f"[[say {number},]] [[delay 0.15]]" for number in range(20)))
        found: list[Event] = []
        async with anyio.create_task_group() as group:
            async for event in client.events("work", turn["id"]):
                found.append(event)
                if event.type == "text_delta" and text_of(found) == "0,1,2,3,4,":
                    served.kill()
                    group.start_soon(anyio.to_thread.run_sync, served.start)
        assert text_of(found) == "".join(f"{number}," for number in range(20))
