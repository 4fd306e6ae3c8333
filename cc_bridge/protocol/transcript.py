"""What Claude Code's transcript file says about a turn: the third witness, after ``result`` and the process.

A transcript is JSON lines; a user's message has the uuid that was given to it, and the model's last message
of a turn has the ``stop_reason`` ``end_turn`` (measured on 2.1.329). Sans-I/O: lines in, a reading out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ..values import Value

__all__ = ["Reading", "Said", "has_ended", "read_history", "read_turn"]


#: What Claude Code writes as if the user had said it, in the middle of a turn or at its end.
_INTERRUPTED = "[Request interrupted by user"

#: With what the output of a slash command begins, and why the model has stopped where it goes on.
_OUTPUT = "<local-command-"
_GOES_ON = (None, "tool_use", "pause_turn")


class Reading(Value):
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


def has_ended(lines: Iterable[str]) -> bool:
    """Whether a turn has ended, by the lines behind its prompt.

    The model has ended it, or the output of a slash command follows. Calls of tools, what they have returned and a
    summary are in its middle; another prompt comes after its end.
    """
    ended = False
    for entry in _entries(lines):
        if entry.get("isSidechain"):
            continue
        message, kind = entry.get("message"), entry.get("type")
        if kind == "assistant":
            ended = isinstance(message, dict) and message.get("stop_reason") not in _GOES_ON
        elif kind in ("user", "system") and _is_output(entry):
            ended = True
        elif kind == "user" and not entry.get("isCompactSummary") and _is_prompt(entry):
            return True  # the next turn
    return ended


class Said(Value):
    """One thing of a conversation.

    Attributes:
        kind: ``prompt``, ``answer``, ``tool`` (the model uses one) or ``result`` (what it returned).
        text: of a prompt or an answer; of a tool, its name; of a result, what of it is text.
        turn: a prompt's own id, by which the turn is found; else empty.
        time: as the transcript has it (ISO 8601), or empty.
        input: a tool's.
        is_error: a result's: the tool has failed, or was not allowed.
    """

    kind: Literal["prompt", "answer", "tool", "result"]
    text: str
    turn: str = ""
    time: str = ""
    input: Any = None
    is_error: bool = False


def read_history(entries: Iterable[Mapping[str, Any]]) -> Iterator[Said]:
    """What was said, in order. Left out: what a tool's own model has said, and what Claude Code told its model.

    Args:
        entries: the lines of a transcript, decoded.
    """
    for entry in entries:
        if entry.get("isSidechain") or entry.get("isMeta"):
            continue
        message, time = entry.get("message"), entry.get("timestamp")
        if not isinstance(message, dict) or entry.get("type") not in ("user", "assistant"):
            continue
        when, turn = time if isinstance(time, str) else "", str(entry.get("uuid") or "")
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and (
                said := _said(block, is_user=entry["type"] == "user", turn=turn, time=when)
            ):
                yield said


def _said(block: dict[str, Any], *, is_user: bool, turn: str, time: str) -> Said | None:
    match block:
        case {"type": "text", "text": str(text)} if text and is_user:
            return Said("prompt", text, turn, time)
        case {"type": "text", "text": str(text)} if text:
            return Said("answer", text, time=time)
        case {"type": "image" | "document" as kind} if is_user:
            title = block.get("title")
            return Said("prompt", f"[{kind} {title}]" if isinstance(title, str) and title else f"[{kind}]", turn, time)
        case {"type": "tool_use", "name": str(name)}:
            return Said("tool", name, time=time, input=block.get("input"))
        case {"type": "tool_result"}:
            return Said("result", _result_text(block.get("content")), time=time, is_error=bool(block.get("is_error")))
    return None


def _result_text(content: Any) -> str:
    return content if isinstance(content, str) else _text({"content": content})


def _entries(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry


def _is_output(entry: dict[str, Any]) -> bool:
    message = entry.get("message")
    content = message.get("content") if isinstance(message, dict) else entry.get("content")
    return isinstance(content, str) and content.startswith(_OUTPUT)


def _is_prompt(entry: dict[str, Any]) -> bool:
    message = entry.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if entry.get("isMeta") or not isinstance(content, str | list):
        return False
    if isinstance(content, str):
        return True
    blocks = [block for block in content if isinstance(block, dict)]
    if any(block.get("type") == "tool_result" for block in blocks):
        return False
    return bool(blocks) and not str(blocks[0].get("text")).startswith(_INTERRUPTED)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if not isinstance(content, list):
        return ""
    blocks = (block for block in content if isinstance(block, dict) and block.get("type") == "text")
    return "".join(text for block in blocks if isinstance(text := block.get("text"), str))
