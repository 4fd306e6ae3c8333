"""HTTP on its way through the relay: passed on byte for byte, and understood."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge_agent.pane.http import HttpError, Messages, ServerEvents, decoded, parse_head, readdress

EVENTS = b'event: a\ndata: {"type": "a"}\n\ndata: not json\n\ndata: {"type": "b", "text": "\xc3\xa9"}\n\n'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS)
COUNTED = b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\nRetry-After: 7\r\n\r\nbusy"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\n"
POST = b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def fed(messages: Messages, data: bytes, cuts: list[int]) -> list[tuple[str, bytes, bytes]]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    pieces, start = [], 0
    for end in ends:
        pieces += [tuple(piece) for piece in messages.feed(data[start:end])]
        start = end
    return pieces


@given(st.lists(st.sampled_from([CHUNKED, COUNTED, EMPTY, EARLY + COUNTED]), max_size=4), st.lists(st.integers(0)))
def test_answers_are_cut_right_wherever_they_are_torn(answers: list[bytes], cuts: list[int]) -> None:
    messages = Messages(answers=True)
    messages.methods = ["POST"] * len(answers)
    data = b"".join(answers)
    pieces = fed(messages, data, cuts)
    assert b"".join(raw for _, raw, _ in pieces) == data
    assert [kind for kind, _, _ in pieces if kind != "body"] == ["head", "end"] * len(answers)
    bodies = b"".join(body for _, _, body in pieces)
    assert bodies == b"".join(EVENTS if one is CHUNKED else b"busy" if b"busy" in one else b"" for one in answers)


@given(st.lists(st.sampled_from([POST, GET]), max_size=4), st.lists(st.integers(0)))
def test_requests(requests: list[bytes], cuts: list[int]) -> None:
    data = b"".join(requests)
    pieces = fed(Messages(answers=False), data, cuts)
    assert b"".join(raw for _, raw, _ in pieces) == data
    assert [kind for kind, _, _ in pieces if kind != "body"] == ["head", "end"] * len(requests)


def test_an_answer_to_head_has_no_body() -> None:
    messages = Messages(answers=True)
    messages.methods = ["HEAD", "POST"]
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    assert [piece.kind for piece in messages.feed(head + COUNTED)] == ["head", "end", "head", "body", "end"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"nonsense\r\n\r\n",
        b"x" * 300_000,
    ],
)
def test_what_is_no_http_is_refused(nonsense: bytes) -> None:
    with pytest.raises(HttpError):
        list(Messages(answers=True).feed(nonsense))


def test_a_request_goes_elsewhere_and_is_else_as_it_was() -> None:
    raw = b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:5\r\nX-Api-Key: k\r\naccept-encoding: br\r\n\r\n"
    head = parse_head(readdress(raw, "api.example", "/prefix"))
    assert head.start == ["POST", "/prefix/v1/messages", "HTTP/1.1"]
    assert head.headers == {"host": "api.example", "x-api-key": "k", "accept-encoding": "identity"}


@given(st.lists(st.integers(0)))
def test_events_are_read_wherever_they_are_torn(cuts: list[int]) -> None:
    reader, found, start = ServerEvents(), [], 0
    for end in sorted({cut % len(EVENTS) for cut in cuts} | {len(EVENTS)}):
        found += reader.feed(EVENTS[start:end])
        start = end
    assert found == [{"type": "a"}, {"type": "b", "text": "é"}]


@pytest.mark.parametrize("data", [b"", b"[1]", b"nan", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_object_is_empty(data: bytes) -> None:
    assert decoded(data) == {}
    assert decoded(json.dumps({"a": 1}).encode()) == {"a": 1}
