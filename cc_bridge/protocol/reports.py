"""What Claude Code says beside the answer, made events of. Sans-I/O.

One function a kind of message. What a kind cannot be without is needed, whatever else is missing has its default;
a message that lacks what it needs is no event, and stays as it came.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import events
from .fields import (
    Malformed,
    Raw,
    flag,
    integer,
    items,
    needed,
    number,
    optional_integer,
    optional_number,
    parent_of,
    section,
    text,
    texts,
)

__all__ = ["context_usage", "parse_report", "slash_commands", "todo_list"]

#: The end of a heartbeat's id: it names the tool's call as its parent, and itself after that (2.1.329).
_HEARTBEAT = "-heartbeat-"


def parse_report(message: Raw) -> events.Report | None:
    """The event that a message is; None: it is of no such kind, or malformed."""
    kind, subtype = message.get("type"), message.get("subtype")
    known = _SYSTEM if kind == "system" else _OTHERS
    name = subtype if kind == "system" else kind
    parse = known.get(name) if isinstance(name, str) else None
    try:
        return parse(message) if parse else None
    except Malformed:
        return None


def todo_list(arguments: Raw, tool_use_id: str, parent: str) -> events.TodoList | None:
    """The list in the input of ``TodoWrite``; None: there is none."""

    def item(raw: Raw) -> events.TodoItem:
        return events.TodoItem(needed(raw, "content"), needed(raw, "status"), text(raw, "activeForm"))

    try:
        return events.TodoList(items(arguments, "todos", item), tool_use_id, parent)
    except Malformed:
        return None


def slash_commands(answer: Raw) -> tuple[events.SlashCommand, ...]:
    """The commands in the answer to ``initialize``, or in ``commands_changed``.

    Raises:
        Malformed: there are none in it.
    """

    def command(raw: Raw) -> events.SlashCommand:
        return events.SlashCommand(
            needed(raw, "name"),
            text(raw, "description"),
            text(raw, "argumentHint"),
            texts(raw, "aliases"),
            flag(raw, "builtin") or False,
        )

    return items(answer, "commands", command)


def context_usage(answer: Raw) -> events.ContextUsage:
    """The answer to ``get_context_usage``.

    Raises:
        Malformed: it is none.
    """

    def category(raw: Raw) -> events.ContextCategory:
        return events.ContextCategory(needed(raw, "name"), integer(raw, "tokens"), text(raw, "kind"), text(raw, "id"))

    compacts = flag(answer, "isAutoCompactEnabled")
    return events.ContextUsage(
        model=needed(answer, "model"),
        total_tokens=integer(answer, "totalTokens"),
        max_tokens=integer(answer, "maxTokens"),
        percentage=number(answer, "percentage"),
        categories=items(answer, "categories", category),
        auto_compact_at=optional_integer(answer, "autoCompactThreshold") if compacts else None,
        details=answer,
    )


# Tasks


def _task_started(message: Raw) -> events.TaskStarted:
    return events.TaskStarted(
        task_id=needed(message, "task_id"),
        description=text(message, "description"),
        kind=text(message, "task_type"),
        tool_use_id=text(message, "tool_use_id"),
        subagent_type=text(message, "subagent_type"),
        prompt=text(message, "prompt"),
        background=flag(message, "is_backgrounded"),
        parent_task=text(message, "parent_task_id"),
    )


def _task_progress(message: Raw) -> events.TaskProgress:
    return events.TaskProgress(
        task_id=needed(message, "task_id"),
        description=text(message, "description"),
        usage=_usage(section(message, "usage")),
        tool_use_id=text(message, "tool_use_id"),
        subagent_type=text(message, "subagent_type"),
        last_tool=text(message, "last_tool_name"),
        summary=text(message, "summary"),
    )


def _task_updated(message: Raw) -> events.TaskUpdated:
    patch = section(message, "patch")
    return events.TaskUpdated(
        task_id=needed(message, "task_id"),
        status=text(patch, "status"),
        description=text(patch, "description"),
        error=text(patch, "error"),
        background=flag(patch, "is_backgrounded"),
    )


def _task_notification(message: Raw) -> events.TaskNotification:
    usage = section(message, "usage")
    return events.TaskNotification(
        task_id=needed(message, "task_id"),
        status=needed(message, "status"),
        summary=text(message, "summary"),
        tool_use_id=text(message, "tool_use_id"),
        output_file=text(message, "output_file"),
        usage=_usage(usage) if usage else None,
    )


def _background_tasks(message: Raw) -> events.BackgroundTasks:
    def task(raw: Raw) -> events.BackgroundTask:
        return events.BackgroundTask(
            needed(raw, "task_id"), text(raw, "task_type"), text(raw, "description"), text(raw, "subagent_type")
        )

    return events.BackgroundTasks(items(message, "tasks", task))


def _usage(raw: Raw) -> events.TaskUsage:
    duration = number(raw, "duration_ms") / 1000
    return events.TaskUsage(integer(raw, "total_tokens"), integer(raw, "tool_uses"), duration)


def _tool_progress(message: Raw) -> events.ToolProgress:
    tool_use_id, parent = needed(message, "tool_use_id"), parent_of(message)
    if parent and tool_use_id.startswith(parent + _HEARTBEAT):
        tool_use_id, parent = parent, ""
    elapsed = number(message, "elapsed_time_seconds")
    return events.ToolProgress(tool_use_id, text(message, "tool_name"), elapsed, text(message, "task_id"), parent)


def _tool_use_summary(message: Raw) -> events.ToolUseSummary:
    return events.ToolUseSummary(needed(message, "summary"), texts(message, "preceding_tool_use_ids"))


# Hooks


def _hook_started(message: Raw) -> events.HookStarted:
    return events.HookStarted(*_hook(message))


def _hook_progress(message: Raw) -> events.HookProgress:
    return events.HookProgress(*_hook(message), text(message, "stdout"), text(message, "stderr"))


def _hook_response(message: Raw) -> events.HookResponse:
    exit_code = optional_integer(message, "exit_code")
    outcome = needed(message, "outcome")
    return events.HookResponse(*_hook(message), outcome, exit_code, text(message, "stdout"), text(message, "stderr"))


def _hook(message: Raw) -> tuple[str, str, str]:
    return needed(message, "hook_id"), text(message, "hook_name"), text(message, "hook_event")


# The session


def _status(message: Raw) -> events.StatusChanged:
    if message.get("status") is not None:
        needed(message, "status")
    return events.StatusChanged(
        status=text(message, "status"),
        permission_mode=text(message, "permissionMode"),
        compact_result=text(message, "compact_result"),
        compact_error=text(message, "compact_error"),
    )


def _compact_boundary(message: Raw) -> events.CompactBoundary:
    about = section(message, "compact_metadata")
    return events.CompactBoundary(
        trigger=needed(about, "trigger"),
        pre_tokens=integer(about, "pre_tokens"),
        post_tokens=optional_integer(about, "post_tokens"),
        duration=number(about, "duration_ms") / 1000,
    )


def _conversation_reset(message: Raw) -> events.ConversationReset:
    return events.ConversationReset(needed(message, "new_conversation_id"), text(message, "trigger"))


def _rate_limit(message: Raw) -> events.RateLimit:
    info = section(message, "rate_limit_info")
    return events.RateLimit(
        status=needed(info, "status"),
        kind=text(info, "rateLimitType"),
        resets_at=optional_number(info, "resetsAt"),
        utilization=optional_number(info, "utilization"),
        details=info,
    )


def _auth_status(message: Raw) -> events.AuthStatus:
    authenticating = flag(message, "isAuthenticating")
    if authenticating is None:
        raise Malformed("isAuthenticating")
    return events.AuthStatus(authenticating, texts(message, "output"), text(message, "error"))


def _permission_denied(message: Raw) -> events.PermissionDenied:
    return events.PermissionDenied(
        tool_name=needed(message, "tool_name"),
        tool_use_id=text(message, "tool_use_id"),
        message=text(message, "message"),
        reason=text(message, "decision_reason"),
        reason_type=text(message, "decision_reason_type"),
        agent_id=text(message, "agent_id"),
    )


def _model_refusal(message: Raw) -> events.ModelRefusal:
    return events.ModelRefusal(
        content=text(message, "content"),
        original_model=needed(message, "original_model"),
        fallback_model=text(message, "fallback_model"),
        category=text(message, "api_refusal_category"),
        explanation=text(message, "api_refusal_explanation"),
    )


def _memory_recall(message: Raw) -> events.MemoryRecall:
    def memory(raw: Raw) -> events.Memory:
        return events.Memory(needed(raw, "path"), text(raw, "scope"), text(raw, "content"))

    return events.MemoryRecall(needed(message, "mode"), items(message, "memories", memory))


def _files_persisted(message: Raw) -> events.FilesPersisted:
    def done(raw: Raw) -> events.PersistedFile:
        return events.PersistedFile(needed(raw, "filename"), text(raw, "file_id"))

    def failed(raw: Raw) -> events.FileFailure:
        return events.FileFailure(needed(raw, "filename"), text(raw, "error"))

    return events.FilesPersisted(items(message, "files", done), items(message, "failed", failed))


# Notices


def _informational(message: Raw) -> events.Informational:
    return events.Informational(
        content=needed(message, "content"),
        level=text(message, "level") or "info",
        tool_use_id=text(message, "tool_use_id"),
        stops=flag(message, "prevent_continuation") or False,
    )


def _notification(message: Raw) -> events.Notification:
    return events.Notification(text(message, "key"), needed(message, "text"), text(message, "priority"))


def _plugin_install(message: Raw) -> events.PluginInstall:
    return events.PluginInstall(needed(message, "status"), text(message, "name"), text(message, "error"))


def _elicitation_complete(message: Raw) -> events.ElicitationComplete:
    return events.ElicitationComplete(needed(message, "mcp_server_name"), needed(message, "elicitation_id"))


def _thinking_tokens(message: Raw) -> events.ThinkingTokens:
    estimated = optional_integer(message, "estimated_tokens")
    if estimated is None:
        raise Malformed("estimated_tokens")
    return events.ThinkingTokens(estimated, integer(message, "estimated_tokens_delta"))


def _request_progress(message: Raw) -> events.ControlRequestProgress:
    return events.ControlRequestProgress(needed(message, "request_id"), needed(message, "status"))


def _writes_lost(message: Raw) -> events.SessionWritesLost:
    return events.SessionWritesLost(needed(message, "error_code"), texts(message, "lost"))


def _active_goal(message: Raw) -> events.ActiveGoal:
    if "value" not in message:
        raise Malformed("no value")
    goal = section(message, "value")
    return events.ActiveGoal(text(goal, "condition"), integer(goal, "iterations"), text(goal, "last_reason"))


#: By the subtype of a message of the type ``system``.
_SYSTEM: dict[str, Callable[[Raw], events.Report]] = {
    "task_started": _task_started,
    "task_progress": _task_progress,
    "task_updated": _task_updated,
    "task_notification": _task_notification,
    "background_tasks_changed": _background_tasks,
    "hook_started": _hook_started,
    "hook_progress": _hook_progress,
    "hook_response": _hook_response,
    "status": _status,
    "compact_boundary": _compact_boundary,
    "session_state_changed": lambda message: events.SessionState(needed(message, "state")),
    "files_persisted": _files_persisted,
    "local_command_output": lambda message: events.LocalCommandOutput(needed(message, "content")),
    "informational": _informational,
    "notification": _notification,
    "permission_denied": _permission_denied,
    "model_refusal_fallback": _model_refusal,
    "model_refusal_no_fallback": _model_refusal,
    "memory_recall": _memory_recall,
    "thinking_tokens": _thinking_tokens,
    "commands_changed": lambda message: events.CommandsChanged(slash_commands(message)),
    "plugin_install": _plugin_install,
    "elicitation_complete": _elicitation_complete,
    "mirror_error": lambda message: events.MirrorError(needed(message, "error")),
    "session_writes_lost": _writes_lost,
    "worker_shutting_down": lambda message: events.WorkerShuttingDown(needed(message, "reason")),
    "control_request_progress": _request_progress,
}

#: By the type of any other.
_OTHERS: dict[str, Callable[[Raw], events.Report]] = {
    "rate_limit_event": _rate_limit,
    "auth_status": _auth_status,
    "tool_progress": _tool_progress,
    "tool_use_summary": _tool_use_summary,
    "prompt_suggestion": lambda message: events.PromptSuggestion(needed(message, "suggestion")),
    "conversation_reset": _conversation_reset,
    "active_goal": _active_goal,
}
