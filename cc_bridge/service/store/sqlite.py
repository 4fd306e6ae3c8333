"""SQLite: a file, its write-ahead log beside it, and a lock that ends with the process."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from ...errors import InstanceBusy, InvalidInput
from ...fleet.held import held_by_one
from .errors import StoreUnavailable

__all__ = ["SqliteBackend"]

#: Of an operation's time, the part for which SQLite itself waits for another program's lock, a backup's for instance.
_BUSY = 0.8


class SqliteBackend:
    """A database in a file; see :class:`~.backends.Backend`.

    Raises:
        InvalidInput: the address names no file.
    """

    readers: AsyncEngine
    writers: AsyncEngine

    def __init__(self, url: URL, patience: float) -> None:
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise InvalidInput("a database that is to survive needs a file: sqlite:////var/lib/cc-bridge/service.db")
        self._path = Path(url.database).absolute()
        url = url.set(drivername="sqlite+aiosqlite", database=str(self._path))
        # Driver-level autocommit: transactions begin where _begin says, not where the driver guesses.
        arguments = {"timeout": patience * _BUSY, "isolation_level": None}
        self.readers = create_async_engine(
            url, pool_size=4, max_overflow=0, pool_timeout=patience, connect_args=arguments
        )
        self.writers = create_async_engine(url, poolclass=NullPool, connect_args=arguments)
        for engine, begin in ((self.readers, "BEGIN"), (self.writers, "BEGIN IMMEDIATE")):
            event.listen(engine.sync_engine, "connect", _prepare)
            event.listen(engine.sync_engine, "begin", _beginner(begin))

    def __str__(self) -> str:
        return f"sqlite:///{self._path}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """A lock on a file beside the database: the kernel opens it when the process ends, however it ends.

        Raises:
            InvalidInput: another service has the database.
            StoreUnavailable: the directory cannot be written to.
        """
        path = self._path.resolve()  # by whichever name, it is one database
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Prompts and secrets are in it: for its owner only. SQLite gives the files beside it the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with held_by_one(path.with_name(f"{path.name}.lock"), f"the database {path}"):
                yield
        except InstanceBusy as error:
            hint = "End that service, or give this one a database of its own."
            raise InvalidInput(error.what, hint=hint) from None

    async def hold(self, writer: AsyncConnection) -> None:
        """Nothing: the lock on the file is enough."""

    async def is_lost(self, writer: AsyncConnection) -> bool:
        """Never: there is nothing between us and the file."""
        return False

    async def before_migration(self, writer: AsyncConnection) -> None:
        """A table that is made anew is dropped first, which must not take the rows that refer to it along."""
        mode = await _pragma(writer, "journal_mode=WAL")
        if mode != "wal":
            raise StoreUnavailable(
                f"the database {self._path} cannot have a write-ahead log", hint="Put it on a local file system."
            )
        await _pragma(writer, "foreign_keys=OFF")

    async def after_migration(self, writer: AsyncConnection) -> None:
        """References are looked after again."""
        await _pragma(writer, "foreign_keys=ON")


async def _pragma(writer: AsyncConnection, pragma: str) -> Any:
    """Say it to the driver: SQLAlchemy would begin a transaction, in which some change nothing. Returns its answer.

    Raises:
        StoreUnavailable: SQLite does not do it.
    """
    raw: Any = (await writer.get_raw_connection()).driver_connection
    try:
        async with raw.execute(f"PRAGMA {pragma}") as cursor:
            row = await cursor.fetchone()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the database failed: {error}") from error
    return row[0] if row else None


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    # FULL: what was committed is on the disk, also after a power cut. What is acknowledged is not lost.
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "journal_size_limit=67108864"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _beginner(statement: str) -> Any:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin
