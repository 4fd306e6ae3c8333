"""Tokens: who may do what. Their secrets are not kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, get_args

from sqlalchemy import ColumnElement, Row, and_, insert, or_, select, update

from ...errors import InvalidInput
from ...names import new_uuid
from ...values import Value
from ..identities import NO_LIMITS, Limits, Scope
from .engine import Database
from .schema import tokens
from .types import checked_text

__all__ = ["Token", "Tokens", "checked_token", "hash_of", "is_usable", "new_secret", "row_of", "token_of"]

_PREFIX = "ccb_"
_SECRET = re.compile(r"\Accb_[A-Za-z0-9_-]{43}\Z")

_SCOPES = frozenset(get_args(Scope))

#: Characters of an address and of a person's id, which OpenID Connect bounds at 255.
_LONGEST_SUBJECT = 2500

#: How many patterns of instances or projects a token may have.
_MOST_PATTERNS = 100


class Token(Value):
    """Who has the secret of this may do what the scopes say, with the instances that the patterns match.

    Attributes:
        id: for logs and lists; no secret.
        name: what a person calls it.
        instances, projects: patterns, as a shell has them; one that matches is enough. Both empty: all instances.
        expires: when it ends, UTC; None: never.
        revoked: when somebody ended it, UTC.
        subject: the person who has signed in at an identity provider, as ``ISSUER SUBJECT``; None: it is no person's.
            Nobody has the secret of such a token.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    instances: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    created: datetime = datetime.fromtimestamp(0, UTC)
    expires: datetime | None = None
    revoked: datetime | None = None
    subject: str | None = None


class Tokens:
    """The tokens of a service. All methods raise :class:`StoreUnavailable` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(
        self,
        name: str,
        scopes: Iterable[Scope],
        instances: Iterable[str] = (),
        projects: Iterable[str] = (),
        expires: datetime | None = None,
        limits: Limits = NO_LIMITS,
    ) -> tuple[Token, str]:
        """A new token, and its secret, which nobody can read again.

        Raises:
            InvalidInput: there is no such scope, or something is no text, too long or too small.
        """
        token = checked_token(name, scopes, instances, projects, expires, limits)
        secret = new_secret()
        async with self._database.writing() as connection:
            await connection.execute(insert(tokens).values({**row_of(token), "hash": hash_of(secret)}))
        return token, secret

    async def find(self, secret: str, now: datetime | None = None) -> Token | None:
        """The token of this secret, if it has neither expired nor been revoked; else None."""
        if not _SECRET.match(secret):
            return None
        statement = select(tokens).where(tokens.c.hash == hash_of(secret), is_usable(now or datetime.now(UTC)))
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).first()
        return token_of(row) if row else None

    async def get(self, token: str) -> Token | None:
        """The token of this id, whatever its state; None: there is none."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(tokens).where(tokens.c.id == token))).first()
        return token_of(row) if row else None

    async def list(self) -> list[Token]:
        """All tokens, the oldest first, with those that have expired or were revoked."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(tokens).order_by(tokens.c.created, tokens.c.id))).all()
        return [token_of(row) for row in rows]

    async def revoke(self, token: str) -> bool:
        """End a token, and the page's sessions with it. False: there is none, or it was revoked before."""
        where = and_(tokens.c.id == token, tokens.c.revoked.is_(None))
        async with self._database.writing() as connection:
            statement = update(tokens).where(where).values(revoked=datetime.now(UTC))
            return (await connection.execute(statement)).rowcount == 1


def hash_of(secret: str) -> str:
    """What is kept of a secret. It is 32 random bytes, which nobody can guess: no salt and no slow hash are needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_secret() -> str:
    """One that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(32)


def checked_token(
    name: str,
    scopes: Iterable[Scope],
    instances: Iterable[str] = (),
    projects: Iterable[str] = (),
    expires: datetime | None = None,
    limits: Limits = NO_LIMITS,
    subject: str | None = None,
) -> Token:
    """A token that a database can keep, with an id of its own.

    Raises: as :meth:`Tokens.make`.
    """
    return Token(
        id=new_uuid(),
        name=checked_text("the token's name", name),
        scopes=_checked_scopes(scopes),
        instances=_checked_patterns("instances", instances),
        projects=_checked_patterns("projects", projects),
        limits=limits.checked(),
        created=datetime.now(UTC),
        expires=_checked_moment(expires),
        subject=subject if subject is None else checked_text("the subject", subject, _LONGEST_SUBJECT),
    )


def row_of(token: Token) -> dict[str, Any]:
    """A token as the table has it, without the hash of its secret."""
    lists = {"scopes": sorted(token.scopes), "instances": list(token.instances), "projects": list(token.projects)}
    row = {**token.as_dict(), **lists, **token.limits.as_dict()}
    del row["limits"]
    return row


def is_usable(now: datetime) -> ColumnElement[bool]:
    """For a query: the token has neither expired nor been revoked."""
    return and_(tokens.c.revoked.is_(None), or_(tokens.c.expires.is_(None), tokens.c.expires > now))


def token_of(row: Row[Any]) -> Token:
    """The token of a row."""
    return Token(
        id=row.id,
        name=row.name,
        scopes=frozenset(row.scopes),
        instances=tuple(row.instances),
        projects=tuple(row.projects),
        limits=Limits(row.commands_per_minute, row.at_once),
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
        subject=row.subject,
    )


def _checked_scopes(scopes: Iterable[Scope]) -> frozenset[Scope]:
    chosen = frozenset(scopes)
    if unknown := sorted(set(chosen) - _SCOPES):
        raise InvalidInput(f"{', '.join(unknown)}: no such scope", hint=f"There are {', '.join(sorted(_SCOPES))}.")
    if not chosen:
        raise InvalidInput("a token without a scope may do nothing", hint=f"There are {', '.join(sorted(_SCOPES))}.")
    return chosen


def _checked_patterns(what: str, patterns: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(checked_text(f"a pattern of {what}", pattern) for pattern in patterns)
    if len(chosen) > _MOST_PATTERNS:
        raise InvalidInput(f"a token may have {_MOST_PATTERNS} patterns of {what}, and not {len(chosen)}")
    if "" in chosen:
        raise InvalidInput(f"an empty pattern of {what} matches nothing")
    return chosen


def _checked_moment(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise InvalidInput("when a token expires must be said with its time zone")
    return moment
