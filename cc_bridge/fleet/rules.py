"""What an instance's permission rules say of a request: the declarative part of the policies.

Deny comes before ask and ask before allow, as Claude Code has it. The two sides err to the same side: a rule that
forbids holds where it may hold, one that allows only where nothing can make it untrue; and where nobody can say
whether a rule forbids, somebody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..errors import InvalidInput
from ..events import PermissionRequest
from ..instances.registry import Registry
from ..permission_rules import EDITS, READS, PermissionRules, Rule, parse_rule
from ..record import ClaudeInstance
from .permission_commands import CommandLine, matches
from .permission_paths import Place, Target

__all__ = ["Rules", "Ruling", "allow_always", "kept_rules", "suggested_rules"]

#: A URL whose host no two programs read differently: no user, no escapes, no backslash.
_URL = re.compile(r"https?://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)\.?(?::[0-9]{1,5})?(?:[/?#][!-\[\]-~]*)?\Z")
_LONGEST_URL = 8192

#: Of an IPv4 address: a part in any spelling (``127.1``, ``2130706433`` and ``0x7f.1`` are 127.0.0.1), and the one
#: spelling that all programs read alike.
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})\Z")

_SEARCHES = frozenset({"Glob", "Grep", "LS"})


@dataclass(frozen=True)
class Ruling:
    """What the rules say.

    Attributes:
        rule: which rule it was.
        doubt: nobody could say whether the rule forbids this.
    """

    behaviour: Literal["allow", "ask", "deny"]
    rule: str
    doubt: bool = False


class Rules:
    """The rules of an instance.

    Args:
        texts: as its record has them.
        place: where its tools work.
    """

    def __init__(self, texts: PermissionRules, place: Place) -> None:
        self._place = place
        self._allow = [parse_rule(text) for text in texts.allow]
        self._ask = [parse_rule(text) for text in texts.ask]
        self._deny = [parse_rule(text) for text in texts.deny]

    @classmethod
    def of(cls, record: ClaudeInstance, *, engine_is_here: bool = False) -> Rules:
        """Those of a record; :meth:`.permission_paths.Place.of` says what ``engine_is_here`` is."""
        return cls(record.rules, Place.of(record, engine_is_here=engine_is_here))

    def decide(self, request: PermissionRequest) -> Ruling | None:
        """What they say of a request; None: nothing. Its length costs little: what is too long is asked for."""
        call = _Call(request, self._place)
        doubtful: Rule | None = None
        rulings: tuple[tuple[list[Rule], Literal["deny", "ask"]], ...] = ((self._deny, "deny"), (self._ask, "ask"))
        for rules, behaviour in rulings:
            for rule in rules:
                forbids = _names(rule.tool, call.tool) and (not rule.specifier or call.is_forbidden_by(rule.specifier))
                if forbids:
                    return Ruling(behaviour, rule.text)
                if forbids is None:
                    doubtful = doubtful or rule
        if doubtful is not None:
            return Ruling("ask", doubtful.text, doubt=True)
        return self._allowed(call)

    def would_allow(self, texts: Sequence[str], request: PermissionRequest) -> bool:
        """Whether a request would be allowed if there were these rules and no others.

        Raises:
            ValueError: one of them is no rule.
        """
        return Rules(PermissionRules(tuple(texts)), self._place)._allowed(_Call(request, self._place)) is not None

    def _allowed(self, call: _Call) -> Ruling | None:
        rules = [rule for rule in self._allow if _names(rule.tool, call.tool)]
        for rule in rules:
            if not rule.specifier or call.is_allowed_by(rule.specifier):
                return Ruling("allow", rule.text)
        if used := call.parts_allowed_by(rules):
            return Ruling("allow", ", ".join(dict.fromkeys(used)))
        return None


class _Call:
    """A use of a tool, read once for all rules."""

    def __init__(self, request: PermissionRequest, place: Place) -> None:
        self.tool = request.tool_name
        self._given = request.input
        self._place = place

    def is_allowed_by(self, specifier: str) -> bool:
        """Whether a rule's specifier covers it, as a whole."""
        if self.tool == "Bash":
            return self._in_the_sandbox and self._given.get("command") == specifier
        if self.tool == "WebFetch":
            return self._host is not None and _is_of_domain(specifier, self._host)
        if self._target is None or not self._stays_beneath:
            return False
        return self._target.is_covered_by(specifier, tree=self.tool in _SEARCHES)

    def parts_allowed_by(self, rules: list[Rule]) -> list[str]:
        """The rules that allow each command of a line; empty: not each is allowed."""
        if self._line is None or not self._in_the_sandbox:
            return []
        used = []
        for command in self._line.simple or ():
            rule = next((rule for rule in rules if matches(rule.specifier, command)), None)
            if rule is None:
                return []
            used.append(rule.text)
        return used

    def is_forbidden_by(self, specifier: str) -> bool | None:
        """Whether a rule's specifier may cover it; None: nobody can say."""
        if self.tool == "Bash":
            return self._runs(specifier)
        if self.tool == "WebFetch":
            return None if self._host is None else _may_be_of_domain(specifier, self._host)
        covered = None if self._target is None else self._target.may_be_covered_by(specifier)
        return covered or None if self.tool in _SEARCHES else covered  # a search reads what is beneath, too

    def _runs(self, pattern: str) -> bool | None:
        if self._given.get("command") == pattern:
            return True
        return None if self._line is None else self._line.may_run(pattern)

    @cached_property
    def _line(self) -> CommandLine | None:
        text = self._given.get("command") if self.tool == "Bash" else None
        return CommandLine.read(text) if isinstance(text, str) else None

    @property
    def _in_the_sandbox(self) -> bool:
        return not self._given.get("dangerouslyDisableSandbox")

    @cached_property
    def _host(self) -> str | None:
        """The host of a URL; None: programs may differ about it."""
        url = self._given.get("url")
        found = _URL.match(url) if isinstance(url, str) and len(url) <= _LONGEST_URL else None
        return found[1].lower() if found else None

    @cached_property
    def _target(self) -> Target | None:
        name = "path" if self.tool in _SEARCHES else "notebook_path" if "Notebook" in self.tool else "file_path"
        path = self._given.get(name)
        return Target(path, self._place) if isinstance(path, str) and path and "\0" not in path else None

    @property
    def _stays_beneath(self) -> bool:
        """Whether a search's own pattern does not lead out of the directory that it names."""
        pattern = self._given.get("pattern") if self.tool == "Glob" else ""
        return isinstance(pattern, str) and not pattern.startswith(("/", "~")) and ".." not in pattern


