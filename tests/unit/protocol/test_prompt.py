"""Which prompts are refused, and that the refusal says where."""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge import Document, Image, InvalidInput, Text
from cc_bridge.protocol import prompt as module
from cc_bridge.protocol.prompt import MAX_BLOCKS, MAX_PROMPT, check_prompt, content_of, text_of


def test_the_longest_prompt_in_bytes() -> None:
    assert MAX_PROMPT == 8 * 2**20
    check_prompt("é" * (MAX_PROMPT // 2))
    with pytest.raises(InvalidInput, match=f"{MAX_PROMPT + 2} bytes; the limit is {MAX_PROMPT}"):
        check_prompt("é" * (MAX_PROMPT // 2 + 1))


@pytest.mark.parametrize(
    ("text", "what"),
    [(7, "not int"), (" \n", "is empty"), ("\0", "position 0"), ("ab\0", "position 2"), ("a\udc00", "position 1")],
)
def test_a_prompt_that_cannot_arrive_says_where(text: Any, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        check_prompt(text)


IMAGE = Image(b"\x89PNG\r\n\x1a\n")


def test_a_prompt_of_content_blocks() -> None:
    blocks = [Text("look"), IMAGE, Document(b"text"), Text("well")]
    for prompt in (blocks, tuple(blocks), [IMAGE]):
        check_prompt(prompt)
    assert text_of(blocks) == "look\n\nwell"
    assert content_of(blocks) == [block.as_message() for block in blocks]
    assert (text_of("look"), content_of("look"), text_of([IMAGE])) == ("look", "look", "")


@pytest.mark.parametrize(
    ("blocks", "what"),
    [
        ([], "is empty"),
        ([Text("a"), "b"], "block 1 of the prompt is str"),
        ([{"type": "text"}], "block 0 of the prompt is dict"),
        ([IMAGE, Text(" \n")], "block 1 of the prompt has no text"),
        ([Text(7)], "block 0 of the prompt has no text"),  # type: ignore[arg-type]
        ([Text("a"), Text("b\0")], "NUL character at position 4"),
        ([Text("a\udc00")], "position 1"),
        ([Text("a")] * (MAX_BLOCKS + 1), f"{MAX_BLOCKS + 1} content blocks; the limit is {MAX_BLOCKS}"),
        ({"a": 1}, "not dict"),
        (b"bytes", "not bytes"),
        ([Text("x" * MAX_PROMPT)] * 2, "the limit is"),
    ],
)
def test_content_blocks_that_cannot_arrive(blocks: Any, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        check_prompt(blocks)


def test_the_files_of_a_prompt_have_a_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.MAX_FILES == 18 * 2**20
    monkeypatch.setattr(module, "MAX_FILES", 10)
    check_prompt([IMAGE, Document(b"ab")])
    with pytest.raises(InvalidInput, match="11 bytes; the limit is 10"):
        check_prompt([IMAGE, Document(b"abc")])
