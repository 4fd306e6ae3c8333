"""The events of a link: what the agent reports.

``seq`` is the number of an event's frame; 0: it has none, because it is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..values import Value

__all__ = [
    "AgentRefused",
    "Asleep",
    "Done",
    "ErrorOutput",
    "Exited",
    "Hello",
    "LinkEvent",
    "Output",
    "Queued",
    "Started",
    "Status",
    "StreamBytes",
    "Took",
    "Violated",
    "Withdrawn",
]


class Hello(Value):
    """The agent has answered and the link is open. Always the first event.

    Attributes:
        epoch: changes with each new agent.
        state: of Claude Code: ``new``, ``running``, ``asleep`` or ``exited``.
        open_ids: inputs whose turns have not been declared done.
        resumed: all frames after the requested position follow.
        queue: inputs that wait in the agent, the next one first; None: it has no queue and passes inputs on at once
            (agents of 0.1.0, and where none can run).
        sleep_after: seconds of idleness after which Claude Code goes to sleep, 0: never; None: the agent cannot do so.
        start: the number before that of the first frame that follows.
        pid: Claude Code's process, as it is numbered there; None: none runs, or something stands in for the agent.
        raw: the session is a raw one; False where one was asked for: the agent is of a release that has none.
        tty: the agent can start a raw session's process on a terminal.
        journal: tells what the agent keeps from what another one does, which has other disks; empty: it keeps nothing.
    """

    NOT_COMPARED = ("start", "pid", "raw", "tty", "journal")

    agent: str
    epoch: str
    state: str
    seq: int
    open_ids: tuple[str, ...]
    resumed: bool
    queue: tuple[str, ...] | None = None
    sleep_after: float | None = None
    start: int = 0
    pid: int | None = None
    raw: bool = False
    tty: bool = False
    journal: str = ""


class Started(Value):
    """Claude Code was started, by this host or another."""

    NOT_COMPARED = ("seq",)

    pid: int
    seq: int = 0


class Output(Value):
    """A line of Claude Code's output: a message, or text if it is not a JSON object. ``size``: bytes of its frame."""

    NOT_COMPARED = ("size", "seq")

    message: Mapping[str, Any] | str
    size: int = 0
    seq: int = 0


class StreamBytes(Value):
    """Bytes that a raw session's process has written to ``stdout`` or ``stderr``."""

    NOT_COMPARED = ("seq",)

    stream: str
    data: bytes
    seq: int = 0


class ErrorOutput(Value):
    """A line of Claude Code's stderr."""

    NOT_COMPARED = ("seq",)

    text: str
    seq: int = 0


class Queued(Value):
    """The agent has accepted an input, which waits until the turns before it have ended."""

    NOT_COMPARED = ("seq",)

    id: str
    seq: int = 0


class Withdrawn(Value):
    """A waiting input was withdrawn. ``late``: too late: it was not waiting any more."""

    NOT_COMPARED = ("seq",)

    id: str
    late: bool
    seq: int = 0


class Took(Value):
    """The agent has accepted an input and passes it to Claude Code, once. ``again``: it was accepted before."""

    NOT_COMPARED = ("seq",)

    id: str
    again: bool
    seq: int = 0


class Done(Value):
    """A host has declared this input's turn done."""

    NOT_COMPARED = ("seq",)

    id: str
    seq: int = 0


class Exited(Value):
    """Claude Code has exited; all its output came before.

    Attributes:
        code: negative for a signal; None: unknown, because the agent ended first.
        out_of_memory: the kernel's OOM killer killed it or one of its children.
        asleep: it was idle and was told to exit; nothing went on in it.
        stopped: its agent was told to end, and has ended it.
    """

    NOT_COMPARED = ("seq",)

    code: int | None
    out_of_memory: bool = False
    asleep: bool = False
    stopped: bool = False
    seq: int = 0


class Asleep(Value):
    """The answer to :meth:`Link.put_to_sleep` where Claude Code does not run: it sleeps, or was not started."""


class AgentRefused(Value):
    """The agent refused a request.

    ``code`` is ``start``, ``not_running``, ``full``, ``busy``, ``stopping``, ``gone``, ``state``, ``fence``,
    ``version`` or ``protocol``.

    Attributes:
        id: of the refused input; empty: it was not an input, or an older agent does not say.
    """

    code: str
    message: str
    errno: int | None = None
    id: str = ""


class Violated(Value):
    """The agent violated the protocol; the link is closed. Close the connection."""

    reason: str


class Now(Value):
    """What Claude Code does at the moment.

    Attributes:
        turn: the input whose turn it has; empty: none.
        seconds: since that turn was given to it; None: it has none.
        silent: seconds since it said something, or was started; None: it does not run.
        hosts: what the other connected hosts call themselves; empty where one does not say.
    """

    turn: str
    seconds: float | None
    silent: float | None
    hosts: tuple[str, ...]


class Status(Value):
    """The answer to :meth:`Link.ask_status`.

    Attributes:
        turns: id of each input whose turn can be read from its start, oldest first, and whether it has been read to
            its end.
        queue: inputs that wait for the turns before them, the next one first; None: the agent does not say.
        now: what Claude Code does; None: the agent is one of 0.1.0, which does not say.
        state: of Claude Code, as in :class:`Hello`; empty: the agent does not say.
    """

    turns: tuple[tuple[str, bool], ...]
    queue: tuple[str, ...] | None = None
    now: Now | None = None
    state: str = ""


LinkEvent = (
    Hello
    | Started
    | Output
    | StreamBytes
    | ErrorOutput
    | Queued
    | Withdrawn
    | Took
    | Done
    | Exited
    | AgentRefused
    | Asleep
    | Status
    | Violated
)
