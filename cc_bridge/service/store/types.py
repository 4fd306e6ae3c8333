"""How values lie in columns, so that both databases keep the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator

from ...errors import InvalidInput

__all__ = ["Json", "Time", "checked_text"]


class Json(TypeDecorator[Any]):
    """JSON as ASCII text: PostgreSQL's own types refuse the character NUL, which a prompt may have."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Text for a value; None stays NULL."""
        return None if value is None else json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The value of a text."""
        return None if value is None else json.loads(value)


class Time(TypeDecorator[datetime]):
    """A moment, in UTC, to the microsecond. SQLite has no time zones: there it is UTC without saying so."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC; without its zone where the database has none."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """With its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def checked_text(what: str, text: str, most: int = 200) -> str:
    """The text, if every database can keep it.

    Args:
        what: its name, for the message.
        most: how many characters it may have.

    Raises:
        InvalidInput: it is too long, or has NUL or half a surrogate pair in it.
    """
    if len(text) > most:
        raise InvalidInput(f"{what} has {len(text)} characters, and {most} are the most")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{what} has characters that are no text")
    return text
