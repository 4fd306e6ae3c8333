"""What the service answers. docs/reference/http-api.md explains each field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypedDict

__all__ = [
    "AnswerName",
    "Change",
    "Entry",
    "Event",
    "History",
    "Instance",
    "Message",
    "Permission",
    "Prompt",
    "Turn",
    "Usage",
]

#: Text, or content blocks: ``{"type": "text", "text"}``, ``{"type": "image" | "document", "data": BASE64, "title"?}``.
Prompt = str | list[dict[str, str]]

AnswerName = Literal["allow", "session", "always", "deny"]


class Instance(TypedDict):
    """An instance, and what it does at the moment."""

    name: str
    title: str
    kind: Literal["docker", "local", "tmux", "swarm"]
    project: str
    labels: dict[str, str]
    created: str
    state: Literal["busy", "permission", "idle", "asleep"]
    turn: str | None
    waiting: int
    permissions: list[str]


class Turn(TypedDict):
    """A command, and what became of it. ``result`` is there when ``state`` is ``ended``."""

    id: str
    instance: str
    number: int
    state: Literal["stored", "sent", "running", "ended"]
    position: int | None
    prompt: Any
    created: str
    result: dict[str, Any] | None


class Permission(TypedDict):
    """A permission request that waits for somebody."""

    id: str
    instance: str
    turn: str
    tool: str
    input: dict[str, Any] | None
    suggested_rules: list[str]
    since: str
    undecided: str
    attended: bool


class Message(TypedDict):
    """One thing of a conversation."""

    index: int
    kind: Literal["prompt", "answer", "tool", "result"]
    text: str
    turn: str
    time: str
    input: Any
    is_error: bool


class History(TypedDict):
    """A part of a conversation, oldest first."""

    messages: list[Message]
    before: int | None
    running: str | None


class Entry(TypedDict):
    """What is in a directory of a workspace."""

    name: str
    path: str
    kind: Literal["file", "directory", "link", "other"]
    size: int | None
    modified: str | None


class Usage(TypedDict):
    """Tokens, and US dollars as Claude Code estimates them."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    tokens: int
    cost_usd: float
    turns: int


class Event(NamedTuple):
    """What an instance says.

    Attributes:
        type: such as ``text_delta``, ``tool_use``; ``turn_result`` is the last one of a turn.
        turn: the id of the turn that it belongs to; may be empty.
        at: its place; whoever gives it as ``after`` hears what follows. Empty: it has none.
        data: all of its fields.
    """

    type: str
    turn: str
    at: str
    data: Mapping[str, Any]


class Change(NamedTuple):
    """An instance does something else now.

    Attributes:
        name: its name.
        instance: it as it is now; None: it was removed.
    """

    name: str
    instance: Instance | None
