"""PostgreSQL: the right to write is an advisory lock of the session that writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from ...errors import InvalidInput
from ...names import new_uuid

__all__ = ["PostgresqlBackend"]

#: The advisory lock: "ccbridge" in ASCII. Such locks are of one database, so each may have a service.
_KEY = int.from_bytes(b"ccbridge", "big")

#: Milliseconds for which the lock is waited for: the session of a service that was killed ends a moment after it.
_WAIT = 2000

#: A holder whose machine has gone has the lock until nobody has answered the server for 30 s, and thrice 10 more.
_KEEPALIVE = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}

#: SQLSTATE of a lock that was not had in time.
_LOCK_NOT_AVAILABLE = "55P03"


class PostgresqlBackend:
    """A database of a PostgreSQL server; see :class:`~.backends.Backend`."""

    readers: AsyncEngine
    writers: AsyncEngine

    def __init__(self, url: URL, patience: float) -> None:
        self._url = url = url.set(drivername="postgresql+asyncpg")
        self._writer_name = f"cc-bridge-writer-{new_uuid()[:8]}"
        self._wait = min(_WAIT, int(patience * 500))
        self._was_held = False
        settings = {
            **_KEEPALIVE,
            "timezone": "UTC",
            # Whoever was given up on, by us or because its machine has gone, must not keep rows locked.
            "statement_timeout": str(int(patience * 1000)),
            "idle_in_transaction_session_timeout": str(int(patience * 2000)),
        }
        self.readers = create_async_engine(
            url,
            pool_size=4,
            max_overflow=0,
            pool_timeout=patience,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": patience, "server_settings": {**settings, "application_name": "cc-bridge-reader"}},
        )
        self.writers = create_async_engine(
            url,
            poolclass=NullPool,
            connect_args={
                "timeout": patience,
                "server_settings": {**settings, "application_name": self._writer_name},
            },
        )

    def __str__(self) -> str:
        host = self._url.host or self._url.query.get("host", "")  # no user, no password, also not in the query
        port = f":{self._url.port}" if self._url.port else ""
        return f"postgresql://{host}{port}/{self._url.database}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing: services on other machines must be kept away, too, which :meth:`hold` does."""
        yield

    async def hold(self, writer: AsyncConnection) -> None:
        """Take the advisory lock, which ends with the session.

        A session of our own that we have given up, and that the server has not, is ended first.

        Raises:
            InvalidInput: another service has it.
        """
        async with writer.begin():
            if self._was_held:
                await writer.execute(_END_OWN, {"name": self._writer_name})
            await writer.execute(text(f"SET LOCAL lock_timeout = {self._wait}"))
            try:
                async with writer.begin_nested():
                    await writer.execute(_LOCK)
                self._was_held = True
                return
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
            holder = (await writer.execute(_HOLDER)).first()
        who = f"session {holder.pid} from {holder.address}, since {holder.since:%Y-%m-%d %H:%M} UTC" if holder else "?"
        raise InvalidInput(
            f"another service has the database {self} ({who})",
            hint="End that service, or give this one a database of its own.",
        )

    async def is_lost(self, writer: AsyncConnection) -> bool:
        """Whether the server has closed the connection, as far as this machine has heard."""
        raw: Any = (await writer.get_raw_connection()).driver_connection
        return raw is None or bool(raw.is_closed())

    async def before_migration(self, writer: AsyncConnection) -> None:
        """A large table takes longer to change than a statement may take otherwise.

        Raises:
            InvalidInput: the database cannot keep every text.
        """
        async with writer.begin():
            if (encoding := await writer.scalar(text("SHOW server_encoding"))) != "UTF8":
                hint = "Make one with `createdb --encoding=UTF8 --template=template0 NAME`."
                raise InvalidInput(f"the database {self} has the encoding {encoding}, and not UTF8", hint=hint)
            await writer.execute(text("SET statement_timeout = 0"))

    async def after_migration(self, writer: AsyncConnection) -> None:
        """As it was."""
        async with writer.begin():
            await writer.execute(text("RESET statement_timeout"))


_LOCK = text(f"SELECT pg_advisory_lock({_KEY})")
_END_OWN = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = :name AND datname = current_database() AND pid <> pg_backend_pid()"
)
_HOLDER = text(
    "SELECT a.pid, coalesce(host(a.client_addr), 'a local socket') AS address,"
    " a.backend_start AT TIME ZONE 'UTC' AS since"
    " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database"
    " WHERE datname = current_database()) AND l.classid = :high AND l.objid = :low"
).bindparams(high=_KEY >> 32, low=_KEY & 0xFFFFFFFF)
