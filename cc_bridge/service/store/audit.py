"""Who did what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select

from ...values import Value
from .engine import Database
from .schema import audit, tokens
from .types import checked_text

__all__ = ["Audit", "AuditEntry"]


class AuditEntry(Value):
    """One thing that somebody did.

    Attributes:
        number: counts up.
        at: when, UTC.
        who: the id of the token; empty: nobody who is known, such as somebody with a wrong one.
        what: a word, such as ``token.made``.
        instance: the name of the instance it was done to, or empty.
        details: what else is worth knowing; no secrets and no prompts.
        name: what the token is called now; empty: it is none that is known.
    """

    number: int
    at: datetime
    who: str
    what: str
    instance: str
    details: Mapping[str, Any]
    name: str = ""


class Audit:
    """The audit log. All methods raise :class:`StoreUnavailable` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, who: str, what: str, instance: str = "", details: Mapping[str, Any] | None = None) -> None:
        """Write down that somebody did something; see :class:`AuditEntry`."""
        row = {
            "at": datetime.now(UTC),
            "who": checked_text("who did it", who),
            "what": checked_text("what was done", what),
            "instance": checked_text("the instance's name", instance),
            "details": dict(details or {}),
        }
        async with self._database.writing() as connection:
            await connection.execute(insert(audit).values(row))

    async def list(self, before: int | None = None, limit: int = 100, who: str | None = None) -> list[AuditEntry]:
        """The latest entries, the newest first.

        Args:
            before: only those with a smaller number.
            who: only what this token has done; None: what anybody has.
        """
        statement = (
            select(audit, tokens.c.name)
            .outerjoin(tokens, tokens.c.id == audit.c.who)
            .order_by(audit.c.number.desc())
            .limit(max(limit, 0))
        )
        if before is not None:
            statement = statement.where(audit.c.number < min(before, 2**62))
        if who is not None:
            statement = statement.where(audit.c.who == who)
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        return [
            AuditEntry(row.number, row.at, row.who, row.what, row.instance, row.details, row.name or "") for row in rows
        ]

    async def prune(self, before: datetime) -> int:
        """Delete what was done before a moment. Returns how many entries."""
        async with self._database.writing() as connection:
            return (await connection.execute(delete(audit).where(audit.c.at < before))).rowcount
