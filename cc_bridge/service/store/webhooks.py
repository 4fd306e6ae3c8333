"""Webhooks, and what waits to be delivered to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ...errors import InvalidInput
from ...names import new_uuid
from ...values import Value
from .engine import Database
from .schema import deliveries, tokens, webhooks
from .types import checked_text

__all__ = ["Delivery", "Outgoing", "Webhook", "Webhooks", "queue_all"]

#: How many webhooks there may be: each event is matched with each of them.
_MOST_WEBHOOKS = 100

#: How many patterns a webhook may have.
_MOST_PATTERNS = 100


class Webhook(Value):
    """An address that is told of events.

    Attributes:
        secret: what each delivery is signed with.
        instances: patterns of the names of instances, as a shell has them; empty: all.
        events: patterns of the types of events; empty: all.
        owner: the id of the token that made it.
        owner_expires, owner_revoked: when that token ends or was ended, UTC.
    """

    id: str
    url: str
    secret: str
    instances: tuple[str, ...]
    events: tuple[str, ...]
    owner: str
    created: datetime
    owner_expires: datetime | None = None
    owner_revoked: datetime | None = None

    def stopped(self, now: datetime) -> str:
        """Why it is told nothing, for a person; empty: it is told."""
        if self.owner_revoked is not None:
            return "the token that made it was revoked"
        if self.owner_expires is not None and self.owner_expires <= now:
            return "the token that made it has expired"
        return ""

    def wants(self, instance: str, event: str) -> bool:
        """Whether it is told of an event of this type of this instance, as long as it is told anything."""
        return _matches(self.instances, instance) and _matches(self.events, event)


class Outgoing(Value):
    """What is to be delivered: to which webhook, about which instance, and the body to the byte, as text."""

    webhook: str
    instance: str
    body: str


class Delivery(Value):
    """What waits to be delivered, or could not be.

    Attributes:
        id: the same at each try: a receiver knows by it what it has had before.
        tries: how often it was tried.
        why: what went wrong the last time.
        again_at: when it is to be tried (again), UTC.
        dead: when it was given up, UTC; None: it waits.
    """

    id: str
    number: int
    webhook: str
    instance: str
    body: str
    created: datetime
    tries: int
    why: str
    again_at: datetime
    dead: datetime | None


class Webhooks:
    """Webhooks and their queues. All methods raise :class:`StoreUnavailable` when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, url: str, secret: str, instances: Iterable[str] = (), events: Iterable[str] = (), owner: str = ""
    ) -> Webhook:
        """Tell an address of events from now on.

        Raises:
            InvalidInput: something is no text or too long, or there are as many webhooks as there may be.
        """
        webhook = Webhook(
            id=new_uuid(),
            url=checked_text("the address", url, 2000),
            secret=checked_text("the secret", secret),
            instances=_checked_patterns(instances),
            events=_checked_patterns(events),
            owner=owner,
            created=datetime.now(UTC),
        )
        row = {name: getattr(webhook, name) for name in ("id", "url", "secret", "owner", "created")}
        row |= {"instances": list(webhook.instances), "events": list(webhook.events)}
        async with self._database.writing() as connection:
            if (await connection.scalar(select(func.count()).select_from(webhooks)) or 0) >= _MOST_WEBHOOKS:
                raise InvalidInput(f"there are {_MOST_WEBHOOKS} webhooks, as many as there may be")
            await connection.execute(insert(webhooks).values(row))
            made = (await connection.execute(_with_owners().where(webhooks.c.id == webhook.id))).one()
        return _webhook(made)

    async def get(self, webhook: str) -> Webhook | None:
        """The webhook of this id; None: there is none."""
        async with self._database.reading() as connection:
            row = (await connection.execute(_with_owners().where(webhooks.c.id == webhook))).first()
        return _webhook(row) if row else None

    async def remove(self, webhook: str) -> bool:
        """Delete a webhook with all that waits for it. False: there is none."""
        async with self._database.writing() as connection:
            return (await connection.execute(delete(webhooks).where(webhooks.c.id == webhook))).rowcount == 1

    # Deliveries

    async def queue(self, outgoing: Iterable[Outgoing]) -> None:
        """Queue what is to be delivered, behind what waits for the same webhook and instance."""
        async with self._database.writing() as connection:
            await queue_all(connection, outgoing)

    async def due(self, now: datetime, each: int = 4) -> list[Delivery]:
        """What may be tried now: of each webhook and instance the first that waits, if its time has come.

        Args:
            each: most of one webhook.
        """
        heads = _heads().subquery()
        place = func.row_number().over(
            partition_by=deliveries.c.webhook, order_by=(deliveries.c.again_at, deliveries.c.number)
        )
        ranked = (
            select(deliveries, place.label("place"))
            .join(heads, heads.c.number == deliveries.c.number)
            .where(deliveries.c.again_at <= now)
            .subquery()
        )
        statement = select(ranked).where(ranked.c.place <= each).order_by(ranked.c.number)
        async with self._database.reading() as connection:
            return [_delivery(row) for row in (await connection.execute(statement)).all()]

    async def next_due(self, after: datetime) -> datetime | None:
        """When something more is to be tried; None: nothing waits for a time later than this."""
        heads = _heads().subquery()
        statement = (
            select(func.min(deliveries.c.again_at))
            .join(heads, heads.c.number == deliveries.c.number)
            .where(deliveries.c.again_at > after)
        )
        async with self._database.reading() as connection:
            moment: datetime | None = await connection.scalar(statement)
        return moment

    async def delivered(self, delivery: str) -> None:
        """It has arrived: forget it. The next of its webhook and instance is due."""
        async with self._database.writing() as connection:
            await connection.execute(delete(deliveries).where(deliveries.c.id == delivery))

    async def failed(self, delivery: str, tries: int, why: str, again_at: datetime | None) -> None:
        """It has not arrived. Once or twice is the same: the answer to this may have been lost.

        Args:
            tries: how often it was tried by now.
            why: for a person.
            again_at: when to try again; None: it is given up, and the next one is due.
        """
        values: dict[str, Any] = {"tries": tries, "why": _harmless(why)}
        values |= {"again_at": again_at} if again_at else {"dead": datetime.now(UTC)}
        async with self._database.writing() as connection:
            await connection.execute(update(deliveries).where(deliveries.c.id == delivery).values(values))

    async def dead(self, webhook: str, before: int | None = None, limit: int = 100) -> list[Delivery]:
        """What was given up, the newest first.

        Args:
            before: only those with a smaller number.
        """
        where = and_(deliveries.c.webhook == webhook, deliveries.c.dead.is_not(None))
        if before is not None:
            where = and_(where, deliveries.c.number < min(before, 2**62))
        statement = select(deliveries).where(where).order_by(deliveries.c.number.desc()).limit(max(limit, 0))
        async with self._database.reading() as connection:
            return [_delivery(row) for row in (await connection.execute(statement)).all()]

    async def revive(self, webhook: str, delivery: str) -> bool:
        """Try one of a webhook's that was given up again, from the first pause on. False: there is none."""
        is_it = and_(deliveries.c.id == delivery, deliveries.c.webhook == webhook)
        where = and_(is_it, deliveries.c.dead.is_not(None))
        values = {"dead": None, "tries": 0, "again_at": datetime.now(UTC)}
        async with self._database.writing() as connection:
            return (await connection.execute(update(deliveries).where(where).values(values))).rowcount == 1

    async def prune(self, before: datetime) -> int:
        """Delete what was given up before a moment. Returns how many."""
        async with self._database.writing() as connection:
            return (await connection.execute(delete(deliveries).where(deliveries.c.dead < before))).rowcount

    async def list(self) -> list[Webhook]:
        """All webhooks, the oldest first."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(_with_owners().order_by(webhooks.c.created, webhooks.c.id))).all()
        return [_webhook(row) for row in rows]


async def queue_all(connection: AsyncConnection, outgoing: Iterable[Outgoing]) -> None:
    """Queue deliveries in a transaction that is under way; for webhooks that are there no more, nothing."""
    now = datetime.now(UTC)
    rows = [
        {"id": new_uuid(), **item.as_dict(), "created": now, "tries": 0, "again_at": now, "why": ""}
        for item in outgoing
    ]
    if rows:
        there = set((await connection.scalars(select(webhooks.c.id))).all())
        if rows := [row for row in rows if row["webhook"] in there]:
            await connection.execute(insert(deliveries), rows)


def _with_owners() -> Any:
    owners = (tokens.c.expires.label("owner_expires"), tokens.c.revoked.label("owner_revoked"))
    return select(webhooks, *owners).outerjoin(tokens, tokens.c.id == webhooks.c.owner)


def _heads() -> Any:
    """The numbers of the first that wait, one for each webhook and instance."""
    return (
        select(func.min(deliveries.c.number).label("number"))
        .where(deliveries.c.dead.is_(None))
        .group_by(deliveries.c.webhook, deliveries.c.instance)
    )


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def _checked_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(checked_text("a pattern", pattern) for pattern in patterns)
    if len(chosen) > _MOST_PATTERNS:
        raise InvalidInput(f"a webhook may have {_MOST_PATTERNS} patterns, and not {len(chosen)}")
    return chosen


def _harmless(why: str) -> str:
    """What a receiver has answered is in it: any bytes."""
    return why.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:500]


def _webhook(row: Row[Any]) -> Webhook:
    lists = {"instances": tuple(row.instances), "events": tuple(row.events)}
    return Webhook(**{name: getattr(row, name) for name in Webhook.__match_args__} | lists)


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__match_args__})
