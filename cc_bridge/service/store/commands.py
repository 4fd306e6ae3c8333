"""Commands, from when they were accepted until they are forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ...errors import InvalidInput
from ...values import Value
from .engine import Database
from .errors import KeyReused
from .schema import commands
from .types import checked_text
from .webhooks import Outgoing, queue_all

__all__ = ["Command", "CommandState", "Commands"]

CommandState = Literal["stored", "sent", "running", "ended"]

#: Of a command that was taken back before it was sent.
WITHDRAWN = {"verdict": "withdrawn", "ok": False, "text": "", "error": "it was withdrawn before it was sent"}


class Command(Value):
    """A command to an instance, and what became of it.

    Attributes:
        id: a UUID; the turn's id, too.
        instance: the name of the instance it is for.
        prompt: as it was given: a text, or a list of blocks.
        owner: the id of the token that gave it.
        number: the order in which commands were accepted; set when it is stored.
        created: when it was stored, UTC.
        state: ``stored``: the fleet has not got it yet; ``sent``: it may have; ``running``; ``ended``.
        result: how it ended; None: it has not.
        made: which instance of that name it is for; empty: nobody knows.
    """

    id: str
    instance: str
    prompt: Any
    owner: str = ""
    number: int = 0
    created: datetime = datetime.fromtimestamp(0, UTC)
    state: CommandState = "stored"
    result: Any = None
    made: str = ""


class Commands:
    """The commands of all instances.

    Each method is one transaction: done whole, or not at all. All raise :class:`StoreUnavailable` when the database is
    away; after that, what was being written may be stored all the same, and reading shows whether it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, command: Command, *, key: str = "", owner: str = "", digest: str = "") -> tuple[Command, bool]:
        """Store a command. It is on the disk when this returns.

        Args:
            key: what the client calls this command; the same one again is the same command. Empty: nothing.
            owner: whose key it is; by default the command's owner.
            digest: of the request's body, which must be the same where the key is.

        Returns:
            The command as it is stored, and True; or the first one of this key, in whatever state it is by now, and
            False.

        Raises:
            KeyReused: this key came before, with another digest.
            InvalidInput: there is a command of this id, or a text is no text.
        """
        owner = owner or command.owner
        checked_text("the idempotency key", key)
        checked_text("the instance's name", command.instance)
        new = {
            "id": checked_text("the command's id", command.id),
            "instance": command.instance,
            "prompt": command.prompt,
            "owner": owner,
            "key": key or None,
            "digest": digest,
            "created": datetime.now(UTC),
            "state": "stored",
            "made": command.made,
        }
        # There is one writer: between the look and the insertion nobody comes.
        async with self._database.writing() as connection:
            if key and (first := await _of_key(connection, owner, command.instance, key)):
                if first.digest != digest:
                    raise KeyReused("this idempotency key came before, with another command", instance=command.instance)
                return _command(first), False
            try:
                stored = (await connection.execute(insert(commands).values(new).returning(commands))).one()
            except IntegrityError:
                raise InvalidInput(f"there is a command {command.id} already", instance=command.instance) from None
        return _command(stored), True

    async def has_key(self, owner: str, instance: str, key: str) -> bool:
        """A command of this instance came from this owner with this key."""
        async with self._database.reading() as connection:
            return await _of_key(connection, owner, instance, key) is not None

    async def open(self) -> list[Command]:
        """All that have not ended, in the order in which they were accepted."""
        return await self._select(commands.c.state != "ended")

    async def get(self, command: str) -> Command | None:
        """The command of this id; None: there is none."""
        found = await self._select(commands.c.id == command)
        return found[0] if found else None

    async def of(self, instance: str, before: int | None = None, limit: int = 50) -> list[Command]:
        """The latest commands of an instance, oldest first.

        Args:
            before: only those with a smaller number; None: up to the last.
            limit: how many.
        """
        where = commands.c.instance == instance
        if before is not None:
            where = and_(where, commands.c.number < min(before, _MOST))
        statement = select(commands).where(where).order_by(commands.c.number.desc()).limit(max(limit, 0))
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        return [_command(row) for row in reversed(rows)]

    async def sent(self, command: str) -> bool:
        """Note that it is about to be given to the fleet. False: it is not stored any more; do not send it."""
        return await self._move(command, ("stored",), {"state": "sent"})

    async def running(self, command: str) -> bool:
        """Note that its turn has begun. False: it has ended already, or there is none."""
        return await self._move(command, ("stored", "sent", "running"), {"state": "running"})

    async def end(self, command: str, result: Any, tell: Iterable[Outgoing] = ()) -> bool:
        """Keep how it has ended, and in the same transaction queue what webhooks are to be told about it.

        Returns:
            Whether this was the first end. The first one's result stays.
        """
        return await self._move(command, ("stored", "sent", "running"), _ended(result), tell)

    async def withdraw(self, command: str, result: Any = None, tell: Iterable[Outgoing] = ()) -> bool:
        """Take back one that is stored and was not sent: it ends with the verdict ``withdrawn``.

        Returns:
            Whether it was; False: it was sent before, has ended, or there is none.
        """
        return await self._move(command, ("stored",), _ended(WITHDRAWN if result is None else result), tell)

    async def change(self, command: str, prompt: Any) -> bool:
        """Give one that is stored and was not sent another prompt. False: too late, or there is none."""
        return await self._move(command, ("stored",), {"prompt": prompt})

    async def forget(self, instance: str) -> None:
        """Delete all of an instance that was removed: another one of its name begins anew."""
        async with self._database.writing() as connection:
            await connection.execute(delete(commands).where(commands.c.instance == instance))

    async def prune(self, before: datetime) -> int:
        """Delete those that ended before a moment, with their keys. Returns how many."""
        async with self._database.writing() as connection:
            where = and_(commands.c.state == "ended", commands.c.ended < before)
            return (await connection.execute(delete(commands).where(where))).rowcount

    # Private

    async def _select(self, where: ColumnElement[bool]) -> list[Command]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(commands).where(where).order_by(commands.c.number))).all()
        return [_command(row) for row in rows]

    async def _move(
        self, command: str, states: tuple[CommandState, ...], values: dict[str, Any], tell: Iterable[Outgoing] = ()
    ) -> bool:
        """One statement looks and writes, so that of two who want different things one is second."""
        where = and_(commands.c.id == command, commands.c.state.in_(states))
        async with self._database.writing() as connection:
            moved = (await connection.execute(update(commands).where(where).values(values))).rowcount == 1
            if moved:
                await queue_all(connection, tell)
        return moved


#: More than any number, and less than a column can have.
_MOST = 2**62


def _ended(result: Any) -> dict[str, Any]:
    return {"state": "ended", "result": result, "ended": datetime.now(UTC)}


async def _of_key(connection: AsyncConnection, owner: str, instance: str, key: str) -> Row[Any] | None:
    where = and_(commands.c.owner == owner, commands.c.instance == instance, commands.c.key == key)
    return (await connection.execute(select(commands).where(where))).first()


def _command(row: Row[Any]) -> Command:
    return Command(
        id=row.id,
        instance=row.instance,
        prompt=row.prompt,
        owner=row.owner,
        number=row.number,
        created=row.created,
        state=row.state,
        result=row.result,
        made=row.made or "",
    )
