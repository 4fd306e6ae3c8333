"""Events of a turn itself: how it begins, what is said and asked in it, and how it ends."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from ..values import Value

__all__ = [
    "ApiRetry",
    "PermissionRequest",
    "PersonTurn",
    "Silence",
    "TextDelta",
    "ThinkingDelta",
    "ToolResult",
    "ToolUse",
    "TurnResult",
    "TurnStarted",
    "UnknownMessage",
    "Verdict",
    "Waiting",
]

#: Read only, as its type says.
_NOTHING: Mapping[str, Any] = {}


class TurnStarted(Value):
    """Claude Code has begun to work on the command. Notices, such as of hooks, may come before."""

    session_id: str
    model: str


class TextDelta(Value):
    """A piece of the answer. The pieces of a turn, joined, are its text.

    The texts of separate messages of one turn (before and after a tool) are parted by a blank line,
    which arrives as a piece of its own.
    """

    text: str


class ThinkingDelta(Value):
    """A piece of the model's thinking, where it is shown; of a subagent's, a block as a whole.

    Attributes:
        parent: id of the Task call whose subagent thinks; empty: the main conversation.
    """

    text: str
    parent: str = ""


class ToolUse(Value):
    """Claude Code is about to use a tool; ``input`` is complete.

    Attributes:
        parent: id of the Task call whose subagent uses it; empty: the main conversation does.
    """

    tool_use_id: str
    name: str
    input: Mapping[str, Any]
    parent: str = ""


class ToolResult(Value):
    """What a tool returned: text, or content blocks as Claude Code wrote them. ``parent``: as its call's."""

    tool_use_id: str
    content: Any
    is_error: bool
    parent: str = ""


class PermissionRequest(Value):
    """Claude Code asks whether it may use a tool. Unanswered, it is denied (see ``on_permission``).

    Attributes:
        suggestions: rules that make the permission last, for ``Allow.updates``.
        tool_use_id: of the :class:`ToolUse`; in a pane it may be empty.
        agent_id: the task of the subagent that wants the tool (``TaskStarted.task_id``); empty: the main conversation.
        reason: why Claude Code asks, where it says so.
    """

    request_id: str
    tool_name: str
    input: Mapping[str, Any]
    suggestions: tuple[Any, ...] = ()
    tool_use_id: str = ""
    agent_id: str = ""
    reason: str = ""


class Waiting(Value):
    """The command waits for others, of whichever program, and will run without it even if this program ends.

    Attributes:
        position: how many come before it, the one that runs included.
    """

    position: int


class PersonTurn(Value):
    """In a pane: a person at the terminal has the floor, with this prompt; the command waits until they are done."""

    prompt: str


class ApiRetry(Value):
    """The API failed and Claude Code tries again after ``delay`` seconds."""

    attempt: int
    max_retries: int
    delay: float
    status: int | None
    error: str


class Silence(Value):
    """Nothing has come for ``seconds``; the turn goes on. ``working`` says whether the transcript has grown."""

    seconds: float
    working: bool


class UnknownMessage(Value):
    """A message that this version does not interpret, or that lacks what its kind must have, as it came.

    New kinds appear in patch releases.
    """

    message: Mapping[str, Any]


class Verdict(enum.Enum):
    """How a turn ended, decided from the ``result`` line, the process and the transcript."""

    COMPLETED = "completed"
    #: The whole answer had streamed but its ``result`` line never came; the transcript confirms the end.
    COMPLETED_AFTER_HANG = "completed after a hang"
    #: Output had stopped; the answer was read from the transcript.
    RECOVERED = "recovered from the transcript"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class TurnResult(Value):
    """The end of a turn.

    Attributes:
        text: the whole text, as streamed; where ``truncated``, the first 16 Mi characters of it.
        error: what went wrong, for a person; empty if nothing did.
        api_status: HTTP status of an API error.
        exit_code: of the process, where its end ended the turn (negative: the signal).
        out_of_memory: it was killed because its memory limit was reached.
        usage: token counts as Claude Code reports them.
        cost_usd: what Claude Code estimates for this session so far.
    """

    verdict: Verdict
    text: str
    session_id: str = ""
    error: str = ""
    api_status: int | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    truncated: bool = False
    num_turns: int = 0
    duration: float = 0.0
    cost_usd: float = 0.0
    usage: Mapping[str, Any] = _NOTHING

    @property
    def ok(self) -> bool:
        """The answer is whole."""
        return self.verdict in (Verdict.COMPLETED, Verdict.COMPLETED_AFTER_HANG, Verdict.RECOVERED)

    def discounted(self, why: str) -> TurnResult:
        """A whole answer that does not count, and why: it is interrupted. Itself where nothing is said against it."""
        return self.replace(verdict=Verdict.INTERRUPTED, error=why) if why and self.ok else self
