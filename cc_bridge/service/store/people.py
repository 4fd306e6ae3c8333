"""People who sign in by an identity provider: each has one token at a time, whose secret nobody has."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Update, and_, insert, select, update

from ..identities import Identity
from .engine import Database
from .schema import tokens
from .tokens import Token, hash_of, new_secret, row_of, token_of

__all__ = ["People"]

#: What of a token says what a person may do.
_RIGHTS = ("scopes", "instances", "projects", "limits")


class People:
    """Who has signed in. All methods raise :class:`StoreUnavailable` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def come(self, wanted: Token) -> tuple[Token, str | None]:
        """A person has signed in: their token gets the name, the rights and the end of this one.

        What they had before stays theirs, by the token's id. After a revocation they get a new one; also where they
        may less than before, so that what they have made with more, such as a webhook, ends with the old one.

        Returns:
            Their token, and the id of the one whose rights were others: the same, or the old one, which is revoked;
            None: they are as they were.
        """
        async with self._database.writing() as connection:
            row = (await connection.execute(select(tokens).where(_is(wanted.subject)))).first()
            if row is None:
                await connection.execute(insert(tokens).values({**row_of(wanted), "hash": hash_of(new_secret())}))
                return wanted, None
            before = token_of(row)
            is_less = not Identity.of(wanted.replace(expires=None)).covers(before)
            if is_less:
                await connection.execute(_revoked(before.id))
                await connection.execute(insert(tokens).values({**row_of(wanted), "hash": hash_of(new_secret())}))
                return wanted, before.id
            token = wanted.replace(id=before.id, created=before.created)
            await connection.execute(update(tokens).where(tokens.c.id == token.id).values(row_of(token)))
        return token, before.id if any(getattr(token, name) != getattr(before, name) for name in _RIGHTS) else None

    async def gone(self, subject: str) -> str | None:
        """A person may sign in no more: revoke their token. Returns its id; None: they had none."""
        async with self._database.writing() as connection:
            row = (await connection.execute(select(tokens.c.id).where(_is(subject)))).first()
            if row is None:
                return None
            await connection.execute(_revoked(row.id))
        return str(row.id)


def _revoked(token: str) -> Update:
    return update(tokens).where(tokens.c.id == token).values(revoked=datetime.now(UTC))


def _is(subject: str | None) -> ColumnElement[bool]:
    return and_(tokens.c.subject == subject, tokens.c.revoked.is_(None))
