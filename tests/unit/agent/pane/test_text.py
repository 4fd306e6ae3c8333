"""What counts as the same text, and what is left of a terminal's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge_agent.pane.text import between, essence, last_lines, plain, texts_of, to_enter


@given(st.text(alphabet="ab \n\t\u200d\ufe0f\u00e9"))
def test_blanks_and_what_nobody_sees_do_not_count(text: str) -> None:
    assert essence(text + " \n\u200b") == essence(text)
    assert essence("".join(text.split())) == essence(text)


def test_different_words_do_count() -> None:
    assert essence("one two") != essence("one too")
    assert essence("🙂") != essence("")
    assert essence('a\n\n<pasted_content id="2c1d">\nb\n</pasted_content>\n\nc') == essence("a b c")


def test_colours_go() -> None:
    assert plain("\x1b[1mbold\x1b[22m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x00end\n") == "bold link end\n"


def test_the_end_of_a_screen() -> None:
    assert last_lines("────\n a  \n\n\x1b[31mb\n", 1) == "b"


def test_tags_and_blocks() -> None:
    assert between("<a>x\ny</a> <a>z</a>", "a") == "x\ny"
    assert between("<a>x", "a") == ""
    assert texts_of([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": 3}, "b"]) == ["a"]
    assert texts_of("a") == ["a"]
    assert texts_of(None) == []


@pytest.mark.parametrize("lead", [498, 499, 500, 501])
@pytest.mark.parametrize("tail", [498, 499, 500, 501])
@pytest.mark.parametrize("first", ["a", "/ "])
def test_a_long_text_is_not_cut_in_the_middle_of_a_character(lead: int, tail: int, first: str) -> None:
    """Claude Code cuts it 500 UTF-16 units from either end (2.1.329)."""
    text = first + "a" * (lead - len(first)) + "\U0001f642" * 6000 + "b" * tail
    entered = to_enter(text)
    assert entered.strip() == text
    units = entered.encode("utf-16-le")
    for at in (1000, len(units) - 1000):
        units[:at].decode("utf-16-le")  # half a pair is an error
