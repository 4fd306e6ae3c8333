"""What a page shows of a conversation, made of an instance's events or of its history. Sans-I/O.

A turn is a list of *parts*: texts (in blocks of HTML), thinking, tools with their results. Parts and blocks are
numbered, and each message says where what it brings belongs. So a page that reads a turn again from its first event
puts everything where it is already: it shows each word once, whatever was sent twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any

from .markup import Growing, markup

__all__ = ["Live", "past_turns"]

#: Characters that are shown of a tool's result, and of each text in its input.
_RESULT = 40_000
_INPUT = 40_000

#: How deep a tool's input is looked into.
_DEPTH = 6

#: Events that are passed on as they are; what a page does not know it leaves out.
_NAMES = """
turn_started turn_result waiting person_turn api_retry silence task_started task_progress task_notification
tool_progress compact_boundary status_changed rate_limit notification informational model_refusal conversation_reset
"""
_PASSED = frozenset(_NAMES.split())

#: What a turn is made of.
_CONTENT = frozenset(["text_delta", "thinking_delta", "tool_use", "tool_result"])


@dataclass(slots=True)
class _Turn:
    parts: int = 0
    text: Growing | None = None
    text_part: int = 0
    changed: bool = False
    thinking: dict[str, tuple[int, int]] = field(default_factory=dict)  # by parent: part, characters so far
    tools: dict[str, int] = field(default_factory=dict)


class Live:
    """Turns as they go on. Give it each event with :meth:`hear`; call :meth:`draw` when the page may be drawn anew.

    Of a turn whose beginning it has not heard it says once that it was ``missed``, and nothing more: half a text would
    pass for the whole. Who reads on from the turn's beginning gets it.
    """

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._missed: str | None = None

    @property
    def is_between(self) -> bool:
        """No turn is going on: who reads on from here misses nothing."""
        return not self._turns

    def hear(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Messages to the page, in order; of a text that grows, :meth:`draw` has the newest."""
        kind, turn = str(event.get("type", "")), str(event.get("turn", ""))
        if kind in _CONTENT and turn not in self._turns:
            if turn != self._missed:
                self._missed = turn
                yield {"type": "missed", "turn": turn}
            return
        match kind:
            case "text_delta":
                self._add_text(turn, str(event.get("text", "")))
            case "thinking_delta":
                yield from self._think(turn, str(event.get("text", "")), str(event.get("parent", "")))
            case "tool_use":
                yield from self._use(turn, event)
            case "tool_result":
                yield from self._result(turn, event)
            case "turn_result":
                yield from self._end_text(turn)
                self._turns.pop(turn, None)
                # Its text was drawn; its cost is the session's so far, and the turn's own comes with the turn.
                yield {name: value for name, value in event.items() if name not in ("text", "cost_usd")}
            case _ if kind in _PASSED:
                if kind == "turn_started":
                    self._of(turn)
                yield dict(event)

    def draw(self) -> Iterator[dict[str, Any]]:
        """Texts that have grown since the last call: blocks that are settled, and the one that still grows."""
        for turn, kept in list(self._turns.items()):
            if kept.text is None or not kept.changed:
                continue
            kept.changed = False
            for block in kept.text.settled():
                yield _block(turn, kept.text_part, block.as_dict())
            if (last := kept.text.open_block()) is not None:
                yield _block(turn, kept.text_part, {**last.as_dict(), "open": True})

    # Private

    def _of(self, turn: str) -> _Turn:
        return self._turns.setdefault(turn, _Turn())

    def _next_part(self, kept: _Turn) -> int:
        kept.parts += 1
        return kept.parts - 1

    def _add_text(self, turn: str, text: str) -> None:
        kept = self._of(turn)
        if kept.text is None:
            text = text.lstrip("\n")
            if not text:
                return
            kept.text, kept.text_part = Growing(), self._next_part(kept)
        kept.thinking.pop("", None)
        kept.text.add(text)
        kept.changed = True

    def _end_text(self, turn: str) -> Iterator[dict[str, Any]]:
        kept = self._of(turn)
        if kept.text is not None:
            for block in kept.text.end():
                yield _block(turn, kept.text_part, block.as_dict())
        kept.text = None
        kept.changed = False

    def _think(self, turn: str, text: str, parent: str) -> Iterator[dict[str, Any]]:
        if not parent:
            yield from self._end_text(turn)
        kept = self._of(turn)
        part, length = kept.thinking.get(parent) or (self._next_part(kept), 0)
        kept.thinking[parent] = (part, length + len(text))
        yield {"type": "thinking", "turn": turn, "part": part, "from": length, "text": text, "parent": parent}

    def _use(self, turn: str, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        parent = str(event.get("parent", ""))
        if not parent:
            yield from self._end_text(turn)
        kept = self._of(turn)
        kept.thinking.pop(parent, None)
        part = kept.tools[str(event.get("tool_use_id", ""))] = self._next_part(kept)
        yield {
            "type": "tool",
            "turn": turn,
            "part": part,
            "id": str(event.get("tool_use_id", "")),
            "name": str(event.get("name", "")),
            "input": _shortened(event.get("input")),
            "parent": parent,
        }

    def _result(self, turn: str, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        part = self._of(turn).tools.get(str(event.get("tool_use_id", "")))
        if part is not None:
            result = _result_of(event.get("content"), is_error=bool(event.get("is_error")))
            yield {"type": "tool_result", "turn": turn, "part": part, **result}


def past_turns(said: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns of a history, oldest first, each with its prompt and its parts as a page shows them.

    Args:
        said: prompts, answers, tools and results, as ``cc-bridge history --json`` has them.
    """
    turns: list[dict[str, Any]] = []
    for one in said:
        kind, text = one.get("kind"), str(one.get("text") or "")
        if kind == "prompt" or not turns:
            prompt = text if kind == "prompt" else None
            turns.append({"turn": one.get("turn") or "", "prompt": prompt, "time": one.get("time") or "", "parts": []})
        parts = turns[-1]["parts"]
        match kind:
            case "answer":
                parts.append({"kind": "text", "blocks": _whole(text)})
            case "tool":
                parts.append({"kind": "tool", "name": text, "input": _shortened(one.get("input")), "result": None})
            case "result":
                unanswered = [part for part in parts if part["kind"] == "tool" and part["result"] is None]
                if unanswered:
                    unanswered[0]["result"] = _result_of(text, is_error=bool(one.get("is_error")))
    return turns


def _block(turn: str, part: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "block", "turn": turn, "part": part, **block}


@lru_cache(maxsize=400)
def _blocks_of(text: str) -> tuple[dict[str, Any], ...]:
    return tuple(block.as_dict() for block in markup(text))


def _whole(text: str) -> list[dict[str, Any]]:
    """What was rendered a moment ago for another tab is there still; a text of megabytes would fill the cache."""
    return list(_blocks_of(text)) if len(text) < 100_000 else [block.as_dict() for block in markup(text)]


def _result_of(content: Any, *, is_error: bool) -> dict[str, Any]:
    text = _text_of(content)
    return {"text": text[:_RESULT], "left_out": max(len(text) - _RESULT, 0), "is_error": is_error}


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return str(content["text"]) if "text" in content else f"[{content.get('type', 'something')}]"
    if isinstance(content, Iterable):
        return "\n".join(_text_of(item) for item in content)
    return "" if content is None else str(content)


def _shortened(value: Any, depth: int = _DEPTH) -> Any:
    """A tool's input for people to look at; a permission card shows it whole."""
    if isinstance(value, str):
        return value if len(value) <= _INPUT else f"{value[:_INPUT]}\n… {len(value) - _INPUT} characters more"
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(name)[:200]: _shortened(item, depth - 1) for name, item in list(value.items())[:200]}
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # JSON has no such numbers, and a browser reads no line with one
    if isinstance(value, list | tuple):
        return [_shortened(item, depth - 1) for item in value[:1000]]
    return value
