"""Structured logs, without ever configuring structlog: that is the application's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["logger_for"]


def logger_for(instance: str, kind: str) -> FilteringBoundLogger:
    """A logger with the instance bound.

    Where the application has configured structlog, its configuration holds. Where not, records go to
    the standard library's logger ``cc_bridge``, because structlog's own default prints to stdout, which
    belongs to the program.
    """
    import structlog  # which takes some 90 ms; `cc-bridge --help` logs nothing

    if structlog.is_configured():
        logger = structlog.get_logger("cc_bridge")
    else:
        logger = structlog.wrap_logger(
            logging.getLogger("cc_bridge"),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.KeyValueRenderer(key_order=["event", "instance"]),
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
    return cast("FilteringBoundLogger", logger.bind(instance=instance, kind=kind))
