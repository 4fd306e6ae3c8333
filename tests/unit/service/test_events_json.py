"""Events as clients get them."""

from __future__ import annotations

import pytest

from cc_bridge.events import TextDelta
from cc_bridge.fleet import FeedPosition, Heard
from cc_bridge.service.events_json import sse_event, together


def said(*texts: str) -> list[Heard]:
    return [Heard(FeedPosition("j", number, 0), "t", TextDelta(text)) for number, text in enumerate(texts)]


def test_what_is_there_already_is_one_piece_in_order() -> None:
    heard = said("a", "b", "c")
    assert list(together(heard)) == [b"".join(map(sse_event, heard))]
    assert list(together([])) == []


@pytest.mark.parametrize("size", [10_000, 40_000, 70_000])
def test_a_piece_is_no_larger_than_a_slow_client_should_wait_for(size: int) -> None:
    heard = said(*["x" * size] * 20)
    pieces = list(together(heard))
    assert b"".join(pieces) == b"".join(map(sse_event, heard))
    assert len(pieces) > 1
    assert max(map(len, pieces)) < 64 * 1024 + size + 200
    assert all(piece.startswith(b"id: ") and piece.endswith(b"\n\n") for piece in pieces), "events are not torn"
