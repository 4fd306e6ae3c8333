"""Server-sent events as a client takes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.client import Event, ServiceError
from cc_bridge.client import streams as streams_module
from cc_bridge.client.streams import Stream, as_change
from cc_bridge.service.sse import sse

RETRY = b"retry: 1000\n\n"


def told(*texts: str) -> bytes:
    events = [
        sse("text_delta", {"type": "text_delta", "turn": "t", "text": text}, f"1-{i}") for i, text in enumerate(texts)
    ]
    return RETRY + b": \n\n".join(events)


@given(st.lists(st.text(), max_size=5), st.data())
def test_events_come_out_as_they_went_in_however_the_bytes_are_cut(texts: list[str], data: st.DataObject) -> None:
    raw = told(*texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    stream, found = Stream(), []
    for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        found += stream.feed(raw[begin:end])
    assert [event.data["text"] for event in found] == texts
    assert [event.at for event in found] == [f"1-{number}" for number in range(len(texts))]


def test_characters_at_which_only_python_ends_lines_are_text() -> None:
    text = "a\u2028b\x0bc\x85d\x1ee"
    (event,) = Stream().feed(told(text))
    assert event == Event("text_delta", "t", "1-0", {"type": "text_delta", "turn": "t", "text": text})


def test_it_goes_on_after_the_last_whole_event() -> None:
    stream, raw = Stream(), told("one", "two")
    assert "Last-Event-ID" not in stream.headers
    assert len(list(stream.feed(raw[:-3]))) == 1
    assert stream.headers["Last-Event-ID"] == "1-0"
    assert [event.data["text"] for event in stream.feed(told("three"))] == ["three"]


def test_events_without_a_place_do_not_change_it() -> None:
    stream = Stream("0-9")
    (event,) = stream.feed(sse("waiting", {"type": "waiting", "turn": "t", "position": 2}))
    assert (event.type, event.at, stream.after) == ("waiting", "", "0-9")


def test_a_turn_ends_with_its_result_and_an_instance_does_not() -> None:
    result = sse("turn_result", {"type": "turn_result", "turn": "t"}, "1-1")
    for ends in (True, False):
        stream = Stream(ends=ends)
        assert len(list(stream.feed(result))) == 1
        assert stream.ended is ends


def test_a_farewell_is_no_event() -> None:
    stream = Stream("1-1", ends=True)
    assert not list(stream.feed(sse("bye", {"reason": "it stops"})))
    assert (stream.ended, stream.after) == (False, "1-1")


def test_what_the_service_cannot_go_on_with_is_raised() -> None:
    problem = {"type": "urn:cc-bridge:PositionGone", "status": 410, "detail": "not kept", "hint": "begin again"}
    with pytest.raises(ServiceError) as caught:
        list(Stream().feed(sse("error", problem)))
    assert (caught.value.status, caught.value.kind, caught.value.hint) == (410, "PositionGone", "begin again")


@pytest.mark.parametrize("data", ["[]", "no json", "[" * 100_000])
def test_what_is_no_event_of_ours_is_an_error(data: str) -> None:
    with pytest.raises(ServiceError):
        list(Stream().feed(f"event: x\ndata: {data}\n\n".encode()))


def test_an_event_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "_LARGEST", 1000)
    stream = Stream()
    with pytest.raises(ServiceError, match="more than 1000 bytes"):
        for _ in range(20):
            list(stream.feed(b"data: " + b"x" * 100))


def test_changes_are_instances_or_that_they_have_gone() -> None:
    (here,) = Stream().feed(sse("instance", {"type": "instance", "name": "work", "state": "idle"}))
    (gone,) = Stream().feed(sse("removed", {"type": "removed", "name": "work"}))
    assert as_change(here) == ("work", {"name": "work", "state": "idle"})
    assert as_change(gone) == ("work", None)
    assert json.dumps(here.data)
