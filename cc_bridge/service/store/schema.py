"""The tables as they are now. The migrations make them; a test holds both together."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint, text

from .types import Json, Time

__all__ = ["audit", "commands", "deliveries", "metadata", "sessions", "titles", "tokens", "webhooks"]

#: Constraints have names, so that migrations can speak of them.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _number() -> Column[int]:
    """Counts up and never takes a number twice, also after the last row was deleted."""
    return Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


commands = Table(
    "commands",
    metadata,
    _number(),
    Column("id", Text, nullable=False, unique=True),
    Column("instance", Text, nullable=False),
    Column("prompt", Json, nullable=False),
    Column("owner", Text, nullable=False),
    Column("key", Text),  # NULL: none was given; NULLs are never equal
    Column("digest", Text, nullable=False),
    Column("created", Time, nullable=False),
    Column("state", Text, nullable=False),
    Column("result", Json),
    Column("made", Text),
    Column("ended", Time),
    UniqueConstraint("owner", "instance", "key"),
    sqlite_autoincrement=True,
)
Index("ix_commands_instance_number", commands.c.instance, commands.c.number)
Index(
    "ix_commands_open",
    commands.c.number,
    sqlite_where=text("state <> 'ended'"),
    postgresql_where=text("state <> 'ended'"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("scopes", Json, nullable=False),
    Column("instances", Json, nullable=False),
    Column("projects", Json, nullable=False),
    Column("created", Time, nullable=False),
    Column("expires", Time),
    Column("revoked", Time),
    Column("commands_per_minute", Integer),
    Column("at_once", Integer),
    Column("subject", Text, index=True),  # NULL: it is no person's
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("token", Text, ForeignKey("tokens.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created", Time, nullable=False),
    Column("expires", Time, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    _number(),
    Column("at", Time, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("instance", Text, nullable=False),
    Column("details", Json, nullable=False),
    sqlite_autoincrement=True,
)

titles = Table(
    "titles",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("title", Text, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("instances", Json, nullable=False),
    Column("events", Json, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created", Time, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    _number(),
    Column("id", Text, nullable=False, unique=True),
    Column("webhook", Text, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("instance", Text, nullable=False),
    Column("body", Text, nullable=False),  # what is signed, to the byte
    Column("created", Time, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("again_at", Time, nullable=False),
    Column("why", Text, nullable=False),
    Column("dead", Time),
    sqlite_autoincrement=True,
)
Index("ix_deliveries_queue", deliveries.c.webhook, deliveries.c.instance, deliveries.c.number)
