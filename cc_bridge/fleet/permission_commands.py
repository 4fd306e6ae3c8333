"""Shell commands, as far as a permission rule can judge them. Sans-I/O.

A rule allows simple commands, and a command line only if it is nothing but a list of those. So a line is read by a
grammar that has what cannot surprise: words, quotes without expansion, the operators between commands, and
redirections that write nowhere. Whatever else there is in a shell (``$``, backquotes, brackets, comments, here
documents, backslashes outside quotes) makes the line one that no rule allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["LONGEST_COMMAND", "MOST_COMMANDS", "CommandLine", "matches", "simple_commands"]

#: Characters and commands of a line that is looked at: each command is compared with each rule.
LONGEST_COMMAND = 16 * 1024
MOST_COMMANDS = 100

_END = r"(?=[ \t\n;&|]|\Z)"
#: Bash's grammar, POSIX 2.3 "Token Recognition", without what expands or opens something. ``\s`` has Unicode's blanks,
#: which some shells take for blanks and others for letters.
_TOKEN = re.compile(
    rf"""(?P<nowhere>(?:[0-9]|&)?>>?[ ]?/dev/null{_END}|[0-9]?>&[0-9]{_END}|<[ ]?/dev/null{_END})
    |(?P<operator>&&|\|\||\|&|[;|&\n])
    |(?P<word>[A-Za-z0-9_.,:/=@%+~^*?!\[\]-]+
        |[^\x00-\x7f\s\ud800-\udfff\x80-\x9f]+
        |'[^'\x00-\x08\x0b-\x1f\x7f]*'
        |"(?:[^"\\$`\x00-\x08\x0b-\x1f\x7f]|\\[^\n])*"
        |[ \t]+)""",
    re.VERBOSE,
)

_OPERATORS = re.compile(r"[;&|\n\r(){}`$<>]+")
_QUOTES = re.compile(r"[;&|\n\r(){}`$<>\"']+")

#: Words that run the command after them, and what may stand between.
_WRAPPERS = frozenset(
    (
        *("!", "do", "elif", "else", "if", "then", "until", "while"),
        *("builtin", "command", "coproc", "eval", "exec", "time"),
        *("doas", "env", "nice", "nohup", "setsid", "stdbuf", "sudo", "timeout", "xargs"),
    )
)
_BETWEEN = re.compile(r"-\S*\Z|\d\S*\Z|\w+=\S*\Z")
_MOST_WRAPPERS = 8


def simple_commands(line: str) -> list[str] | None:
    """The commands of a line, each as it is written but for redirections; None: it cannot be judged."""
    commands, here, at = [], "", 0
    while at < len(line):
        token = _TOKEN.match(line, at)
        if token is None:
            return None
        if token["operator"]:
            commands.append(here)
            here = ""
        else:
            here += token["word"] or " "
        at = token.end()
    found = [command.strip(" \t") for command in (*commands, here)]
    return [command for command in found if command] or None


@dataclass(frozen=True)
class CommandLine:
    """A line that was read.

    Attributes:
        simple: as :func:`simple_commands` has it.
        possible: what it runs, for a rule that forbids: without quotes, and rather too much if it cannot be judged.
        quoted: what it runs if it also runs what is quoted, by ``bash -c`` say.
    """

    simple: tuple[str, ...] | None
    possible: frozenset[str]
    quoted: frozenset[str]

    @classmethod
    def read(cls, text: str) -> CommandLine | None:
        """Read a line; None: it is too long, or has too many commands."""
        if len(text) > LONGEST_COMMAND:
            return None
        simple, quoted = simple_commands(text), _QUOTES.split(text)
        pieces = simple or _OPERATORS.split(text)
        if max(len(pieces), len(quoted)) > MOST_COMMANDS:
            return None
        possible, within = frozenset(_candidates(pieces)), frozenset(_candidates(quoted))
        return cls(tuple(simple) if simple else None, possible, within)


def _candidates(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        words = re.sub(r"[\"'\\]", "", piece).split()
        for skipped in range(_MOST_WRAPPERS):
            if not words[skipped:]:
                break
            program = words[skipped].rpartition("/")[2]
            rest = " ".join(words[skipped + 1 :])
            yield f"{program} {rest}".rstrip()
            yield " ".join(words[skipped:])
            if program not in _WRAPPERS and not _BETWEEN.match(words[skipped]):
                break


def matches(pattern: str, command: str) -> bool:
    """Whether a rule's pattern covers a simple command: ``*`` is any text, and ``:*`` or `` *`` at the end the rest."""
    if pattern.endswith(":*"):
        pattern = f"{pattern[:-2]} *"
    if pattern.endswith(" *") and _glob(pattern[:-2], command):
        return True
    return _glob(pattern, command)


def _glob(pattern: str, text: str) -> bool:
    first, *others = pattern.split("*")
    if not others:
        return text == first
    *between, last = others
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in between:  # the first place is as good as any: what follows may only need more room
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
