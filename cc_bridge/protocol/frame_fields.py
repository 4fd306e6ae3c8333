"""The fields of the agent's frames, each checked as it is read: the agent is not trusted.

Every function raises ValueError where the field is not what it must be, and KeyError where there is none.
"""

from __future__ import annotations

from typing import Any

from cc_bridge_agent import wire

from .link_events import Now

__all__ = [
    "get_id",
    "get_ids",
    "get_int",
    "get_list",
    "get_newest_ids",
    "get_now",
    "get_optional_int",
    "get_seconds",
    "get_text",
]

#: Larger than any number that a correct agent sends.
_LARGEST = 2**63

#: Hosts that are named, characters of a name, and seconds (some 300 years, which a date can be reckoned from).
_MOST_HOSTS, _LONGEST_HOST, _LONGEST_AGE = 200, 100, 1e10

#: Turns that are named at once: an agent remembers no more, and keeps fewer in its queue.
_MOST_TURNS = 4096


def get_now(frame: wire.Frame) -> Now:
    """What Claude Code does at the moment."""
    hosts = frame.get("hosts")
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise ValueError("'hosts' is not a list of texts")
    turn = get_id(frame, "turn") if frame["turn"] else ""
    shown = tuple(host[:_LONGEST_HOST] for host in hosts[:_MOST_HOSTS])
    return Now(turn, get_seconds(frame, "seconds"), get_seconds(frame, "silent"), shown)


def get_seconds(frame: wire.Frame, key: str) -> float | None:
    """A number of seconds; None: there is none."""
    value = frame.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST_AGE:
        raise ValueError(f"{key!r} is no number of seconds")
    return float(value)


def get_text(frame: wire.Frame, key: str) -> str:
    """Text."""
    value = frame[key]
    if not isinstance(value, str):
        raise ValueError(f"{key!r} is not text")
    return value


def get_id(frame: wire.Frame, key: str) -> str:
    """An id."""
    value = get_text(frame, key)
    if not wire.ID.match(value):
        raise ValueError(f"{key!r} is not an id")
    return value


def get_ids(frame: wire.Frame, key: str) -> tuple[str, ...]:
    """A list of ids."""
    value = get_list(frame, key)
    if not all(isinstance(i, str) and wire.ID.match(i) for i in value):
        raise ValueError(f"{key!r} is not a list of ids")
    return tuple(value)


def get_newest_ids(frame: wire.Frame, key: str) -> tuple[str, ...]:
    """The last of them, where there are more than are believed."""
    value = frame[key]
    return get_ids({key: value[-_MOST_TURNS:] if isinstance(value, list) else value}, key)


def get_list(frame: wire.Frame, key: str) -> list[Any]:
    """A list, no longer than an agent makes them."""
    value = frame[key]
    if not isinstance(value, list):
        raise ValueError(f"{key!r} is not a list")
    if len(value) > _MOST_TURNS:
        raise ValueError(f"{key!r} names {len(value)} turns, and {_MOST_TURNS} at most are believed")
    return value


def get_int(frame: wire.Frame, key: str) -> int:
    """A whole number."""
    value = frame[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key!r} is not a whole number")
    if abs(value) >= _LARGEST:
        raise ValueError(f"{key!r} is too large a number")
    return value


def get_optional_int(frame: wire.Frame, key: str) -> int | None:
    """The same, or None."""
    return None if frame.get(key) is None else get_int(frame, key)
