"""The page's sessions: a browser that has shown a token once."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select

from ...values import Value
from .engine import Database
from .schema import sessions, tokens
from .tokens import Token, hash_of, is_usable, token_of

__all__ = ["SESSION_LIFE", "Session", "Sessions"]

#: How long a browser stays signed in.
SESSION_LIFE = timedelta(days=30)


class Session(Value):
    """A browser that is signed in.

    Attributes:
        token: whose it is.
        expires: when the session does, UTC; its token may before.
    """

    token: Token
    expires: datetime


class Sessions:
    """Who has signed in on the page. All methods raise :class:`StoreUnavailable` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, token: str, now: datetime | None = None, life: timedelta = SESSION_LIFE) -> str:
        """Begin a session of the token with this id. Returns its secret, for the cookie.

        Those that have expired are deleted meanwhile.
        """
        secret, now = secrets.token_urlsafe(32), now or datetime.now(UTC)
        row = {"hash": hash_of(secret), "token": token, "created": now, "expires": now + life}
        async with self._database.writing() as connection:
            await connection.execute(delete(sessions).where(sessions.c.expires <= now))
            await connection.execute(insert(sessions).values(row))
        return secret

    async def find(self, secret: str, now: datetime | None = None) -> Session | None:
        """The session of this secret, if it and its token have neither expired nor ended; else None."""
        now = now or datetime.now(UTC)
        statement = (
            select(tokens, sessions.c.expires.label("session_expires"))
            .join(sessions, sessions.c.token == tokens.c.id)
            .where(sessions.c.hash == hash_of(secret), sessions.c.expires > now, is_usable(now))
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).first()
        return Session(token_of(row), row.session_expires) if row else None

    async def end(self, secret: str) -> None:
        """Sign out: nobody can use the session any more."""
        async with self._database.writing() as connection:
            await connection.execute(delete(sessions).where(sessions.c.hash == hash_of(secret)))
