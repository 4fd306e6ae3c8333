"""Permission rules as texts, in Claude Code's own notation: ``Bash(git status:*)``, ``Read(./src/**)``.

What is checked here is their syntax; :mod:`cc_bridge.fleet.rules` applies them. Claude Code's documentation of them is
at https://code.claude.com/docs/en/permissions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EDITS", "READS", "PermissionRules", "Rule", "parse_rule"]

#: Tools whose path a rule for ``Edit`` covers, and one for ``Read``.
EDITS = frozenset({"Edit", "Write", "MultiEdit", "NotebookEdit"})
READS = frozenset({"Read", "NotebookRead", "Glob", "Grep", "LS"})

#: Characters of a rule, and rules of a list: each request is compared with all of them.
_LONGEST = 500
_MOST = 200

_RULE = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*|mcp__[A-Za-z0-9_.-]+\*)(?:\(([^\x00-\x1f\x7f]+)\))?\Z")
_DOMAIN = re.compile(r"domain:(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """A rule that was read.

    Attributes:
        tool: the tool's name; of an MCP server's tools, it may end with ``*``.
        specifier: what is in brackets; empty: every use of the tool.
    """

    text: str
    tool: str
    specifier: str


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        ValueError: says what is wrong with it.
    """
    found = _RULE.match(text) if len(text) <= _LONGEST else None
    if found is None:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise ValueError(f"{shown!r} is no permission rule; one is Tool or Tool(specifier), such as Bash(git status:*)")
    tool, specifier = found[1], found[2] or ""
    if specifier == "*":
        specifier = ""
    if specifier and (problem := _problem(tool, specifier)):
        raise ValueError(f"the permission rule {text!r}: {problem}")
    return Rule(text, tool, specifier)


def _problem(tool: str, specifier: str) -> str:
    if tool == "Bash":
        at = specifier.find(":*")
        if at == 0:
            return "write Bash for every command"
        return "':*' stands at the end" if 0 < at < len(specifier) - 2 else ""
    if tool in EDITS | READS:
        return "a path may not have '..'" if ".." in specifier.split("/") else ""
    if tool == "WebFetch":
        return "" if _DOMAIN.match(specifier) else "write domain:example.org, or domain:*.example.org"
    return f"nothing may stand in brackets for {tool}: use its name alone"


@dataclass(frozen=True)
class PermissionRules:
    """What an instance may do without asking, what somebody is asked for, and what is denied.

    ``deny`` comes before ``ask``, and ``ask`` before ``allow``, as in Claude Code, however specific the rules are.
    """

    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for texts in (self.allow, self.ask, self.deny):
            if len(texts) > _MOST:
                raise ValueError(f"at most {_MOST} permission rules of a kind, not {len(texts)}")
            for text in texts:
                parse_rule(text)

    def __le__(self, other: PermissionRules) -> bool:
        """Whether the other has all of these."""
        pairs = ((self.allow, other.allow), (self.ask, other.ask), (self.deny, other.deny))
        return all(set(mine) <= set(theirs) for mine, theirs in pairs)

    def allowing(self, text: str) -> PermissionRules:
        """The same with one more that allows.

        Raises:
            ValueError: it is no rule.
        """
        return self if text in self.allow else PermissionRules((*self.allow, text), self.ask, self.deny)
