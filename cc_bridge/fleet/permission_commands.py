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
#: Not glued to a word: of ``'a'2>/dev/null`` a shell makes the word ``a2``, whatever it makes of ``'a'>/dev/null``.
_BEGIN = r"(?<![^ \t\n;&|])"
#: Bash's grammar, POSIX 2.3 "Token Recognition", without what expands or opens something. ``\s`` has Unicode's blanks,
#: which some shells take for blanks and others for letters.
_TOKEN = re.compile(
    rf"""(?P<nowhere>{_BEGIN}(?:(?:[0-9]|&)?>>?[ ]?/dev/null|[0-9]?>&[0-9]|<[ ]?/dev/null){_END})
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
_UNQUOTED = re.compile(r"[\"'\\]")

#: Words that run the command after them, and what may stand between.
_WRAPPERS = frozenset(
    (
        *("!", "do", "elif", "else", "if", "then", "until", "while"),
        *("builtin", "command", "coproc", "eval", "exec", "time"),
        *("doas", "env", "nice", "nohup", "setsid", "stdbuf", "sudo", "timeout", "xargs"),
    )
)
_BETWEEN = re.compile(r"-\S*\Z|\d\S*\Z|[^\s=]+=\S*\Z")
_MOST_WRAPPERS = 8

#: Programs whose arguments, or what they read, are commands, in ways that are not read here: nobody can say what runs.
_OPAQUE = frozenset(
    (
        *("ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh"),
        *(".", "alias", "coproc", "eval", "source", "trap", "parallel", "xargs"),
        *("at", "batch", "crontab", "expect", "flock", "hyperfine", "script", "screen", "tmux", "unbuffer", "watch"),
        *("chroot", "nsenter", "pkexec", "runuser", "ssh", "su", "systemd-run", "unshare"),
        *("chrt", "ionice", "ltrace", "setarch", "setpriv", "strace", "taskset"),
    )
)
_RUNS = re.compile(r"-(exec|ok)(dir)?\Z")  # find(1)
_UNKNOWN = re.compile(r"[*?\[]")  # the shell puts names of files here
_TESTS = ("[", "[[")
_BLANK = re.compile(r"\s")
_WORD = re.compile(r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|[^\s'"])+""")


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
        understood: it is a list of simple commands, and the program of each is seen: nothing in it runs what is not in
            ``possible``.
    """

    simple: tuple[str, ...] | None
    possible: frozenset[str]
    quoted: frozenset[str]
    understood: bool

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
        understood = simple is not None and all(map(_is_understood, simple))
        return cls(tuple(simple) if simple else None, possible, within, understood)

    def may_run(self, pattern: str) -> bool | None:
        """Whether it runs what a rule's pattern covers; None: nobody can say."""
        literal = " ".join(_UNQUOTED.sub("", pattern).split())
        if any(matches(one, command) for one in {pattern, literal} for command in self.possible):
            return True
        if not self.understood or any(matches(literal, command) for command in self.quoted):
            return None
        return None if any(_resembles(literal, command) for command in self.possible) else False


def _is_understood(command: str) -> bool:
    """Whether the program of a simple command is seen. What it does then by itself, nobody sees."""
    words = [_UNQUOTED.sub("", word) for word in _WORD.findall(command)]
    for skipped, word in enumerate(words[:_MOST_WRAPPERS]):
        program = word.rpartition("/")[2]
        between = _BETWEEN.match(word)
        if (
            program in _OPAQUE
            or _BLANK.search(word)
            or (_UNKNOWN.search(word) and program not in _TESTS and not between)
        ):
            return False
        if program in _WRAPPERS:
            if words[skipped + 1 :] and words[skipped + 1].startswith("-"):
                return False  # an option may take words of its own
        elif not between:
            return program != "find" or not any(map(_RUNS.match, words))
    return len(words) < _MOST_WRAPPERS


def _resembles(pattern: str, command: str) -> bool:
    """Whether a command of the pattern's program may be covered by it: options come first, or files' names."""
    wanted = pattern.removesuffix(":*").partition("*")[0].split()
    if len(wanted) < 2 or wanted[0] != command.partition(" ")[0]:
        return False
    words = command.split()
    if len(words) < 2:
        return False
    if words[1].startswith("-") and any(_may_be(wanted[1], word) for word in words[2:]):
        return True
    for want, word in zip(wanted, words, strict=False):
        if _UNKNOWN.search(word) or not word.startswith(want):
            return _UNKNOWN.search(word) is not None and _may_be(want, word)
    return False


def _may_be(wanted: str, word: str) -> bool:
    known = _UNKNOWN.split(word)[0]
    return known.startswith(wanted) or (known != word and wanted.startswith(known))


def _candidates(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        words = _UNQUOTED.sub("", piece).split()
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
