"""The accounts' file: JSON lines, one for each turn, and for what is long past one for each day.

Lines are appended, so that a kill can tear the last one only: that is cut when the file is opened, and its turn is
noted again by whoever attends the instance. When there are too many, the older half is put together by day, in a new
file that takes the old one's place.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

from ..state import make_private, write_whole

__all__ = ["Book", "Line", "TokenUsage"]

#: Bytes of a line that is read.
_LONGEST_LINE = 64 * 1024

#: What a container may claim of one turn.
_MOST_TOKENS = 2**53
_MOST_USD = 1e9


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What one or more turns have used.

    Attributes:
        input: tokens that were read anew.
        output: tokens that were written.
        cache_read: tokens that came out of the cache.
        cache_write: tokens that were put there.
        cost_usd: US dollars, as Claude Code estimates them.
        turns: how many turns.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost_usd: float = 0.0
    turns: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input + self.output + self.cache_read + self.cache_write

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.cost_usd + other.cost_usd,
            self.turns + other.turns,
        )


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file.

    Attributes:
        day: when its turns were noted; UTC, ISO 8601.
        turn: empty: several turns of that day, put together.
        so_far: what Claude Code had estimated for the session at the end of it.
        saved: what it had when a process of the session's ended in an orderly way for the last time.
        process: which process it was; empty: not known.
    """

    day: str
    instance: str
    project: str
    session: str
    turn: str
    usage: TokenUsage
    so_far: float
    saved: float = 0.0
    process: str = ""


class Book:
    """The file in its directory. It belongs to one writer at a time.

    Attributes:
        damaged: lines that could not be read.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "accounts.jsonl"
        self.damaged = 0

    def prepare(self) -> None:
        """Make the directory, and cut what a kill has torn.

        Raises:
            InvalidInput: the directory cannot be used, or is not this user's alone.
            OSError: the file cannot be.
        """
        make_private(self.path.parent)
        for scratch in self.path.parent.glob("tmp*"):
            scratch.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError), self.path.open("r+b") as file:
            file.truncate(_end_of_last_line(file))

    def load(self) -> Iterator[Line]:
        """All lines that can be read, but for a last one that is not whole. Raises OSError."""
        self.damaged = 0
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            begins_line = True
            while raw := file.readline(_LONGEST_LINE):
                ends_line = raw.endswith(b"\n")
                line = _parse(raw) if begins_line and ends_line else None
                if line is not None:
                    yield line
                elif ends_line:
                    self.damaged += 1
                begins_line = ends_line

    def append(self, line: Line) -> None:
        """Add a line, whole or not at all.

        Raises:
            OSError: it could not be written.
        """
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            before, data = os.fstat(fd).st_size, _text(line)
            try:
                while data:
                    data = data[os.write(fd, data) :]
            except OSError:
                os.ftruncate(fd, before)
                raise
        finally:
            os.close(fd)

    def replace(self, lines: Iterable[Line]) -> None:
        """Put other lines in the place of all, or leave the file as it is.

        Raises:
            OSError: they could not be written.
        """
        write_whole(
            self.path, b"".join(map(_text, lines)), lasting=True
        )  # an empty file would be worse than a long one


def _end_of_last_line(file: BinaryIO) -> int:
    """Where the last line that is whole ends; looked for from the end, because the file may be long."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _LONGEST_LINE)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _text(line: Line) -> bytes:
    of_it = asdict(line)
    return json.dumps({**of_it.pop("usage"), **of_it}).encode() + b"\n"


def _parse(raw: bytes) -> Line | None:
    try:
        kept = json.loads(raw)
        texts = [kept[name] for name in ("day", "instance", "project", "session", "turn", "process")]
        numbers = [kept[name] for name in ("input", "output", "cache_read", "cache_write")]
        day, instance, project, session, turn, process = texts
        date.fromisoformat(day)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(text, str) for text in texts) or [count(number) for number in numbers] != numbers:
        return None
    read, written, cache_read, cache_write = numbers
    usage = TokenUsage(read, written, cache_read, cache_write, dollars(kept.get("cost_usd")), count(kept.get("turns")))
    sums = dollars(kept.get("so_far")), dollars(kept.get("saved"))
    return Line(day, instance, project, session, turn, usage, *sums, process)


def count(value: Any) -> int:
    """A number of tokens or turns as somebody claims it; 0 for what is none."""
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if whole else 0


def dollars(value: Any) -> float:
    """The same for an amount of US dollars."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number and 0 <= value <= _MOST_USD else 0.0
