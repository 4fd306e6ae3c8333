"""What an instance's permission rules say of a request: the declarative part of the policies.

Deny comes before ask and ask before allow, as Claude Code has it. The two sides err to the same side: a rule that
forbids holds where it may hold, one that allows only where nothing can make it untrue; and where nobody can say
whether a rule forbids, somebody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidInput
from ..events import PermissionRequest
from ..instance import ClaudeInstance
from ..instances.registry import Registry
from ..permission_rules import EDITS, READS, PermissionRules, Rule, parse_rule
from .permission_commands import LONGEST_COMMAND, matches, possible_commands, quoted_commands, simple_commands
from .permission_paths import Place, covers

__all__ = ["Rules", "Ruling", "allow_always", "kept_rules", "suggested_rules"]

#: A URL whose host no two programs read differently: no user, no escapes, no backslash.
_URL = re.compile(r"https?://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)\.?(?::[0-9]{1,5})?(?:[/?#][!-\[\]-~]*)?\Z")
_LONGEST_URL = 8192

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
    def of(cls, record: ClaudeInstance) -> Rules:
        """Those of a record."""
        return cls(record.rules, Place.of(record))

    def decide(self, request: PermissionRequest) -> Ruling | None:
        """What they say of a request; None: nothing. Takes time in proportion to the request, up to its limits."""
        doubtful: Rule | None = None
        rulings: tuple[tuple[list[Rule], Literal["deny", "ask"]], ...] = ((self._deny, "deny"), (self._ask, "ask"))
        for rules, behaviour in rulings:
            for rule in rules:
                forbids = self._forbids(rule, request)
                if forbids:
                    return Ruling(behaviour, rule.text)
                if forbids is None:
                    doubtful = doubtful or rule
        if doubtful is not None:
            return Ruling("ask", doubtful.text, doubt=True)
        return self._allowed(request)

    def would_allow(self, texts: Sequence[str], request: PermissionRequest) -> bool:
        """Whether a request would be allowed if there were these rules and no others.

        Raises:
            ValueError: one of them is no rule.
        """
        return Rules(PermissionRules(tuple(texts)), self._place)._allowed(request) is not None

    def _allowed(self, request: PermissionRequest) -> Ruling | None:
        rules = [rule for rule in self._allow if _names(rule.tool, request.tool_name)]
        for rule in rules:
            if not rule.specifier or self._allows(rule, request):
                return Ruling("allow", rule.text)
        if request.tool_name == "Bash" and (used := _allowed_by_parts(rules, request.input)):
            return Ruling("allow", ", ".join(dict.fromkeys(used)))
        return None

    def _allows(self, rule: Rule, request: PermissionRequest) -> bool:
        given = request.input
        if request.tool_name == "Bash":
            return not _outside_the_sandbox(given) and given.get("command") == rule.specifier
        if request.tool_name == "WebFetch":
            return _is_of_domain(rule.specifier, _host(given))
        path = _path(request.tool_name, given)
        if path is None or not _stays_beneath(given, request.tool_name):
            return False
        tree = request.tool_name in _SEARCHES
        return covers(rule.specifier, path, self._place, cautious=False, tree=tree) is True

    def _forbids(self, rule: Rule, request: PermissionRequest) -> bool | None:
        """None: nobody can say."""
        if not _names(rule.tool, request.tool_name):
            return False
        if not rule.specifier:
            return True
        given = request.input
        if request.tool_name == "Bash":
            return _forbids_command(rule.specifier, given.get("command"))
        if request.tool_name == "WebFetch":
            host = _host(given)
            return None if host is None else _is_of_domain(rule.specifier, host)
        path = _path(request.tool_name, given)
        if request.tool_name in _SEARCHES:  # it reads what is beneath its path, too
            found = None if path is None else covers(rule.specifier, path, self._place, cautious=True)
            return found or None
        return None if path is None else covers(rule.specifier, path, self._place, cautious=True)


def _names(rule: str, tool: str) -> bool:
    """Whether a rule's tool is this one: ``Edit`` is whatever edits, ``mcp__server`` all tools of that server."""
    if rule == tool or (rule == "Edit" and tool in EDITS) or (rule == "Read" and tool in READS):
        return True
    if not rule.startswith("mcp__"):
        return False
    return tool.startswith(rule[:-1]) if rule.endswith("*") else "__" not in rule[5:] and tool.startswith(f"{rule}__")


def _allowed_by_parts(rules: list[Rule], given: Mapping[str, Any]) -> list[str]:
    """The rules that allow each command of a line; empty: not each is allowed."""
    line = given.get("command")
    commands = simple_commands(line) if isinstance(line, str) and not _outside_the_sandbox(given) else None
    used = []
    for command in commands or ():
        rule = next((rule for rule in rules if rule.specifier and matches(rule.specifier, command)), None)
        if rule is None:
            return []
        used.append(rule.text)
    return used


def _outside_the_sandbox(given: Mapping[str, Any]) -> bool:
    return bool(given.get("dangerouslyDisableSandbox"))


def _forbids_command(pattern: str, line: object) -> bool | None:
    if not isinstance(line, str) or len(line) > LONGEST_COMMAND:
        return None
    if any(matches(pattern, command) for command in possible_commands(line)):
        return True
    doubt = simple_commands(line) is None or any(matches(pattern, command) for command in quoted_commands(line))
    return None if doubt else False


def _path(tool: str, given: Mapping[str, Any]) -> str | None:
    name = "notebook_path" if tool.startswith("Notebook") else "path" if tool in _SEARCHES else "file_path"
    found = given.get(name)
    return found if isinstance(found, str) and found and "\0" not in found else None


def _stays_beneath(given: Mapping[str, Any], tool: str) -> bool:
    """Whether a search's own pattern does not lead out of the directory that it names."""
    pattern = given.get("pattern") if tool == "Glob" else ""
    return isinstance(pattern, str) and not pattern.startswith(("/", "~")) and ".." not in pattern


def _host(given: Mapping[str, Any]) -> str | None:
    """The host of a URL; None: programs may differ about it."""
    url = given.get("url")
    found = _URL.match(url) if isinstance(url, str) and len(url) <= _LONGEST_URL else None
    return found[1].lower() if found else None


def _is_of_domain(specifier: str, host: str | None) -> bool:
    domain = specifier.removeprefix("domain:").lower()
    if host is None:
        return False
    return host.endswith(domain[1:]) if domain.startswith("*.") else host == domain


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


def kept_rules(registry: Registry) -> Callable[[str], Rules]:
    """Finds the rules of an instance in its record, as it is at that moment."""
    return lambda instance: Rules.of(registry.load(instance))


def allow_always(registry: Registry) -> Callable[[str, str], None]:
    """Writes a rule that allows into an instance's record."""

    def write(instance: str, rule: str) -> None:
        try:
            parse_rule(rule)
        except ValueError as error:
            raise InvalidInput(str(error), instance=instance) from None
        registry.change(instance, lambda kept: {"rules": kept.rules.allowing(rule)})

    return write
