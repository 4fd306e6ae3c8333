"""What is sent to a pane is typed there: text, and none that a terminal would take for keys. covers: C17, B9"""

from __future__ import annotations

import pytest

from cc_bridge import Document, Image, InvalidInput, Text
from cc_bridge.instances.typed import typed


def test_text_is_typed_as_it_is() -> None:
    assert typed("one\n\ttwo") == "one\n\ttwo"
    assert typed([Text("one"), Text("two")]) == "one\n\ntwo"


def test_what_a_person_could_not_type_is_refused() -> None:
    for block in (Image(b"\x89PNG\r\n\x1a\n"), Document(b"text")):
        with pytest.raises(InvalidInput, match=f"text only, and no {type(block).__name__}.*workspace"):
            typed([Text("look"), block])


@pytest.mark.parametrize("key", ["\x03", "\x1b", "\r", "\x7f"])
def test_what_would_be_a_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match=r"control character .* at position 2"):
        typed(f"ab{key}")


def test_no_prompt_at_all() -> None:
    for nothing in ("", [], [Text(" ")]):
        with pytest.raises(InvalidInput):
            typed(nothing)
