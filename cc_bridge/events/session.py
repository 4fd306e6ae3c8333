"""Events of the session: hooks, compaction, limits, notices, and what else Claude Code says beside an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..values import Value
from .answers import SlashCommand

__all__ = [
    "ActiveGoal",
    "AuthStatus",
    "CommandsChanged",
    "CompactBoundary",
    "ControlRequestProgress",
    "ConversationReset",
    "ElicitationComplete",
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
    "PersistedFile",
    "PluginInstall",
    "PromptSuggestion",
    "RateLimit",
    "SessionState",
    "SessionWritesLost",
    "StatusChanged",
    "ThinkingTokens",
    "WorkerShuttingDown",
]


class HookStarted(Value):
    """A hook of the user's settings runs (``system/hook_started``).

    Only SessionStart's are told of, unless Claude Code is started with ``--include-hook-events``. They come before
    :class:`~cc_bridge.TurnStarted`.

    Attributes:
        name: such as ``PreToolUse:Bash``.
        event: such as ``PreToolUse``.
    """

    hook_id: str
    name: str
    event: str


class HookProgress(Value):
    """What a hook has written so far (``system/hook_progress``)."""

    hook_id: str
    name: str
    event: str
    stdout: str = ""
    stderr: str = ""


class HookResponse(Value):
    """A hook has ended (``system/hook_response``).

    Attributes:
        outcome: ``success``, ``error`` or ``cancelled``.
        exit_code: None: it has none.
    """

    hook_id: str
    name: str
    event: str
    outcome: str
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""


class StatusChanged(Value):
    """What Claude Code does changed, or its permission mode did (``system/status``). Requests to the API are left out.

    Attributes:
        status: ``compacting``; empty: nothing special any more.
        permission_mode: the new one; empty: as it was.
        compact_result: how a compaction has ended: ``success`` or ``failed``.
    """

    status: str
    permission_mode: str = ""
    compact_result: str = ""
    compact_error: str = ""


class CompactBoundary(Value):
    """The conversation up to here was replaced by a summary (``system/compact_boundary``).

    Attributes:
        trigger: ``manual`` (``/compact``) or ``auto``.
        pre_tokens, post_tokens: of the context, before and after; None: it was not said.
        duration: seconds.
    """

    trigger: str
    pre_tokens: int
    post_tokens: int | None = None
    duration: float = 0.0


class RateLimit(Value):
    """How much of a subscription's limit is used, when that changes (``rate_limit_event``). API keys have none.

    Attributes:
        status: ``allowed``, ``allowed_warning`` or ``rejected``.
        kind: ``five_hour``, ``seven_day`` ...
        resets_at: seconds since 1970; None: it was not said.
        utilization: 0 to 1; None: it was not said.
        details: all that was said.
    """

    status: str
    kind: str = ""
    resets_at: float | None = None
    utilization: float | None = None
    details: Mapping[str, Any] | None = None


class AuthStatus(Value):
    """How a login goes on (``auth_status``)."""

    authenticating: bool
    output: tuple[str, ...] = ()
    error: str = ""


class SessionState(Value):
    """Whether Claude Code works, in its own words (``system/session_state_changed``).

    Only with the variable ``CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS=1``.

    Attributes:
        state: ``idle``, ``running`` or ``requires_action`` (a permission is asked for).
    """

    state: str


class PromptSuggestion(Value):
    """What the user may want to say next (``prompt_suggestion``)."""

    suggestion: str


class PersistedFile(Value):
    """A file that was uploaded."""

    name: str
    file_id: str


class FileFailure(Value):
    """A file that could not be uploaded."""

    name: str
    error: str


class FilesPersisted(Value):
    """Files of the session were uploaded (``system/files_persisted``); where Claude Code runs in the cloud."""

    files: tuple[PersistedFile, ...] = ()
    failed: tuple[FileFailure, ...] = ()


class LocalCommandOutput(Value):
    """What a slash command has written, where that is no part of the answer (``system/local_command_output``)."""

    content: str


class Informational(Value):
    """A line for the user (``system/informational``), such as what a hook says.

    Attributes:
        level: ``info``, ``notice``, ``suggestion`` or ``warning``.
        stops: nothing comes after it: a hook has stopped the turn.
    """

    content: str
    level: str = "info"
    tool_use_id: str = ""
    stops: bool = False


class Notification(Value):
    """A notice that a terminal would show for a while (``system/notification``).

    Attributes:
        priority: ``low``, ``medium``, ``high`` or ``immediate``.
    """

    key: str
    text: str
    priority: str = ""


class PermissionDenied(Value):
    """A tool was refused by a rule or by the permission mode, and nobody was asked (``system/permission_denied``).

    Attributes:
        message: what the model was told.
        reason_type: ``mode``, ``rule``, ``classifier`` ...
        agent_id: the task of the subagent that wanted the tool; empty: the main conversation did.
    """

    tool_name: str
    tool_use_id: str
    message: str = ""
    reason: str = ""
    reason_type: str = ""
    agent_id: str = ""


class ModelRefusal(Value):
    """The model has refused to answer (``system/model_refusal_fallback``, ``model_refusal_no_fallback``).

    Attributes:
        content: for the user.
        fallback_model: the model that answers instead; empty: none does.
        category: such as ``cyber``; empty: it was not said.
    """

    content: str
    original_model: str
    fallback_model: str = ""
    category: str = ""
    explanation: str = ""


class Memory(Value):
    """Something remembered.

    Attributes:
        scope: ``personal``, ``team`` or ``organization``.
        content: empty where ``path`` is a file that has it.
    """

    path: str
    scope: str = ""
    content: str = ""


class MemoryRecall(Value):
    """Claude Code has added memories to the turn (``system/memory_recall``).

    Attributes:
        mode: ``select`` or ``synthesize``.
    """

    mode: str
    memories: tuple[Memory, ...] = ()


class ThinkingTokens(Value):
    """An estimate of how much the model has thought in this block (``system/thinking_tokens``)."""

    estimated_tokens: int
    delta: int = 0


class CommandsChanged(Value):
    """The list of slash commands is another now (``system/commands_changed``)."""

    commands: tuple[SlashCommand, ...]


class ConversationReset(Value):
    """The conversation begins anew (``conversation_reset``).

    Attributes:
        conversation_id: of the new one. Its session's id is another; the next :class:`~cc_bridge.TurnResult` has it.
        trigger: ``clear`` (``/clear``), ``plan_mode_exit`` ...
    """

    conversation_id: str
    trigger: str = ""


class PluginInstall(Value):
    """How the installation of plugins goes on (``system/plugin_install``).

    Attributes:
        status: ``started``, ``installed``, ``failed`` or ``completed``.
    """

    status: str
    name: str = ""
    error: str = ""


class ElicitationComplete(Value):
    """An MCP server has got what it had sent the user to a web page for (``system/elicitation_complete``)."""

    server: str
    elicitation_id: str


class MirrorError(Value):
    """A copy of the transcript could not be kept (``system/mirror_error``)."""

    error: str


class SessionWritesLost(Value):
    """The disk was full where Claude Code runs, and part of its files was not saved (``system/session_writes_lost``).

    Attributes:
        error_code: ``ENOSPC`` or ``EDQUOT``.
        lost: ``transcript``, ``global_config``.
    """

    error_code: str
    lost: tuple[str, ...] = ()


class WorkerShuttingDown(Value):
    """Claude Code is told to end (``system/worker_shutting_down``)."""

    reason: str


class ControlRequestProgress(Value):
    """A control request takes a while (``system/control_request_progress``).

    Attributes:
        status: ``started`` or ``api_retry``.
    """

    request_id: str
    status: str


class ActiveGoal(Value):
    """What Claude Code works towards by itself (``active_goal``); an empty ``condition``: nothing any more."""

    condition: str
    iterations: int = 0
    last_reason: str = ""
