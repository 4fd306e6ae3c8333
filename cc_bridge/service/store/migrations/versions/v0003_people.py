"""Whose token it is, where people sign in by an identity provider."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From 0002. The tokens that there are, are no person's."""
    op.add_column("tokens", sa.Column("subject", sa.Text))
    op.create_index("ix_tokens_subject", "tokens", ["subject"])
