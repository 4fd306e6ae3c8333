"""What Claude Code has going on besides the hosts' turns: it must not be ended meanwhile. No I/O.

Nobody but the agent can know it: work in the background ends, and begins turns, when no host is connected or reads. So
it looks at a few kinds of lines (docs/claude-code.md). To misread one costs a sleep, or delays a scheduled prompt until
Claude Code is awake again, and never a turn of a host's.
"""

from typing import Any, Dict, List

from . import wire

#: A recurring prompt ends after so many seconds by itself (measured: "Auto-expires after 7 days").
_RECURRING_LIFE = 7 * 86400.0

#: Seconds that a prompt may come after its time: it waits for the turn that runs, and is spread out a little.
_LATE = 600.0

#: Scheduled prompts that are remembered.
_MOST_JOBS = 1000

#: Characters of a task's description, which the model has written.
_LONGEST = 100

#: A line without any of these is not parsed.
_SIGNS = (
    b'"background_tasks_changed"',
    b'"nextFireAt"',
    b'"scheduledFor"',
    b'"jobs"',
    b'"tool_use_result":{"id":',
    b'"init"',
    b'"result"',
)


class Background:
    """Follows one session's lines, from one Claude Code to the next: scheduled prompts go with the session.

    Attributes:
        conversation: the id by which this Claude Code can be resumed; empty: it has had no turn.
    """

    def __init__(self) -> None:
        self.conversation = ""
        self._in_turn = False
        self._tasks: List[str] = []
        self._jobs: Dict[str, float] = {}  # until when each may come
        self._wakeup = 0.0

    def begin(self) -> None:
        """There is a new Claude Code."""
        self.conversation = ""
        self._in_turn = False
        self._tasks = []

    def hear(self, line: bytes, now: float) -> None:
        """Claude Code has said this. ``now``: seconds since the epoch, in which it reckons, too."""
        if not any(sign in line for sign in _SIGNS):
            return
        try:
            message = wire.decode(line)
        except wire.FrameError:
            return
        kind, subtype = message.get("type"), message.get("subtype")
        if kind == "result":
            self._in_turn = False
        elif kind == "system" and subtype == "init":
            self._in_turn = True
            named = message.get("session_id")
            # It becomes a word of a command line, and must not be an option there.
            self.conversation = named if isinstance(named, str) and wire.ID.match(named) and named[0] != "-" else ""
        elif kind == "system" and subtype == "background_tasks_changed":
            tasks = message.get("tasks")
            self._tasks = [_described(task) for task in tasks if _counts(task)] if isinstance(tasks, list) else []
        elif kind == "user" and isinstance(message.get("tool_use_result"), dict):
            self._hear_of_schedules(message["tool_use_result"], now)

    def reason(self, now: float) -> str:
        """Why Claude Code must not be ended, for a person; empty: nothing is known here."""
        if self._in_turn:
            return "it has a turn that it has begun by itself"
        if self._tasks:
            return "it works in the background: " + ", ".join(self._tasks[:3])
        if now < max([self._wakeup, *self._jobs.values()]):
            return "a prompt is scheduled, which needs it awake"
        return ""

    def _hear_of_schedules(self, result: Dict[str, Any], now: float) -> None:
        """The results of CronCreate, CronDelete, CronList and ScheduleWakeup."""
        if isinstance(result.get("jobs"), list):
            self._jobs = {}
            for job in result["jobs"][:_MOST_JOBS]:
                if isinstance(job, dict):
                    self._note(job, now)
        elif "scheduledFor" in result:
            self._wakeup = _seconds(result["scheduledFor"]) + _LATE if result["scheduledFor"] else 0.0
        elif "nextFireAt" in result:
            self._note(result, now)
        elif len(result) == 1:
            self._jobs.pop(str(result.get("id")), None)

    def _note(self, job: Dict[str, Any], now: float) -> None:
        if len(self._jobs) < _MOST_JOBS:
            until = now + _RECURRING_LIFE if job.get("recurring") else _seconds(job.get("nextFireAt"))
            self._jobs[str(job.get("id"))[:_LONGEST]] = until + _LATE


def _counts(task: Any) -> bool:
    """A task needs this process; one that goes on elsewhere does not."""
    return not (isinstance(task, dict) and task.get("off_host") is True)


def _described(task: Any) -> str:
    described = task.get("description") or task.get("task_type") if isinstance(task, dict) else None
    return str(described or "a task")[:_LONGEST]


def _seconds(milliseconds: Any) -> float:
    # A model may have chosen it: a number of hundreds of digits is none of seconds.
    return milliseconds / 1000 if isinstance(milliseconds, (int, float)) and 0 <= milliseconds < 1e15 else 0.0
