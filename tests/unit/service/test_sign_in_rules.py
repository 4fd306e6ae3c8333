"""What people may do who sign in by an identity provider."""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge.service.identities import Limits
from cc_bridge.service.sign_in_rules import Rule, person_of, rule_for

ISSUER = "https://id.test"
RULES = [
    Rule.of({"email": ["Ann@Example.com"], "scopes": ["read", "manage"], "instances": ["ann-*"], "at_once": 2}),
    Rule.of({"group": ["admins"], "scopes": ["manage"]}),
    Rule.of({"email_domain": ["@Example.com", "example.org"], "scopes": ["read"], "projects": ["shop"]}),
]


def allowed(**claims: Any) -> Rule | None:
    return rule_for(person_of({"sub": "s", **claims}, ISSUER, "groups"), RULES)


def verified(email: str) -> dict[str, Any]:
    return {"email": email, "email_verified": True}


def test_the_first_rule_that_is_for_somebody_holds() -> None:
    assert allowed(**verified("ANN@example.COM"), groups=["admins"]) == RULES[0]
    assert allowed(**verified("bob@example.com"), groups=["admins"]) == RULES[1]
    assert allowed(**verified("bob@example.com"), groups=["others"]) == RULES[2]
    assert allowed(groups="admins") == RULES[1]
    assert (RULES[0].instances, RULES[0].limits) == (("ann-*",), Limits(at_once=2))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"email": "ann@example.com"},
        {"email": "ann@example.com", "email_verified": False},
        {"email": "ann@example.com", "email_verified": "true"},
        {"email": "ann@example.com", "email_verified": 1},
        verified("ann@example.com.evil.test"),
        verified("ann@evil.test@example.com"),
        verified("@example.com"),
        verified("bob@sub.example.com"),
        verified("bob@notexample.com"),
        verified("bob@example.com\n"),
        verified("\u212aate@example.com"),  # the sign for Kelvin, which is a k in lower case
        verified("bob@\u0435xample.com"),
        {"email": ["ann@example.com"], "email_verified": True},
        {"groups": ["Admins", ["admins"], None]},
        {"groups": {"admins": True}},
    ],
)
def test_nobody_else_may_do_anything(claims: dict[str, Any]) -> None:
    assert allowed(**claims) is None


@pytest.mark.parametrize("subject", [None, "", 7, "a b", "é", "x" * 256, "a\n"])
def test_who_is_nobody_is_refused(subject: Any) -> None:
    with pytest.raises(ValueError, match="subject"):
        person_of({"sub": subject}, ISSUER, "groups")


def test_people_are_called_by_what_is_verified() -> None:
    claims = {"sub": "s", "name": "Somebody else", "email": "boss@example.com"}
    assert person_of(claims, ISSUER, "groups").name == "s"
    assert person_of(claims | {"email_verified": True}, ISSUER, "groups").name == "boss@example.com"
    assert len(person_of({"sub": "x" * 255}, ISSUER, "groups").name) == 200  # as many as a token's may have