def _names(rule: str, tool: str) -> bool:
    """Whether a rule's tool is this one: ``Edit`` is whatever edits, ``mcp__server`` all tools of that server."""
    if rule == tool or (rule == "Edit" and tool in EDITS) or (rule == "Read" and tool in READS):
        return True
    if not rule.startswith("mcp__"):
        return False
    return tool.startswith(rule[:-1]) if rule.endswith("*") else "__" not in rule[5:] and tool.startswith(f"{rule}__")


def _is_of_domain(specifier: str, host: str) -> bool:
    domain = specifier.removeprefix("domain:").lower()
    return host.endswith(domain[1:]) if domain.startswith("*.") else host == domain


def _may_be_of_domain(specifier: str, host: str) -> bool | None:
    """For a rule that forbids; None: both are addresses, and one of them may be the other in another spelling."""
    if _is_of_domain(specifier, host):
        return True
    domain = specifier.removeprefix("domain:").lower()
    if not (_is_address(domain) and _is_address(host)) or (_QUAD.match(domain) and _QUAD.match(host)):
        return False
    return None


def _is_address(host: str) -> bool:
    """Whether a URL's host is an IPv4 address in any spelling: its last part is a number (URL Standard, 3.6)."""
    return _NUMBER.match(host.rpartition(".")[2]) is not None


def suggested_rules(request: PermissionRequest) -> list[str]:
    """The rules that Claude Code suggests for a request, as texts; those that are no rules of ours are left out."""
    found = []
    for suggestion in request.suggestions:
        if not isinstance(suggestion, Mapping) or suggestion.get("type") != "addRules":
            continue
        if suggestion.get("behavior") != "allow" or not isinstance(suggestion.get("rules"), list):
            continue
        for rule in suggestion["rules"][:_MOST_SUGGESTED]:
            if isinstance(rule, Mapping) and isinstance(name := rule.get("toolName"), str):
                content = rule.get("ruleContent")
                found.append(f"{name}({content})" if isinstance(content, str) and content else name)
    return [text for text in found if _is_rule(text)]


#: Rules of one suggestion that are looked at.
_MOST_SUGGESTED = 20


def _is_rule(text: str) -> bool:
    try:
        parse_rule(text)
    except ValueError:
        return False
    return True


def kept_rules(registry: Registry, engine_is_here: Callable[[], bool] = lambda: False) -> Callable[[str], Rules]:
    """Finds the rules of an instance in its record, as it is at that moment.

    Args:
        engine_is_here: whether containers run on this machine; otherwise no path in one is allowed by a pattern.
    """
    return lambda instance: Rules.of(registry.load(instance), engine_is_here=engine_is_here())


def allow_always(registry: Registry) -> Callable[[str, str], None]:
    """Writes a rule that allows into an instance's record."""

    def write(instance: str, rule: str) -> None:
        try:
            parse_rule(rule)
        except ValueError as error:
            raise InvalidInput(str(error), instance=instance) from None
        registry.change(instance, lambda kept: {"rules": kept.rules.allowing(rule)})

    return write
