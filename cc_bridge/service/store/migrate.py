"""Bring a database to this version's schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from ...errors import InvalidInput
from .schema import metadata

__all__ = ["migrate"]


def migrate(connection: Connection, to: str = "head") -> None:
    """Do the steps that the database lacks, in the connection's transaction: all of them or none.

    Args:
        to: the revision to stop at.

    Raises:
        InvalidInput: a later version of cc-bridge has made the schema.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, metadata=metadata)
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise InvalidInput(
            f"the database's schema is not one of this version's: {error}",
            hint="A later version has changed it: use that one, or restore the backup from before.",
        ) from error
