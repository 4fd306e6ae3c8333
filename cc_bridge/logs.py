"""Structured logs, without ever configuring structlog: that is the application's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Log", "configure_when_needed"]

#: What the command wants to see, and how it sets up structlog for that; see :func:`configure_when_needed`.
_deferred: tuple[int, Callable[[], None]] | None = None


def configure_when_needed(level: int, configure: Callable[[], None]) -> None:
    """For a program whose own time counts: log from this level on, and set up structlog when something is logged.

    Importing structlog takes some 70 ms, and most commands log nothing.
    """
    global _deferred
    _deferred = level, configure


class Log:
    """A structlog logger with the instance's name and kind bound, which is made when something is logged.

    Where the application has configured structlog, its configuration holds. Where not, records go to the standard
    library's logger ``cc_bridge``, because structlog's own default prints to stdout, which belongs to the program.
    """

    def __init__(self, instance: str, kind: str) -> None:
        self._facts = {"instance": instance, "kind": kind}

    def debug(self, event: str, **facts: object) -> None:
        """What helps who works on cc-bridge."""
        self._write(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """A change of state that was to be expected."""
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """What somebody should know of: something was lost, or did not go the usual way."""
        self._write(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """What should never happen."""
        self._write(logging.ERROR, event, facts)

    def _write(self, level: int, event: str, facts: dict[str, object]) -> None:
        if _deferred is not None:
            least, configure = _deferred
            if level < least:
                return
            configure()
        elif not _is_configured() and not logging.getLogger("cc_bridge").isEnabledFor(level):
            return
        getattr(_logger(), logging.getLevelName(level).lower())(event, **self._facts, **facts)


def _is_configured() -> bool:
    structlog = sys.modules.get("structlog")  # nobody has configured what nobody has imported
    return structlog is not None and structlog.is_configured()


def _logger() -> Any:
    import structlog

    if structlog.is_configured():
        return structlog.get_logger("cc_bridge")
    return structlog.wrap_logger(
        logging.getLogger("cc_bridge"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event", "instance"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
