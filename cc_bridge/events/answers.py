"""What Claude Code answers when it is asked: its slash commands, and what its context is full of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..values import Value

__all__ = ["ContextCategory", "ContextUsage", "SlashCommand"]

#: Read only, as its type says.
_NOTHING: Mapping[str, Any] = {}


class SlashCommand(Value):
    """A command that a prompt may begin with.

    Attributes:
        name: without the slash.
        argument_hint: such as ``<file>``.
        aliases: other names.
        builtin: Claude Code's own, and no user's, project's, plugin's or MCP server's.
    """

    name: str
    description: str = ""
    argument_hint: str = ""
    aliases: tuple[str, ...] = ()
    builtin: bool = False


class ContextCategory(Value):
    """A part of the context.

    Attributes:
        name: for people: "System prompt".
        kind: ``used``; ``free``; ``buffer`` (kept for a compaction); ``deferred`` (listed, and not in the context).
        id: such as ``system_prompt``; empty: the release has none.
    """

    name: str
    tokens: int
    kind: str = ""
    id: str = ""


class ContextUsage(Value):
    """What the model's context is full of.

    Attributes:
        total_tokens: in use.
        max_tokens: that it may hold.
        percentage: of the one in the other, rounded.
        auto_compact_at: tokens at which the conversation is compacted; None: it is not, or it was not said.
        details: all that was said, by MCP server, tool, skill and memory file.
    """

    model: str
    total_tokens: int
    max_tokens: int
    percentage: float
    categories: tuple[ContextCategory, ...] = ()
    auto_compact_at: int | None = None
    details: Mapping[str, Any] = _NOTHING
