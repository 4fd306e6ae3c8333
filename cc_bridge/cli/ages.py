"""Times as people say them: how long ago."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["ago", "span"]

_UNITS = (
    (86400 * 365, "year"),
    (86400 * 30, "month"),
    (86400 * 7, "week"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)

#: A unit is used from so many of it on: "90 minutes" says more than "1 hour".
_LEAST = 2


def span(seconds: float) -> str:
    """A length of time in its largest unit of which there are two: ``90 minutes``, ``3 hours``."""
    for size, name in _UNITS:
        if seconds >= _LEAST * size or size == 1:
            count = max(0, int(seconds // size))
            return f"{count} {name}{'' if count == 1 else 's'}"
    return ""


def ago(when: str | datetime | None) -> str:
    """How long ago a time was (ISO 8601, or a datetime); ``-`` where there is none or it is no time."""
    try:
        then = datetime.fromisoformat(when) if isinstance(when, str) else when
        if then is None:
            return "-"
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        return f"{span((datetime.now(UTC) - then).total_seconds())} ago"
    except (ValueError, OverflowError):
        return "-"
