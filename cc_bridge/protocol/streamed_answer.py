"""What Claude Code's messages mean for the turn that they belong to: its events, and its text."""

from __future__ import annotations

from typing import NamedTuple

from .. import events
from ..events import Event
from . import stream_json as sj
from .bounded_text import BoundedText
from .fields import Raw, section, text
from .reports import todo_list

__all__ = ["Content", "StreamedAnswer", "Translation"]

Content = sj.BlockStart | sj.BlockPiece | sj.WholeBlocks | sj.Tools | sj.Retry | sj.Report | sj.Unknown


class Translation(NamedTuple):
    """The events that a message means, and what in it was not understood, by kind."""

    events: list[Event]
    unknown: list[str]


class StreamedAnswer:
    """The answer of one turn, while it comes: in pieces, and then block by block once more.

    Attributes:
        text: all that was said in it.
        synthetic: what Claude Code has said itself, not the model: an answer or an error, which only the result tells.
    """

    def __init__(self) -> None:
        self.text = BoundedText()
        self.synthetic = BoundedText()
        self._block = BoundedText()  # the text block that streams now
        self._thought = False  # the thinking block has streamed

    def receive(self, message: Content) -> Translation:
        """Read a message of this turn."""
        match message:
            case sj.BlockPiece():
                return Translation(self._piece(message.kind, message.text), [])
            case sj.BlockStart():
                return Translation(self._start_block(message.kind), [])
            case sj.WholeBlocks():
                return self._whole_blocks(message)
            case sj.Tools():
                return Translation([_tool_result(result, message.parent) for result in message.results], [])
            case sj.Retry():
                return Translation([_retry(message)], [])
            case sj.Report(event):
                return Translation([event], [])
            case sj.Unknown():
                return Translation([events.UnknownMessage(message.message)], [])

    def say(self, text: str) -> list[Event]:
        """Add to the text."""
        if not text:
            return []
        self.text.add(text)
        return [events.TextDelta(text)]

    @property
    def gap(self) -> str:
        """What parts the text from the next message's: a blank line, unless it ends with one."""
        return "\n\n" if self.text.length and not self.text.ends_paragraph else ""

    def _start_block(self, kind: str) -> list[Event]:
        self._block = BoundedText()
        self._thought = False
        return self.say(self.gap) if kind == "text" else []

    def _piece(self, kind: str, text: str) -> list[Event]:
        if kind == "text":
            self._block.add(text)
            return self.say(text)
        self._thought = True
        return [events.ThinkingDelta(text)]

    def _whole_blocks(self, message: sj.WholeBlocks) -> Translation:
        happened, unknown = Translation([], [])
        for block in message.blocks:
            kind = block.get("type")
            if kind == "text" and isinstance(text := block.get("text"), str):
                told = self._text_of(text, message)
                happened += told.events
                unknown += told.unknown
            elif kind == "thinking":
                has_streamed = self._thought and not message.parent
                if not has_streamed and isinstance(text := block.get("thinking"), str) and text:
                    happened.append(events.ThinkingDelta(text, message.parent))
            elif kind == "tool_use":
                happened += _tool_use(block, message.parent)
            else:
                unknown.append(f"block {str(kind)[:60]}")
                happened.append(events.UnknownMessage(block))
        return Translation(happened, unknown)

    def _text_of(self, text: str, message: sj.WholeBlocks) -> Translation:
        """A text block as a whole: say what its pieces have not said. A subagent's is no part of the answer."""
        if message.parent:
            return Translation([events.SubagentText(text, message.parent, message.subagent_type)], [])
        if message.synthetic:
            if self.synthetic.length:
                self.synthetic.add("\n\n")
            self.synthetic.add(text)
            return Translation([], [])
        streamed, self._block = self._block, BoundedText()
        rest = streamed.rest_of(text)
        parted = [] if streamed.length else self.say(self.gap)
        if rest is None:
            return Translation(parted, ["text unlike its pieces"])
        return Translation(parted + self.say(rest), [])


def _tool_use(block: Raw, parent: str) -> list[Event]:
    tool_use_id, name, arguments = text(block, "id"), text(block, "name"), section(block, "input")
    used = events.ToolUse(tool_use_id, name, arguments, parent)
    todos = todo_list(arguments, tool_use_id, parent) if name == "TodoWrite" else None
    return [used] if todos is None else [used, todos]


def _tool_result(result: Raw, parent: str) -> events.ToolResult:
    return events.ToolResult(text(result, "tool_use_id"), result.get("content"), bool(result.get("is_error")), parent)


def _retry(message: sj.Retry) -> events.ApiRetry:
    return events.ApiRetry(message.attempt, message.max_retries, message.delay, message.status, message.error)
