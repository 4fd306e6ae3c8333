"""What a link yields: each thing that the agent says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AgentRefused",
    "Done",
    "ErrorOutput",
    "Exited",
    "Hello",
    "LinkEvent",
    "Output",
    "Queued",
    "Started",
    "Status",
    "Took",
    "Violated",
    "Withdrawn",
]


@dataclass(frozen=True, slots=True)
class Hello:
    """The agent has answered: the link is open. Emitted once, first.

    Attributes:
        epoch: changes when the agent is a new one.
        state: of Claude Code: ``new``, ``running`` or ``exited``.
        open_ids: inputs whose turns nobody has declared done.
        resumed: everything after the position that was asked for follows.
        queue: inputs that wait in the agent for the turns before them, the next one first; None: it has no queue, and
            passes on whatever comes (agents of 0.1.0, and where none can run).
    """

    agent: str
    epoch: str
    state: str
    seq: int
    open_ids: tuple[str, ...]
    resumed: bool
    queue: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """Claude Code was started, by this host or another."""

    pid: int


@dataclass(frozen=True, slots=True)
class Output:
    """A line of Claude Code's: a message, or text where it was no JSON object. ``size``: bytes of its frame."""

    message: Mapping[str, Any] | str
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ErrorOutput:
    """A line that Claude Code wrote to stderr."""

    text: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The agent has accepted an input, and will pass it to Claude Code when the turns before it have ended."""

    id: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An input that waited will not be passed on. ``late``: it did not wait, or not any more."""

    id: str
    late: bool


@dataclass(frozen=True, slots=True)
class Took:
    """The agent has accepted an input and passes it to Claude Code, once. ``again``: it had accepted it before."""

    id: str
    again: bool


@dataclass(frozen=True, slots=True)
class Done:
    """Somebody has declared this input's turn done."""

    id: str


@dataclass(frozen=True, slots=True)
class Exited:
    """Claude Code has ended; all its output came before.

    Attributes:
        code: negative for a signal; None: nobody saw it, because the agent ended first.
        out_of_memory: the kernel killed it, or something that it had started, for want of memory.
    """

    code: int | None
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class AgentRefused:
    """The agent could not do what it was asked.

    ``code`` is ``start``, ``not_running``, ``full``, ``stopping``, ``gone``, ``state``, ``version`` or ``protocol``.

    Attributes:
        id: of the input that was refused; empty: it was none, or an older agent does not say.
    """

    code: str
    message: str
    errno: int | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Violated:
    """The agent broke a rule; the link is closed and nothing more will come. Close the connection."""

    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to :meth:`Link.ask_status`.

    Attributes:
        turns: id of each input whose turn can be read from its beginning, oldest first, and whether somebody has
            read it to its end.
    """

    turns: tuple[tuple[str, bool], ...]


LinkEvent = (
    Hello
    | Started
    | Output
    | ErrorOutput
    | Queued
    | Withdrawn
    | Took
    | Done
    | Exited
    | AgentRefused
    | Status
    | Violated
)
