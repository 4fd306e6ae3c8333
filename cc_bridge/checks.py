"""What a field of a record may be: each check returns the value, or raises a ValueError that says what is needed.

Values themselves are not shown: they may be secrets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "Check",
    "fields",
    "flag",
    "number",
    "numbers_by_number",
    "one_of",
    "path",
    "secure_address",
    "text",
    "texts",
    "texts_by_name",
    "time",
    "whole_number",
]

Check = Callable[[object], Any]

#: More than an engine's whole numbers can be, or SQLite's.
_BEYOND = 2**63


def text(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise _wrong("a string", value)
    return str.__str__(value)  # of an enumeration of strings, the string


def one_of(*choices: str) -> Callable[[object], str]:
    """A check for one of these strings."""

    def check(value: object) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return text(value)

    return check


def flag(value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _wrong("True or False", value)
    return value


def whole_number(value: object) -> int:
    """An integer, or a float that is one, such as 2e9."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong("a whole number", value)
    if abs(value) >= _BEYOND:
        raise ValueError("a whole number of at most 63 bits is needed")
    return value


def number(value: object) -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong("a number", value)
    try:
        found = float(value)
    except OverflowError:  # an integer of hundreds of digits
        found = math.inf
    if not math.isfinite(found):
        raise ValueError("a number is needed, and this is none that can be counted with")
    return found


def path(value: object) -> Path | None:
    """A path, or None."""
    if value is not None and not isinstance(value, str | Path):
        raise _wrong("a path", value)
    return None if value is None else Path(value)


def secure_address(value: object) -> str:
    """A web address whose contents nobody can read or change on the way: https, or http to this machine."""
    wanted = "an address that begins with https://, or http:// and this machine's"
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,2000}", value):
        raise ValueError(f"{wanted}, is needed")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError(f"{wanted}, is needed")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_machine(host)):
        raise ValueError(f"{wanted}, is needed")
    return value


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def time(value: object) -> datetime:
    """A time, or one in ISO 8601."""
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise _wrong("a time in ISO 8601", value)
    return value


def texts(value: object) -> tuple[str, ...]:
    """Strings, in an order. One string is none of them: it would be taken for its characters."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise _wrong("a list of strings", value)
    return tuple(map(text, value))


def texts_by_name(value: object) -> dict[str, str]:
    """Strings by names."""
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise _wrong("a dictionary of strings", value)
    return {text(name): text(item) for name, item in value.items()}


def numbers_by_number(value: object) -> dict[int, int]:
    """Whole numbers by whole numbers, which are strings where the dictionary was JSON."""
    if not isinstance(value, Mapping):
        raise _wrong("a dictionary of whole numbers", value)
    return {
        whole_number(int(key) if isinstance(key, str) and key.isdecimal() else key): whole_number(item)
        for key, item in value.items()
    }


def fields(value: object, checks: Mapping[str, Check]) -> dict[str, Any]:
    """What is in a dictionary, each by its own check; an error names the field."""
    if not isinstance(value, Mapping):
        raise _wrong("a dictionary", value)
    found = {}
    for name, item in value.items():
        if name not in checks:
            raise ValueError(f"there is no field {name!r}")
        try:
            found[name] = checks[name](item)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _wrong(needed: str, value: object) -> ValueError:
    return ValueError(f"{needed} is needed, and this is of type {type(value).__name__}")
