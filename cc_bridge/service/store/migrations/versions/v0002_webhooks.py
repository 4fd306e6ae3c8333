"""Webhooks and what waits to be delivered to them; when commands have ended, and which instance they are for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """From 0001. When a command had ended nobody has noted: it counts from when it was given."""
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("instances", sa.Text, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created", _TIME, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("webhook", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("again_at", _TIME, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("dead", _TIME),
        sa.ForeignKeyConstraint(["webhook"], ["webhooks.id"], ondelete="CASCADE", name="fk_deliveries_webhook"),
        sa.UniqueConstraint("id", name="uq_deliveries_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deliveries_queue", "deliveries", ["webhook", "instance", "number"])
    op.add_column("commands", sa.Column("made", sa.Text))
    op.add_column("commands", sa.Column("ended", _TIME))
    op.execute("UPDATE commands SET ended = created WHERE state = 'ended'")
