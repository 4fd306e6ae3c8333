"""What somebody may choose beside Allow and Deny: permissions that last, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..decisions import Allow, Decision
from ..errors import InvalidInput
from ..events import PermissionRequest
from ..instances.activity import Way
from ..instances.open_requests import PendingRequest, answer_request
from ..instances.registry import Registry
from ..permission_rules import parse_rule
from .rules import Rules, allow_always, kept_rules, suggested_rules

__all__ = ["MOST_KEPT", "AllowAlways", "AllowForSession", "answer_pending", "rules_to_keep", "session_updates"]

#: Suggested rules that "always" keeps: as many as somebody reads who is shown them.
MOST_KEPT = 5


@dataclass(frozen=True)
class AllowForSession:
    """Let the tool run, and what a rule covers from now on, until Claude Code's session ends.

    Attributes:
        rule: such as ``Bash(npm run *)``; None: what Claude Code suggests.
    """

    rule: str | None = None


@dataclass(frozen=True)
class AllowAlways:
    """Let the tool run, and what a rule covers in this instance from now on: it is written into the record.

    Attributes:
        rule: such as ``Bash(npm run *)``; it has to cover the request. None: what Claude Code suggests, at most five
            rules.
    """

    rule: str | None = None


def session_updates(instance: str, suggestions: Sequence[Any], rule: str | None) -> tuple[Any, ...]:
    """The updates that Claude Code takes for its session, as :attr:`~cc_bridge.Allow.updates`.

    Args:
        instance: its name, for errors.
        suggestions: Claude Code's.
        rule: None: what it has suggested itself.

    Raises:
        InvalidInput: that is no rule, or it has suggested none.
    """
    if rule is None:
        found = [suggestion for suggestion in suggestions if _can_be_taken(suggestion)]
        if not found:
            raise _nothing_suggested(instance)
        return tuple({**suggestion, "destination": "session"} for suggestion in found)
    try:
        parsed = parse_rule(rule)
    except ValueError as error:
        raise InvalidInput(str(error), instance=instance) from None
    given = {"toolName": parsed.tool, **({"ruleContent": parsed.specifier} if parsed.specifier else {})}
    return ({"type": "addRules", "rules": [given], "behavior": "allow", "destination": "session"},)


def rules_to_keep(instance: str, request: PermissionRequest, rule: str | None, rules: Rules) -> list[str]:
    """What "always" writes into the record.

    Args:
        rule: None: what Claude Code has suggested.
        rules: of the instance, as they are; they say whether the new ones cover the request.

    Raises:
        InvalidInput: none is suggested, or more than :data:`MOST_KEPT`; or what is to be written is no rule, or does
            not cover what is asked.
    """
    texts = [rule] if rule is not None else suggested_rules(request)
    if not texts:
        raise _nothing_suggested(instance)
    if len(texts) > MOST_KEPT:
        what = f"Claude Code has suggested {len(texts)} rules for this, and at most {MOST_KEPT} are kept at once"
        raise InvalidInput(what, instance=instance, hint="Name one, or allow it once.")
    try:
        covered = rules.would_allow(texts, request)
    except ValueError as error:
        raise InvalidInput(str(error), instance=instance) from None
    if not covered:
        what = f"the rule {', '.join(texts)} does not cover what is asked"
        raise InvalidInput(what, instance=instance, hint="Name one that does, or allow it once.")
    return texts


async def answer_pending(
    way: Way,
    registry: Registry,
    pending: PendingRequest,
    choice: Decision | AllowForSession | AllowAlways,
    engine_is_here: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Answer a request that some program waits for, with or without a fleet; see :func:`answer_request`.

    Args:
        engine_is_here: as :func:`.rules.kept_rules` has it.

    Returns:
        The rules that were written into the record.

    Raises:
        InvalidInput: the choice cannot be carried out; nothing was decided.
        BridgeError: as :func:`answer_request`. Or a rule could not be written; then it was allowed once.
    """
    name = pending.instance
    match choice:
        case AllowForSession(rule):
            updates = session_updates(name, pending.request.suggestions, rule)
            await answer_request(way, pending, Allow(updates=updates))
        case AllowAlways(rule):
            texts = rules_to_keep(name, pending.request, rule, kept_rules(registry, engine_is_here)(name))
            await answer_request(way, pending, Allow())
            for text in texts:  # not before: where somebody else was first, nobody has chosen this
                allow_always(registry)(name, text)
            return texts
        case _:
            await answer_request(way, pending, choice)
    return []


def _can_be_taken(suggestion: object) -> bool:
    """It allows by rules, or edits in the workspace: no more than Claude Code suggests, whatever else stands there."""
    if not isinstance(suggestion, Mapping):
        return False
    rules = suggestion.get("type") == "addRules" and suggestion.get("behavior") == "allow"
    return rules or (suggestion.get("type") == "setMode" and suggestion.get("mode") == "acceptEdits")


def _nothing_suggested(instance: str) -> InvalidInput:
    hint = "Name one, such as Bash(npm run *), or allow it once."
    return InvalidInput("Claude Code has suggested no rule for this", instance=instance, hint=hint)
