"""What the scripted model is to do: a reply's steps, and the directives in a prompt that stand for them.

A reply plays its steps in order. Directives (any number, in order; other text is ignored):

=============================  ==========================================================================
``[[say TEXT]]``               stream TEXT, a word at a time
``[[repeat N TEXT]]``          stream TEXT N times, one event each
``[[blob N]]``                 stream N bytes of text in events of 64 KiB
``[[think TEXT]]``             stream a thinking block
``[[delay SECONDS]]``          wait before the next step
``[[pace SECONDS]]``           wait that long between the events that follow
``[[tool NAME JSON]]``         call a tool; what follows is played when its result has come back
``[[error STATUS]]``           answer with this HTTP status (400, 401, 429, 500, 529 ...)
``[[error STATUS xN]]``        do so for the first N requests with this prompt, then play the rest
``[[hang]]``                   send headers and the steps so far, then nothing until the client goes
``[[cut]]``                    drop the connection in mid-answer
=============================  ==========================================================================

Without a directive the model answers ``You said: `` and the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Blob",
    "Cut",
    "Delay",
    "Fail",
    "Hang",
    "Pace",
    "Reply",
    "Say",
    "Step",
    "Think",
    "Tool",
    "parse_directives",
    "words_of",
]


@dataclass(frozen=True)
class Say:
    """Stream ``text`` as one event."""

    text: str


@dataclass(frozen=True)
class Blob:
    """Stream ``size`` bytes of text in events of 64 KiB."""

    size: int


@dataclass(frozen=True)
class Think:
    """Stream a thinking block."""

    text: str


@dataclass(frozen=True)
class Delay:
    """Wait ``seconds`` before the next step."""

    seconds: float


@dataclass(frozen=True)
class Pace:
    """Wait ``seconds`` between the events that follow."""

    seconds: float


@dataclass(frozen=True)
class Tool:
    """Call a tool. Steps after it belong to the answer to the tool's result."""

    name: str
    input: dict[str, Any]


@dataclass(frozen=True)
class Fail:
    """Answer with an HTTP error, for the first ``times`` requests (0: always)."""

    status: int
    times: int = 0


@dataclass(frozen=True)
class Hang:
    """Send nothing more until the client goes away or the model is closed."""


@dataclass(frozen=True)
class Cut:
    """Drop the connection."""


Step = Say | Blob | Think | Delay | Pace | Tool | Fail | Hang | Cut


@dataclass
class Reply:
    """What the model does for one user message."""

    steps: Sequence[Step]
    failures: int = 0

    def for_round(self, tool_results: int) -> list[Step]:
        """The steps after ``tool_results`` tools have answered, up to and including the next tool."""
        steps = list(self.steps)
        for _ in range(tool_results):
            tools = [i for i, step in enumerate(steps) if isinstance(step, Tool)]
            steps = steps[tools[0] + 1 :] if tools else []
        for i, step in enumerate(steps):
            if isinstance(step, Tool):
                return steps[: i + 1]
        return steps


_DIRECTIVE = re.compile(r"\[\[(\w+)(?: (.*?))?\]\](?!\])", re.DOTALL)


def parse_directives(prompt: str) -> list[Step]:
    """The steps that a prompt asks for. An unknown directive is said aloud, so that a typing error shows."""
    steps: list[Step] = []
    for name, argument in _DIRECTIVE.findall(prompt):
        steps.extend(_parse_directive(name, argument))
    return steps


def _parse_directive(name: str, argument: str) -> Iterator[Step]:
    if name == "say":
        yield from (Say(word) for word in words_of(argument))
    elif name == "repeat":
        count, text = argument.split(" ", 1)
        yield from [Say(text)] * int(count)
    elif name in _DIRECTIVES:
        yield _DIRECTIVES[name](argument)
    else:
        yield Say(f"(unknown directive {name!r})")


def _parse_tool(argument: str) -> Tool:
    name, arguments = argument.split(" ", 1)
    return Tool(name, json.loads(arguments))


def _parse_error(argument: str) -> Fail:
    status, _, times = argument.partition(" x")
    return Fail(int(status), int(times or 0))


#: Directives that are one step each.
_DIRECTIVES: Mapping[str, Callable[[str], Step]] = {
    "blob": lambda argument: Blob(int(argument)),
    "think": Think,
    "delay": lambda argument: Delay(float(argument)),
    "pace": lambda argument: Pace(float(argument)),
    "tool": _parse_tool,
    "error": _parse_error,
    "hang": lambda _: Hang(),
    "cut": lambda _: Cut(),
}


def words_of(text: str) -> list[str]:
    """The words of a text, each with the space before it."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", text)
