"""What Claude Code's transcript file says about a turn: the third witness, after ``result`` and the process.

A transcript is JSON lines; a user's message has the uuid that was given to it, and the model's last message
of a turn has the ``stop_reason`` ``end_turn`` (measured on 2.1.329). Sans-I/O: lines in, a reading out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Reading", "read_turn"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A turn as its transcript has it.

    Attributes:
        found: the user's message is there.
        ended: the model has ended its turn.
        texts: of each message of the model's, in order.
        last: the uuid of the newest entry, to notice growth.
    """

    found: bool
    ended: bool
    texts: tuple[str, ...]
    last: str


def read_turn(lines: Iterable[str], turn_id: str) -> Reading:
    """What the lines say about a turn. Lines that cannot be read are passed over: the last may be torn."""
    found = ended = False
    texts: list[str] = []
    last = ""
    for entry in _entries(lines):
        last = str(entry.get("uuid") or last)
        if entry.get("type") == "user":
            if entry.get("uuid") == turn_id:
                found, ended, texts = True, False, []
            elif found and _is_prompt(entry):
                break  # the next turn
        elif found and entry.get("type") == "assistant" and not entry.get("isSidechain"):
            message = entry.get("message")
            if isinstance(message, dict):
                text = _text(message)
                texts += [text] if text else []
                ended = message.get("stop_reason") == "end_turn"
    return Reading(found, ended, tuple(texts), last)


def _entries(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry


def _is_prompt(entry: dict[str, Any]) -> bool:
    message = entry.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, str) and not entry.get("isMeta")


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if not isinstance(content, list):
        return ""
    blocks = (block for block in content if isinstance(block, dict) and block.get("type") == "text")
    return "".join(text for block in blocks if isinstance(text := block.get("text"), str))
