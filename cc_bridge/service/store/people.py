"""People who sign in by an identity provider: each has one token at a time, whose secret nobody has."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, and_, insert, select, update

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

    async def come(self, wanted: Token) -> tuple[Token, bool]:
        """A person has signed in: their token gets the name, the rights and the end of this one.

        What they had before stays theirs, by the token's id. After a revocation they get a new one.

        Returns:
            Their token, and whether its rights are others than before.
        """
        async with self._database.writing() as connection:
            row = (await connection.execute(select(tokens).where(_is(wanted.subject)))).first()
            if row is None:
                await connection.execute(insert(tokens).values({**row_of(wanted), "hash": hash_of(new_secret())}))
                return wanted, False
            before = token_of(row)
            token = wanted.replace(id=before.id, created=before.created)
            await connection.execute(update(tokens).where(tokens.c.id == token.id).values(row_of(token)))
        return token, any(getattr(token, name) != getattr(before, name) for name in _RIGHTS)

    async def gone(self, subject: str) -> str | None:
        """A person may sign in no more: revoke their token. Returns its id; None: they had none."""
        async with self._database.writing() as connection:
            row = (await connection.execute(select(tokens.c.id).where(_is(subject)))).first()
            if row is None:
                return None
            await connection.execute(update(tokens).where(tokens.c.id == row.id).values(revoked=datetime.now(UTC)))
        return str(row.id)


def _is(subject: str | None) -> ColumnElement[bool]:
    return and_(tokens.c.subject == subject, tokens.c.revoked.is_(None))
