"""Commands, tokens, sessions, the audit log, titles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "commands",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("result", sa.Text),
        sa.UniqueConstraint("id", name="uq_commands_id"),
        sa.UniqueConstraint("owner", "instance", "key", name="uq_commands_owner_instance_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_commands_instance_number", "commands", ["instance", "number"])
    is_open = sa.text("state <> 'ended'")
    op.create_index("ix_commands_open", "commands", ["number"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("instances", sa.Text, nullable=False),
        sa.Column("projects", sa.Text, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("expires", _TIME),
        sa.Column("revoked", _TIME),
        sa.Column("commands_per_minute", sa.Integer),
        sa.Column("at_once", sa.Integer),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
    )
    op.create_table(
        "sessions",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("expires", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["token"], ["tokens.id"], ondelete="CASCADE", name="fk_sessions_token"),
    )
    op.create_index("ix_sessions_token", "sessions", ["token"])
    op.create_table(
        "audit",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "titles",
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
    )
