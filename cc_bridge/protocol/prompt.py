"""Which prompts can arrive as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput

if TYPE_CHECKING:
    from .blocks import Prompt

__all__ = ["MAX_BLOCKS", "MAX_FILES", "MAX_PROMPT", "check_prompt", "content_of", "text_of"]

#: Longest prompt in bytes of UTF-8. The Messages API refuses requests of more than 32 MB, and the
#: largest context windows hold some 5 MB of text.
MAX_PROMPT = 8 * 1024 * 1024

#: Most content blocks of a prompt, and bytes of all their files: some 24 MiB as they are sent.
MAX_BLOCKS = 100
MAX_FILES = 18 * 1024 * 1024


def check_prompt(prompt: Prompt) -> None:
    """Refuse a prompt that cannot arrive as it is.

    Raises:
        InvalidInput: says what is wrong, and where. Nothing was sent.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InvalidInput("the prompt is empty")
    else:
        _check_blocks(prompt)
    _check_text(text_of(prompt))


def text_of(prompt: Prompt) -> str:
    """A prompt's text, without what is attached."""
    if isinstance(prompt, str):
        return prompt
    from .blocks import Text

    return "\n\n".join(block.text for block in prompt if isinstance(block, Text))


def content_of(prompt: Prompt) -> str | list[dict[str, Any]]:
    """A prompt as the Messages API has it."""
    return prompt if isinstance(prompt, str) else [block.as_message() for block in prompt]


def _check_blocks(blocks: Any) -> None:
    from .blocks import Document, Image, Text

    if not isinstance(blocks, list | tuple):
        raise InvalidInput(f"a prompt must be text, or a list of content blocks, not {type(blocks).__name__}")
    if not 0 < len(blocks) <= MAX_BLOCKS:
        what = f"the prompt has {len(blocks)} content blocks; the limit is {MAX_BLOCKS}"
        raise InvalidInput(what if blocks else "the prompt is empty")
    for number, block in enumerate(blocks):
        if not isinstance(block, Text | Image | Document):
            raise InvalidInput(f"block {number} of the prompt is {type(block).__name__}, not Text, Image or Document")
        if isinstance(block, Text) and not (isinstance(block.text, str) and block.text.strip()):
            raise InvalidInput(f"block {number} of the prompt has no text")
    size = sum(len(block.data) for block in blocks if not isinstance(block, Text))
    if size > MAX_FILES:
        raise InvalidInput(
            f"the prompt's files have {size} bytes; the limit is {MAX_FILES}",
            hint="Put them into the workspace and name them there.",
        )


def _check_text(text: str) -> None:
    if (position := text.find("\0")) != -1:
        raise InvalidInput(f"the prompt has a NUL character at position {position}")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        what = f"the prompt has half a surrogate pair ({text[error.start]!a}) at position {error.start}"
        raise InvalidInput(what, hint="Decode the text with its real encoding first.") from None
    if size > MAX_PROMPT:
        raise InvalidInput(
            f"the prompt has {size} bytes; the limit is {MAX_PROMPT}",
            hint="Put the material into a file in the workspace and refer to it.",
        )
