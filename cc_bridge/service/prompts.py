"""Prompts as clients write them: text, or content blocks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidInput
from ..protocol.blocks import Block, Document, Image, Prompt, Text
from ..protocol.prompt import MAX_BLOCKS, check_prompt

__all__ = ["prompt_digest", "prompt_of"]


def prompt_of(given: str | Sequence[Mapping[str, Any]]) -> Prompt:
    """What an instance takes.

    Args:
        given: text, or blocks: ``{"type": "text", "text"}`` or ``{"type": "image" | "document", "data", "title"}``,
            with the data in base64.

    Raises:
        InvalidInput: it cannot be a prompt.
    """
    if isinstance(given, str):
        prompt: Prompt = given
    elif len(given) > MAX_BLOCKS:
        raise InvalidInput(f"the prompt has more than {MAX_BLOCKS} blocks")
    else:
        prompt = [_block(item) for item in given]
    check_prompt(prompt)
    return prompt


def prompt_digest(given: str | Sequence[Mapping[str, Any]]) -> str:
    """The same for the same prompt, and for no other."""
    return hashlib.sha256(json.dumps(given, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _block(item: Mapping[str, Any]) -> Block:
    match item:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "image", "data": str(data)}:
            return Image.of_base64(data)
        case {"type": "document", "data": str(data)}:
            return Document(_decoded(data), str(item.get("title") or ""))
    raise InvalidInput("a block is of the type text, image or document, with its text or its data in base64")


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"the document is no base64: {error}") from None
