"""What people call their conversations."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from .engine import Database
from .schema import titles
from .types import checked_text

__all__ = ["Titles"]


class Titles:
    """Titles of instances. All methods raise :class:`StoreUnavailable` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, instance: str, title: str) -> None:
        """Give an instance a title; an empty one takes it away.

        Raises:
            InvalidInput: it is too long, or no text.
        """
        checked_text("the instance's name", instance)
        checked_text("the title", title)
        async with self._database.writing() as connection:
            await connection.execute(delete(titles).where(titles.c.instance == instance))
            if title:
                await connection.execute(insert(titles).values(instance=instance, title=title))

    async def get(self, instance: str) -> str:
        """The title of an instance; empty: it has none."""
        async with self._database.reading() as connection:
            title = await connection.scalar(select(titles.c.title).where(titles.c.instance == instance))
        return title or ""

    async def all(self) -> dict[str, str]:
        """All titles, by the names of their instances."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(titles))).all()
        return {row.instance: row.title for row in rows}
