"""What Alembic runs to come to a connection: ours, in a transaction of ours."""

from __future__ import annotations

from alembic import context

if (config := getattr(context, "config", None)) is not None:  # None: somebody only imports this
    context.configure(
        connection=config.attributes["connection"],
        target_metadata=config.attributes["metadata"],
        render_as_batch=True,  # SQLite cannot change a column: its table is made anew
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
