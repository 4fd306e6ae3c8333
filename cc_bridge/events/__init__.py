"""What a turn yields: events, in the order in which Claude Code produced them.

``stream()`` yields all of them, ``send_command()`` only the text. Every turn ends with exactly one
:class:`TurnResult`. An event's fields are what Claude Code said, checked for their types and nothing more: texts are
to be made harmless where they are shown.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..values import Value
from .answers import ContextCategory, ContextUsage, SlashCommand
from .session import (
    ActiveGoal,
    AuthStatus,
    CommandsChanged,
    CompactBoundary,
    ControlRequestProgress,
    ConversationReset,
    ElicitationComplete,
    FileFailure,
    FilesPersisted,
    HookProgress,
    HookResponse,
    HookStarted,
    Informational,
    LocalCommandOutput,
    Memory,
    MemoryRecall,
    MirrorError,
    ModelRefusal,
    Notification,
    PermissionDenied,
    PersistedFile,
    PluginInstall,
    PromptSuggestion,
    RateLimit,
    SessionState,
    SessionWritesLost,
    StatusChanged,
    ThinkingTokens,
    WorkerShuttingDown,
)
from .tasks import (
    BackgroundTask,
    BackgroundTasks,
    SubagentText,
    TaskNotification,
    TaskProgress,
    TaskStarted,
    TaskUpdated,
    TaskUsage,
    TodoItem,
    TodoList,
    ToolProgress,
    ToolUseSummary,
)
from .turn import (
    ApiRetry,
    PermissionRequest,
    PersonTurn,
    Silence,
    TextDelta,
    ThinkingDelta,
    ToolResult,
    ToolUse,
    TurnResult,
    TurnStarted,
    UnknownMessage,
    Verdict,
    Waiting,
)

__all__ = [
    "ActiveGoal",
    "ApiRetry",
    "AuthStatus",
    "BackgroundTask",
    "BackgroundTasks",
    "CommandsChanged",
    "CompactBoundary",
    "ContextCategory",
    "ContextUsage",
    "ControlRequestProgress",
    "ConversationReset",
    "ElicitationComplete",
    "Event",
    "FileFailure",
    "FilesPersisted",
    "HookProgress",
    "HookResponse",
    "HookStarted",
    "Informational",
    "LocalCommandOutput",
    "Memory",
    "MemoryRecall",
    "MirrorError",
    "ModelRefusal",
    "Notification",
    "PermissionDenied",
    "PermissionRequest",
    "PersistedFile",
    "PersonTurn",
    "PluginInstall",
    "PromptSuggestion",
    "RateLimit",
    "Report",
    "SessionState",
    "SessionWritesLost",
    "Silence",
    "SlashCommand",
    "StatusChanged",
    "SubagentText",
    "TaskNotification",
    "TaskProgress",
    "TaskStarted",
    "TaskUpdated",
    "TaskUsage",
    "TextDelta",
    "ThinkingDelta",
    "ThinkingTokens",
    "TodoItem",
    "TodoList",
    "ToolProgress",
    "ToolResult",
    "ToolUse",
    "ToolUseSummary",
    "TurnResult",
    "TurnStarted",
    "UnknownMessage",
    "Verdict",
    "Waiting",
    "WorkerShuttingDown",
    "as_dict",
]

#: What Claude Code says beside the answer.
Report = (
    BackgroundTasks
    | SubagentText
    | TaskNotification
    | TaskProgress
    | TaskStarted
    | TaskUpdated
    | TodoList
    | ToolProgress
    | ToolUseSummary
    | ActiveGoal
    | AuthStatus
    | CommandsChanged
    | CompactBoundary
    | ControlRequestProgress
    | ConversationReset
    | ElicitationComplete
    | FilesPersisted
    | HookProgress
    | HookResponse
    | HookStarted
    | Informational
    | LocalCommandOutput
    | MemoryRecall
    | MirrorError
    | ModelRefusal
    | Notification
    | PermissionDenied
    | PluginInstall
    | PromptSuggestion
    | RateLimit
    | SessionState
    | SessionWritesLost
    | StatusChanged
    | ThinkingTokens
    | WorkerShuttingDown
)

Event = (
    Waiting
    | TurnStarted
    | TextDelta
    | ThinkingDelta
    | ToolUse
    | ToolResult
    | PermissionRequest
    | PersonTurn
    | ApiRetry
    | Silence
    | Report
    | UnknownMessage
    | TurnResult
)


def as_dict(event: Event) -> dict[str, Any]:
    """The event as JSON types, with its class under ``type``; what ``--json`` prints."""
    return {"type": type(event).__name__, **_fields(event)}


def _fields(value: Any) -> dict[str, Any]:
    return {name: _json(item) for name, item in value.as_dict().items()}


def _json(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return _fields(value) if isinstance(value, Value) else value
