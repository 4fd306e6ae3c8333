"""Parts of a conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol.transcript import Said
from cc_bridge.service.history import Page

NONE: frozenset[str] = frozenset()


def filled(page: Page, said: list[Said]) -> Page:
    for item in said:
        if page.take(item):
            break
    return page


def conversation(turns: int) -> list[Said]:
    return [
        item
        for number in range(turns)
        for item in (
            Said("prompt", f"p{number}", f"t{number}"),
            Said("tool", "Bash", input={"n": number}),
            Said("answer", "a"),
        )
    ]


@given(turns=st.integers(0, 12), limit=st.integers(1, 7), longest=st.integers(1, 60))
def test_parts_are_the_whole(turns: int, limit: int, longest: int) -> None:
    said, found, before = conversation(turns), list[int](), None
    while True:
        page = filled(Page(before, limit, NONE, longest), said)
        assert len(page.messages) <= limit
        found = [item["index"] for item in page.messages] + found
        if (before := page.before) is None:
            break
    assert found == list(range(len(said)))


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_what_follows_the_prompt_of_a_turn_that_goes_on_is_left_out(turn: int) -> None:
    page = filled(Page(None, 100, frozenset([f"t{turn}"])), conversation(3))
    assert [item["index"] for item in page.messages] == list(range(3 * turn))


def test_a_message_larger_than_a_part_comes_alone() -> None:
    said = [Said("answer", "x"), Said("result", "y" * 1000), Said("answer", "z")]
    page = filled(Page(2, 100, NONE, 100), said)
    assert [item["index"] for item in page.messages] == [1]
    assert page.before == 1
