"""What a value in the configuration file may be, and what it is then. Sans-I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import checks

__all__ = [
    "Wrong",
    "a_count",
    "a_flag",
    "a_limit",
    "a_number",
    "a_port",
    "a_secure_address",
    "a_size",
    "a_table",
    "a_text",
    "a_web_address",
    "an_origin",
    "one_of",
    "ports",
    "seconds",
    "texts",
    "words",
]

#: More than any whole number is: what an engine or SQLite can take has 64 bits.
_BEYOND = 2**63

#: Of a token.
_LARGEST_LIMIT = 1_000_000

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class Wrong(Exception):
    """What a value should be."""


def a_text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise Wrong("a text")
    return value


def a_flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Wrong("true or false")
    return value


def a_count(value: Any) -> int:
    """A whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _BEYOND:
        raise Wrong("a whole number, 0 or more")
    return value


def a_limit(value: Any) -> int:
    """A whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_LIMIT:
        raise Wrong(f"a whole number from 1 to {_LARGEST_LIMIT}")
    return value


def a_number(value: Any) -> float:
    """A number, 0 or more."""
    try:
        found = checks.number(value)
    except ValueError:
        raise Wrong("a number, 0 or more") from None
    if found < 0:
        raise Wrong("a number, 0 or more")
    return found


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong("a list of texts")
    return tuple(value)


def a_table(value: Any) -> dict[str, str]:
    """A table of texts."""
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Wrong("a table of texts")
    return dict(value)


def ports(value: Any) -> dict[int, int]:
    """Ports by ports."""
    wanted = Wrong('a table of ports, such as { "80" = 8080 }')
    if not isinstance(value, dict):
        raise wanted
    if not all(re.fullmatch(r"\d{1,5}", key) and type(port) is int for key, port in value.items()):
        raise wanted
    return {int(key): port for key, port in value.items()}


def seconds(value: Any) -> float:
    """A time, in seconds."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", value)):
        return float(found[1]) * _UNITS[found[2]]
    try:
        return a_number(value)
    except Wrong:
        raise Wrong('a time, such as "90s", "10m", "2h", "1d", or seconds') from None


def a_size(value: Any) -> int:
    """An amount of memory, in bytes."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kmg]?)b?", value.lower())):
        return int(float(found[1]) * _SIZES[found[2]])
    try:
        return a_count(value)
    except Wrong:
        raise Wrong('an amount of memory, such as "512m" or "2g", or bytes') from None


def a_port(value: Any) -> int:
    """A port, or 0."""
    if type(value) is not int or not 0 <= value < 65536:
        raise Wrong("a port, or 0 for any that is free")
    return value


def a_web_address(value: Any) -> str:
    """An address of the web."""
    if not isinstance(value, str) or not re.match(r"https?://[^\s/]", value):
        raise Wrong('an address, such as "http://localhost:4318/v1/traces"')
    return value


def one_of(*words: str) -> Callable[[Any], str]:
    """A check for one of these words."""

    def check(value: Any) -> str:
        if value not in words:
            raise Wrong(f"one of {', '.join(words)}")
        return str(value)

    return check


def a_secure_address(value: Any) -> str:
    """One that begins with https, or leads to this machine."""
    try:
        return checks.secure_address(value)
    except ValueError:
        raise Wrong('an address such as "https://login.example"; http:// only on this machine') from None


def an_origin(value: Any) -> str:
    """Such an address without a path."""
    found = a_secure_address(value).rstrip("/")
    if not re.fullmatch(r"https?://[^/?#]+", found):
        raise Wrong('an address without a path, such as "https://chat.example"')
    return found


def words(*known: str) -> Callable[[Any], tuple[str, ...]]:
    """A check for a list of some of these words."""

    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(item in known for item in value):
            raise Wrong(f"a list with some of {', '.join(known)}")
        return tuple(value)

    return check
