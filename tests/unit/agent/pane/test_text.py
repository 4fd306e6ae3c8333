"""What counts as the same text, and what is left of a terminal's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cc_bridge_agent.pane.text import between, essence, last_lines, plain, texts_of


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
