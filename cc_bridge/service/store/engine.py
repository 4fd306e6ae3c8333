"""One database, as one service has it: bounded, one writer, whole transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import anyio
import anyio.lowlevel
from sqlalchemy import literal, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from ...errors import InvalidInput
from ...logs import Log
from .backends import Backend, backend_of
from .errors import StoreUnavailable
from .migrate import migrate

__all__ = ["PATIENCE", "Database"]

#: Seconds for one operation, with its wait for others before it.
PATIENCE = 10.0

#: Seconds for a migration: rows are many, and nobody is served meanwhile.
_MIGRATION = 3600.0

#: Seconds in which a broken connection is closed politely.
_FAREWELL = 3.0


class Database:
    """A database with one writer: the session that has the right to write, and that loses it when it ends.

    So a service whose connection was lost cannot write any more until it has that right again, and what is stored has
    one order. Each operation is one transaction, bounded in time. A caller that is cancelled before has done nothing;
    later, the operation is done first, whole, and the cancellation is seen at the caller's next await.

    Args:
        patience: seconds for an operation, with its wait for those before it.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._backend: Backend = backend_of(url, patience)
        self._writer: AsyncConnection | None = None
        self._lock = anyio.Lock()
        self._held = ExitStack()
        self._is_open = False
        self._was_held = False
        self._log = Log("", "store")

    def __str__(self) -> str:
        return str(self._backend)

    async def open(self) -> None:
        """Take the database, and bring it to this version's schema.

        Raises:
            InvalidInput: another service has it, or its schema is of a later version.
            StoreUnavailable: it is away.
        """
        try:
            self._is_open = True
            with self._translated():
                self._held.enter_context(self._backend.held())
                async with self._own_writer(_MIGRATION) as writer:
                    await self._backend.before_migration(writer)
                    async with writer.begin():
                        await writer.run_sync(migrate)
                    await self._backend.after_migration(writer)
        except BaseException:  # cancelled, too
            await self.close()
            raise

    async def close(self) -> None:
        """Let others have it. Operations that are going on end first."""
        self._is_open = False
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self.patience):
                async with self._lock:
                    await self._discard_writer()
            with anyio.move_on_after(_FAREWELL):
                await self._backend.readers.dispose()
                await self._backend.writers.dispose()
        self._held.close()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with, within the block.

        Raises:
            StoreUnavailable: the database is away or too slow.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        with self._translated(), anyio.fail_after(self.patience, shield=True):
            async with self._backend.readers.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """The connection to write with, in a transaction: the end of the block commits, an error takes all back.

        Raises:
            StoreUnavailable: the database is away or too slow. What the block did is stored whole or not at all.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        with self._translated():
            async with self._own_writer(self.patience) as writer, writer.begin():
                yield writer

    async def check(self) -> None:
        """Whether the writer's session lives and the database answers.

        Raises:
            StoreUnavailable: not so.
        """
        async with self.writing() as connection:
            await connection.execute(select(literal(1)))

    # Private

    @asynccontextmanager
    async def _own_writer(self, limit: float) -> AsyncIterator[AsyncConnection]:
        with anyio.fail_after(limit, shield=True):
            async with self._lock:
                writer = await self._connected_writer()
                try:
                    yield writer
                except (IntegrityError, InvalidInput):  # the database's answer, not its failure
                    raise
                except BaseException:  # too slow, too
                    await self._discard_writer()
                    raise

    async def _connected_writer(self) -> AsyncConnection:
        if self._writer is not None and await self._backend.is_lost(self._writer):
            await self._discard_writer()
        if self._writer is not None:
            return self._writer
        writer = await self._backend.writers.connect()
        self._writer = writer
        try:
            await self._backend.hold(writer)
        except BaseException as error:  # too slow, too
            await self._discard_writer()
            if self._was_held and isinstance(error, InvalidInput):  # not the caller's fault
                raise StoreUnavailable(error.what, hint=error.hint) from error
            raise
        self._was_held = True
        return writer

    async def _discard_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with anyio.move_on_after(_FAREWELL, shield=True):
            try:
                await writer.invalidate()
                await writer.close()
            except (SQLAlchemyError, OSError) as error:  # it was broken: that is why it goes
                self._log.debug("connection_not_closed", reason=str(error))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The border at which the database's errors become ours."""
        if not self._is_open:
            raise StoreUnavailable("the store is not open", hint="The service is starting or ending.")
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout, OSError) as error:  # TimeoutError is an OSError
            raise StoreUnavailable(_reason(error)) from error


def _reason(error: Exception) -> str:
    """One line about what the database has said; no statement and no values."""
    if isinstance(error, TimeoutError):
        return "the database did not answer in time"
    told = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return f"the database failed: {(told.splitlines() or [type(error).__name__])[0][:200]}"
