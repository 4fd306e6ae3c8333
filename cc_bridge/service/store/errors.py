"""What goes wrong with a database.

::

    BridgeError
    ├── StoreUnavailable     the database is away, full or too slow; it may be back a moment later
    └── InvalidInput
        └── KeyReused        an idempotency key came again, with another body
"""

from __future__ import annotations

from ...errors import BridgeError, InvalidInput

__all__ = ["KeyReused", "StoreUnavailable"]


class StoreUnavailable(BridgeError):
    """The database did not do it: nobody answers, its disk is full, or it takes too long.

    Nothing is half-made. What was being written when the connection broke is stored as a whole or not at all, and
    nobody can say which: an idempotency key finds out.

    Attributes:
        retry_after: seconds after which it is worth trying again.
    """

    hint = "Is the database running, and has its disk room? Try again in a moment."
    retry_after = 5


class KeyReused(InvalidInput):
    """An idempotency key that was used before came with another body. Nothing was stored."""

    hint = "Take a new key for a new command."
