"""Which prompts can arrive as they are."""

from __future__ import annotations

from ..errors import InvalidInput

__all__ = ["MAX_PROMPT", "check_prompt"]

#: Longest prompt in bytes of UTF-8. The Messages API refuses requests of more than 32 MB, and the
#: largest context windows hold some 5 MB of text.
MAX_PROMPT = 8 * 1024 * 1024


def check_prompt(text: str) -> None:
    """Refuse a prompt that cannot arrive as it is.

    Raises:
        InvalidInput: says what is wrong, and where. Nothing was sent.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"a prompt must be text, not {type(text).__name__}")
    if not text.strip():
        raise InvalidInput("the prompt is empty")
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
