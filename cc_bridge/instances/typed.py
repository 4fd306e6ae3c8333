"""Prompts for a pane, where what is sent is typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..protocol.prompt import check_prompt, text_of

if TYPE_CHECKING:
    from ..protocol.blocks import Block, Prompt

__all__ = ["typed"]


def typed(prompt: Prompt) -> str:
    """The prompt as the text that is typed.

    Raises:
        InvalidInput: it is no prompt, more than text, or a terminal would take part of it for keys. Nothing was sent.
    """
    check_prompt(prompt)
    if not isinstance(prompt, str):
        _check_blocks(prompt)
    text = text_of(prompt)
    for position, character in enumerate(text):
        if (character < " " and character not in "\n\t") or character == "\x7f":
            what = f"the prompt has the control character {character!a} at position {position}"
            raise InvalidInput(what, hint="In a pane it would be a key. Leave it out, or write it as text.")
    return text


def _check_blocks(blocks: Sequence[Block]) -> None:
    from ..protocol.blocks import Text

    if other := next((block for block in blocks if not isinstance(block, Text)), None):
        what = f"a pane takes text only, and no {type(other).__name__}"
        raise InvalidInput(what, hint="Put the file into the workspace, and name it in the prompt, as @path.")
