"""Who somebody is by what an identity provider says of them, and what they may do here. Sans-I/O.

Nobody may do anything unless a rule says so. What a provider has not verified says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..values import Value
from .identities import NO_LIMITS, Limits, Scope

__all__ = ["Person", "Rule", "person_of", "rule_for"]

#: OpenID Connect Core 1.0, section 2: at most 255 ASCII characters.
_SUBJECT = re.compile(r"[!-~]{1,255}")

#: ASCII only: letters of other alphabets look like these, and some become them in lower case.
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,135}")


class Person(Value):
    """Somebody who has signed in.

    Attributes:
        subject: who it is, as ``ISSUER SUBJECT``; stays the same whatever they are called.
        email: in lower case; empty: none that the provider has verified.
        groups: as the provider spells them.
    """

    subject: str
    email: str = ""
    groups: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """What they are called here. Names that people give themselves are not: they could be another's."""
        return (self.email or self.subject.rpartition(" ")[2])[:200]


class Rule(Value):
    """What people may do of whom one of these is true.

    Attributes:
        email, email_domain: addresses, and what stands behind their ``@``; in any case.
        group: names, as the provider spells them.
        instances, projects: patterns, as those of tokens; both empty: all instances.
    """

    scopes: frozenset[Scope]
    email: tuple[str, ...] = ()
    email_domain: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS

    @classmethod
    def of(cls, configured: Mapping[str, Any]) -> Rule:
        """The rule of an entry of ``[[service.oidc.people]]``."""
        limits = Limits(configured.get("commands_per_minute"), configured.get("at_once"))
        names = ("email", "email_domain", "group", "instances", "projects")
        lists = {name: tuple(configured.get(name, ())) for name in names}
        return cls(frozenset(configured["scopes"]), **lists, limits=limits)

    def is_for(self, person: Person) -> bool:
        """Whether it says something of this person."""
        _, _, domain = person.email.rpartition("@")
        return (
            (person.email != "" and person.email in [address.lower() for address in self.email])
            or (domain != "" and domain in [name.lower().removeprefix("@") for name in self.email_domain])
            or bool(person.groups.intersection(self.group))
        )


def person_of(claims: Mapping[str, Any], issuer: str, groups_claim: str) -> Person:
    """Who is described by the claims of an ID token.

    Args:
        claims: verified to be the issuer's; otherwise whatever it likes.

    Raises:
        ValueError: nobody: the subject is none.
    """
    subject, email, groups = claims.get("sub"), claims.get("email"), claims.get(groups_claim)
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise ValueError("the subject is none that OpenID Connect allows")
    is_verified = claims.get("email_verified") is True  # a text or a number is not what the standard has
    if not (is_verified and isinstance(email, str) and _EMAIL.fullmatch(email)):
        email = ""
    named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    return Person(f"{issuer} {subject}", email.lower(), frozenset(name for name in named if isinstance(name, str)))


def rule_for(person: Person, rules: Iterable[Rule]) -> Rule | None:
    """The first that is for this person; None: they may do nothing."""
    return next((rule for rule in rules if rule.is_for(person)), None)
