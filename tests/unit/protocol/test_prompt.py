"""Which prompts are refused, and that the refusal says where."""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge import InvalidInput
from cc_bridge.protocol.prompt import MAX_PROMPT, check_prompt


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
