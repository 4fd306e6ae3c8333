"""What a container may use, unless said otherwise, and when an instance sleeps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ApiLimits", "Limits", "check_sleep", "sleep_times"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a container may use of its machine (requirement M2).

    Attributes:
        memory: bytes; swap is not added to it.
        cpus: processors, also parts of one.
        cpu_shares: weight where processors are scarce; 1024 is what other containers have.
        pids: processes and threads at once.
    """

    memory: int = 2 * 1024**3
    cpus: float = 2.0
    cpu_shares: int = 512
    pids: int = 512


@dataclass(frozen=True, kw_only=True)
class ApiLimits:
    """What an instance may ask of the API where its key is outside. 0: no limit. A day ends at midnight, UTC.

    Attributes:
        at_once: requests that are answered at one time.
        requests_per_minute: requests.
        bytes_per_day: of requests' and answers' bodies together, tunnels included.
        tokens_per_day: of input, cached input included, and output together.
        usd_per_day: by list prices.
    """

    at_once: int = 0
    requests_per_minute: int = 0
    bytes_per_day: int = 0
    tokens_per_day: int = 0
    usd_per_day: float = 0.0


#: Seconds: ``sleep_after`` and ``stop_after`` of an instance where they are not said, and the most of either.
_SLEEP_AFTER, _STOP_AFTER = 600.0, 86_400.0
_LONGEST_SLEEP = 1_000_000_000


def check_sleep(sleep_after: float | None, stop_after: float | None, *, in_pane: bool) -> None:
    """Refuse times that are none, and any for a pane.

    Raises:
        ValueError: names the field.
    """
    for field, value in (("sleep_after", sleep_after), ("stop_after", stop_after)):
        if value is not None and not 0 <= value <= _LONGEST_SLEEP:
            raise ValueError(f"{field}: seconds, 0 for never, at most {_LONGEST_SLEEP}")
        if value and in_pane:
            raise ValueError(f"{field}: a person may look at a pane, so it does not sleep")


def sleep_times(sleep_after: float | None, stop_after: float | None, *, in_pane: bool) -> tuple[float, float]:
    """Both as they count; 0: never."""
    if in_pane:
        return 0, 0
    return _SLEEP_AFTER if sleep_after is None else sleep_after, _STOP_AFTER if stop_after is None else stop_after
