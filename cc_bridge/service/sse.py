"""How server-sent events are written (HTML Living Standard, 9.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["json_bytes", "sse"]


#: One for all: `json.dumps` makes another each time that it is called with options.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)


def json_bytes(data: Any) -> bytes:
    """JSON on one line, in UTF-8; halves of surrogate pairs, which a model can write, become question marks."""
    return _ENCODER.encode(data).encode("utf-8", "replace")


def sse(kind: str, data: Mapping[str, Any], id: str = "") -> bytes:  # noqa: A002  the word that the standard has
    """An event.

    Args:
        kind: what it is called; a word.
        id: what the client says to go on after it; a word.
    """
    head = f"id: {id}\nevent: {kind}\n" if id else f"event: {kind}\n"
    return head.encode() + b"data: " + json_bytes(data) + b"\n\n"
