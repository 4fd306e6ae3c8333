"""A text of which only so much is kept, however it comes. covers: B9"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol import bounded_text as module
from cc_bridge.protocol.bounded_text import BoundedText


@given(st.lists(st.text("ab\n", max_size=5), max_size=20), st.integers(1, 30), st.integers(1, 4))
def test_it_is_its_pieces_up_to_the_limit(pieces: list[str], limit: int, joined: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TEXT_LIMIT", limit)
        patch.setattr(module, "_MOST_PIECES", joined)
        text, whole = BoundedText(), "".join(pieces)
        for piece in pieces:
            text.add(piece)
        assert (text.kept, text.length) == (whole[:limit], len(whole))
        assert text.is_cut is (len(whole) > limit)
        assert text.ends_paragraph is whole.endswith("\n\n")
        assert text.rest_of(whole + "and more") == "and more"


def test_how_much_is_kept() -> None:
    assert (module.TEXT_LIMIT, module._MOST_PIECES) == (16 * 2**20, 4096)


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        (["a\n\n"], True),
        (["a\n", "\n"], True),
        (["\n\n", ""], True),
        (["\n\nab", "\n"], False),
        (["\n", "a"], False),
        ([], False),
    ],
)
def test_a_paragraph_ends_with_a_blank_line_however_it_comes(pieces: list[str], ends: bool) -> None:
    text = BoundedText()
    for piece in pieces:
        text.add(piece)
    assert text.ends_paragraph is ends


@pytest.mark.parametrize(("whole", "rest"), [("abc", ""), ("abcd", "d"), ("ab", None), ("x", None)])
def test_what_a_whole_text_has_beyond_it(whole: str, rest: str | None) -> None:
    text = BoundedText()
    text.add("abc")
    assert text.rest_of(whole) == rest
