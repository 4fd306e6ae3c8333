"""What a database must be able to do to be the service's; and which one an address means."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ...errors import InvalidInput

__all__ = ["Backend", "backend_of"]


class Backend(Protocol):
    """What differs between databases.

    Attributes:
        readers: a pool of connections, each statement its own transaction.
        writers: makes a connection when asked.
    """

    readers: AsyncEngine
    writers: AsyncEngine

    def held(self) -> AbstractContextManager[None]:
        """Keep other services of this machine away within the block.

        Raises:
            InvalidInput: one has the database.
        """
        ...

    async def hold(self, writer: AsyncConnection) -> None:
        """Bind the service's sole right to write to this session, which ends with it.

        Raises:
            InvalidInput: another service has it.
        """
        ...

    async def is_lost(self, writer: AsyncConnection) -> bool:
        """Whether the connection is known to have broken; without asking the database."""
        ...

    async def before_migration(self, writer: AsyncConnection) -> None:
        """Prepare the session for changes of the schema; no transaction is open."""
        ...

    async def after_migration(self, writer: AsyncConnection) -> None:
        """Undo :meth:`before_migration`; no transaction is open."""
        ...


def backend_of(url: str, patience: float) -> Backend:
    """The database of this address.

    Args:
        url: ``sqlite+aiosqlite:///PATH`` or ``postgresql+asyncpg://…``; without the drivers' names, too.
        patience: seconds that one operation may take.

    Raises:
        InvalidInput: it is none that the service can use.
    """
    parsed = _parse(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        from .sqlite import SqliteBackend

        return SqliteBackend(parsed, patience)
    if kind in ("postgresql", "postgres"):
        from .postgresql import PostgresqlBackend

        return PostgresqlBackend(parsed, patience)
    raise InvalidInput(f"{kind} is no database that the service can use", hint=_EXAMPLES)


_EXAMPLES = "Name it as sqlite:////var/lib/cc-bridge/service.db or postgresql://USER:PASSWORD@HOST/NAME."


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:  # its text has the address, and so the password
        raise InvalidInput("the address of the database cannot be read", hint=_EXAMPLES) from None
