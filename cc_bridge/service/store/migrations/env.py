"""What Alembic runs to come to a connection: ours, in a transaction of ours."""

from __future__ import annotations

from alembic import context

from cc_bridge.service.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot change a column: its table is made anew
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
