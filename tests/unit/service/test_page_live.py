"""What a page shows of a conversation, made of its events and of its history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from cc_bridge.errors import PositionGone
from cc_bridge.service.page.live import Live, past_turns
from cc_bridge.service.page.streaming import PageStream

STARTED = {"type": "turn_started", "turn": "t", "at": "1"}
ENDED = {"type": "turn_result", "turn": "t", "at": "9", "text": "all of it", "ok": True, "cost_usd": 1.0}


def delta(text: str) -> dict[str, Any]:
    return {"type": "text_delta", "turn": "t", "text": text}


def heard(live: Live, *events: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for event in events:
        yield from live.hear(event)
        yield from live.draw()


def test_a_text_grows_in_its_block_and_is_settled_by_the_next() -> None:
    found = list(heard(Live(), STARTED, delta("One"), delta(" two.\n\nThr"), delta("ee."), ENDED))
    blocks = [(one["n"], one["html"].strip(), one.get("open", False)) for one in found if one["type"] == "block"]
    assert blocks == [
        (0, "<p>One</p>", True),
        (0, "<p>One two.</p>\n<p>Thr</p>", True),
        (0, "<p>One two.</p>\n<p>Three.</p>", True),
        (0, "<p>One two.</p>", False),
        (1, "<p>Three.</p>", False),
    ]


def test_text_thinking_and_tools_are_parts_in_their_order() -> None:
    events = [
        STARTED,
        {"type": "thinking_delta", "turn": "t", "text": "Hm", "parent": ""},
        {"type": "thinking_delta", "turn": "t", "text": ".", "parent": ""},
        delta("First."),
        {"type": "tool_use", "turn": "t", "tool_use_id": "x", "name": "Bash", "input": {"command": "ls"}, "parent": ""},
        {"type": "tool_result", "turn": "t", "tool_use_id": "x", "content": [{"type": "text", "text": "a"}]},
        delta("\n\n"),
        delta("Second."),
        ENDED,
    ]
    found = list(heard(Live(), *events))
    assert [(one["part"], one["from"], one["text"]) for one in found if one["type"] == "thinking"] == [
        (0, 0, "Hm"),
        (0, 2, "."),
    ]
    assert {one["part"] for one in found if one["type"] == "block"} == {1, 3}
    assert next(one for one in found if one["type"] == "tool")["part"] == 2
    assert next(one for one in found if one["type"] == "tool_result") == {
        "type": "tool_result",
        "turn": "t",
        "part": 2,
        "text": "a",
        "left_out": 0,
        "is_error": False,
    }


def test_read_again_from_its_beginning_everything_is_where_it_was() -> None:
    events = [STARTED, delta("One.\n\nTwo."), delta(" More.\n\nThree."), ENDED]
    apart = [one for one in heard(Live(), *events) if one["type"] == "block" and not one.get("open")]
    live = Live()
    for event in events[:-1]:
        assert list(live.hear(event)) in ([], [event])
    at_once = [one for one in [*live.draw(), *live.hear(ENDED)] if one["type"] == "block" and not one.get("open")]
    assert apart == at_once


def test_of_a_turn_whose_beginning_was_missed_nothing_is_shown_but_its_end() -> None:
    live = Live()
    assert list(heard(live, delta("half"), delta(" of it"))) == [{"type": "missed", "turn": "t"}]
    assert live.is_between
    assert [one["type"] for one in heard(live, ENDED)] == ["turn_result"]


def test_between_turns_and_not_within_one_can_be_gone_on() -> None:
    live = Live()
    assert live.is_between
    list(live.hear(STARTED))
    assert not live.is_between
    assert [one["type"] for one in live.hear(ENDED)] == ["turn_result"]
    assert live.is_between


def test_what_a_page_does_not_know_is_not_sent() -> None:
    assert list(Live().hear({"type": "unknown_message", "turn": "t", "message": {"x": 1}})) == []


def test_long_results_and_inputs_are_cut_and_say_so() -> None:
    live = Live()
    use = {"type": "tool_use", "turn": "t", "tool_use_id": "x", "name": "Write", "input": {"content": "a" * 100_000}}
    _, tool = heard(live, STARTED, use)
    assert len(tool["input"]["content"]) < 41_000
    (result,) = live.hear({"type": "tool_result", "turn": "t", "tool_use_id": "x", "content": "b" * 50_000})
    assert (len(result["text"]), result["left_out"]) == (40_000, 10_000)


def test_a_history_becomes_turns() -> None:
    said = [
        {"kind": "answer", "text": "the end of another turn"},
        {"kind": "prompt", "text": "do it", "turn": "t", "time": "now"},
        {"kind": "tool", "text": "Bash", "input": {"command": "ls"}},
        {"kind": "tool", "text": "Read", "input": None},
        {"kind": "result", "text": "a"},
        {"kind": "result", "text": "no", "is_error": True},
        {"kind": "answer", "text": "**Done**"},
    ]
    half, turn = past_turns(said)
    assert (half["turn"], half["prompt"]) == ("", None)
    assert (turn["turn"], turn["prompt"], turn["time"]) == ("t", "do it", "now")
    assert [part["kind"] for part in turn["parts"]] == ["tool", "tool", "text"]
    assert [part["result"]["is_error"] for part in turn["parts"][:2]] == [False, True]
    assert turn["parts"][2]["blocks"][0]["html"].strip() == "<p><strong>Done</strong></p>"


# The stream


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def nothing() -> Any:
    await anyio.sleep_forever()
    yield {}


async def read(stream: PageStream, until: str) -> str:
    """What it sends, until that is among it; then the reader goes away."""
    body, gone = "", anyio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal body
        body += message.get("body", b"").decode()
        if until in body:
            gone.set()

    with anyio.fail_after(10):
        await stream({}, receive, send)
    return body


@pytest.mark.anyio
async def test_an_id_stands_only_where_no_turn_is_cut() -> None:
    async def events() -> Any:
        yield STARTED
        yield delta("One.")
        yield ENDED
        await anyio.sleep_forever()

    body = await read(PageStream(changes=nothing(), events=events(), stopping=anyio.Event()), "turn_result")
    assert [line for line in body.split("\n") if line.startswith("id: ")] == ["id: 9"]
    assert body.index('"hello"') < body.index('"turn_started"') < body.index("One.") < body.index("id: 9")


@pytest.mark.anyio
async def test_a_place_that_is_gone_is_told_and_the_stream_goes_on() -> None:
    async def events() -> Any:
        raise PositionGone("it is not kept")
        yield {}

    async def changes() -> Any:
        await anyio.lowlevel.checkpoint()
        yield {"type": "instance", "name": "a"}
        await anyio.sleep_forever()

    body = await read(PageStream(changes=changes(), events=events(), stopping=anyio.Event()), '"gone"')
    assert '{"type":"gone"}' in body


@pytest.mark.anyio
async def test_it_beats_while_nothing_is_said() -> None:
    assert '"beat"' in await read(PageStream(changes=nothing(), events=None, stopping=anyio.Event()), '"beat"')


@pytest.mark.anyio
async def test_it_ends_with_the_service() -> None:
    stopping = anyio.Event()
    stopping.set()
    body = await read(PageStream(changes=nothing(), events=None, stopping=stopping), "never")
    assert "beat" not in body


@pytest.mark.anyio
async def test_half_a_surrogate_pair_and_numbers_that_json_lacks_end_no_stream() -> None:
    async def events() -> Any:
        yield STARTED
        yield delta("half \ud83d")
        yield {**ENDED, "odd": [float("nan"), float("inf")]}
        await anyio.sleep_forever()

    body = await read(PageStream(changes=nothing(), events=events(), stopping=anyio.Event()), "turn_result")
    assert "half ?" in body
    assert '["nan","inf"]' in body
