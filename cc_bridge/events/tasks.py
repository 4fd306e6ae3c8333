"""Events of work beside the answer: subagents, background tasks, tools that take long, and todo lists."""

from __future__ import annotations

from ..values import Value

__all__ = [
    "BackgroundTask",
    "BackgroundTasks",
    "SubagentText",
    "TaskNotification",
    "TaskProgress",
    "TaskStarted",
    "TaskUpdated",
    "TaskUsage",
    "TodoItem",
    "TodoList",
    "ToolProgress",
    "ToolUseSummary",
]


class SubagentText(Value):
    """A text that a subagent has written, as a whole. It is no part of the answer's text.

    Claude Code sends it for subagents in the background; of the others only the tools (2.1.329).

    Attributes:
        parent: id of the Task call that the subagent works for.
        subagent_type: such as ``general-purpose``.
    """

    text: str
    parent: str
    subagent_type: str = ""


class TaskUsage(Value):
    """What a task has used so far.

    Attributes:
        duration: seconds.
    """

    total_tokens: int = 0
    tool_uses: int = 0
    duration: float = 0.0


class TaskStarted(Value):
    """A subagent, a shell command or another task has begun (``system/task_started``).

    Attributes:
        kind: ``local_agent``, ``local_bash`` ...
        tool_use_id: of the tool call that began it, which is the ``parent`` of a subagent's events.
        background: whether the turn goes on without it; None: it was not said.
        parent_task: the task of the subagent that began it; empty: the main conversation did.
    """

    task_id: str
    description: str
    kind: str = ""
    tool_use_id: str = ""
    subagent_type: str = ""
    prompt: str = ""
    background: bool | None = None
    parent_task: str = ""


class TaskProgress(Value):
    """What a task does at the moment (``system/task_progress``)."""

    task_id: str
    description: str
    usage: TaskUsage
    tool_use_id: str = ""
    subagent_type: str = ""
    last_tool: str = ""
    summary: str = ""


class TaskUpdated(Value):
    """A task has changed (``system/task_updated``). What has not changed is empty, or None.

    Attributes:
        status: ``pending``, ``running``, ``completed``, ``failed``, ``killed`` or ``paused``.
    """

    task_id: str
    status: str = ""
    description: str = ""
    error: str = ""
    background: bool | None = None


class TaskNotification(Value):
    """A task has ended (``system/task_notification``).

    Attributes:
        status: ``completed``, ``failed`` or ``stopped``.
        summary: the subagent's report, or what became of the command.
        output_file: where Claude Code runs; empty for a task of the foreground.
        usage: of a subagent; None: it was not said.
    """

    task_id: str
    status: str
    summary: str = ""
    tool_use_id: str = ""
    output_file: str = ""
    usage: TaskUsage | None = None


class BackgroundTask(Value):
    """A task that runs in the background; see :class:`TaskStarted`."""

    task_id: str
    kind: str = ""
    description: str = ""
    subagent_type: str = ""


class BackgroundTasks(Value):
    """All tasks that run in the background now, whenever that changes (``system/background_tasks_changed``)."""

    tasks: tuple[BackgroundTask, ...]


class ToolProgress(Value):
    """A tool still runs (``tool_progress``).

    Attributes:
        elapsed: seconds.
        task_id: of the task that the tool has begun.
        parent: id of the Task call whose subagent uses the tool; empty: the main conversation does.
    """

    tool_use_id: str
    tool_name: str
    elapsed: float
    task_id: str = ""
    parent: str = ""


class ToolUseSummary(Value):
    """What some tool calls have done, in a sentence (``tool_use_summary``)."""

    summary: str
    tool_use_ids: tuple[str, ...] = ()


class TodoItem(Value):
    """One thing to do.

    Attributes:
        status: ``pending``, ``in_progress`` or ``completed``.
        active_form: the same thing as being done: "Running the tests".
    """

    content: str
    status: str
    active_form: str = ""


class TodoList(Value):
    """The model's todo list as a whole, after the :class:`~cc_bridge.ToolUse` of ``TodoWrite`` that has set it.

    Models that keep a list with ``TaskCreate`` and ``TaskUpdate`` (2.1.329) change it piece by piece, by tool calls.

    Attributes:
        parent: id of the Task call whose subagent's list it is; empty: the main conversation's.
    """

    items: tuple[TodoItem, ...]
    tool_use_id: str = ""
    parent: str = ""
