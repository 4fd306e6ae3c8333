"""All that the service keeps, in one database."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from .audit import Audit
from .commands import Commands
from .engine import PATIENCE, Database
from .people import People
from .sessions import Sessions
from .titles import Titles
from .tokens import Tokens
from .webhooks import Webhooks

__all__ = ["Store"]

#: How long is kept what nobody needs for answers. Conversations are elsewhere, and are not touched.
_COMMANDS, _AUDIT, _DEAD = timedelta(days=90), timedelta(days=731), timedelta(days=30)


class Store:
    """A database, taken by one service at a time.

    ::

        async with Store.open("sqlite:////var/lib/cc-bridge/service.db") as store:
            command, is_new = await store.commands.add(command, key=key)

    Whatever is awaited here is done whole or not at all, also when the caller is cancelled, and takes at most
    ``patience`` seconds; then :class:`StoreUnavailable` is raised. It works again when the database is back.

    Attributes:
        commands, tokens, people, sessions, webhooks, audit, titles: what is kept, by kind.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.commands = Commands(database)
        self.tokens = Tokens(database)
        self.people = People(database)
        self.sessions = Sessions(database)
        self.webhooks = Webhooks(database)
        self.audit = Audit(database)
        self.titles = Titles(database)

    @classmethod
    def open(cls, url: str, *, patience: float = PATIENCE) -> Self:
        """The store in the database of this address; to be used with ``async with``.

        Args:
            url: ``sqlite:////PATH`` or ``postgresql://USER:PASSWORD@HOST/NAME``, also with the drivers' names
                (``sqlite+aiosqlite``, ``postgresql+asyncpg``). SQLite's file is made where it is missing.
            patience: seconds for an operation, with its wait for those before it.

        Raises:
            InvalidInput: it is no address of such a database.
        """
        return cls(Database(url, patience=patience))

    def __str__(self) -> str:
        return str(self._database)

    async def __aenter__(self) -> Self:
        """Take the database and bring its schema to this version's.

        Raises:
            InvalidInput: another service has it, or a later version has made its schema.
            StoreUnavailable: it is away.
        """
        await self._database.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.close()

    async def prune(self, now: datetime) -> None:
        """Delete what is kept no longer. What has not ended is kept.

        Ended commands go with their keys after 90 days, the audit log after two years, deliveries that were given up
        after 30 days.

        Raises:
            StoreUnavailable: the database is away.
        """
        await self.commands.prune(now - _COMMANDS)
        await self.audit.prune(now - _AUDIT)
        await self.webhooks.prune(now - _DEAD)

    async def check(self) -> None:
        """Whether the database answers and can be written to, for readiness.

        Raises:
            StoreUnavailable: it does not, or cannot.
        """
        await self._database.check()
