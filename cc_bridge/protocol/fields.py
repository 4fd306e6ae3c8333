"""Fields of a message that nobody vouches for: each is read with its type checked. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = [
    "MOST_ITEMS",
    "Malformed",
    "Raw",
    "blocks",
    "flag",
    "integer",
    "items",
    "needed",
    "number",
    "optional_integer",
    "optional_number",
    "parent_of",
    "section",
    "text",
    "texts",
]

Raw = Mapping[str, Any]
ItemT = TypeVar("ItemT")

#: Items of a list that are made objects of; a longer list is not taken for what it says it is.
MOST_ITEMS = 1000

#: Larger than any count, amount or time that is meant seriously.
_LARGEST = 1e15


class Malformed(ValueError):
    """A message lacks what its kind must have."""


def text(message: Raw, key: str) -> str:
    """A text; empty where there is none."""
    value = message.get(key)
    return value if isinstance(value, str) else ""


def needed(message: Raw, key: str) -> str:
    """A text that must be there.

    Raises:
        Malformed: it is not.
    """
    value = message.get(key)
    if not isinstance(value, str):
        raise Malformed(f"no text {key!r}")
    return value


def flag(message: Raw, key: str) -> bool | None:
    """True or false; None where it is neither."""
    value = message.get(key)
    return value if isinstance(value, bool) else None


def optional_number(message: Raw, key: str) -> float | None:
    """A number; None where there is none that can be meant: neither NaN nor infinity."""
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return value


def number(message: Raw, key: str) -> float:
    """The same; 0 where there is none."""
    return optional_number(message, key) or 0.0


def optional_integer(message: Raw, key: str) -> int | None:
    """A number without its fraction; None where there is none."""
    value = optional_number(message, key)
    return None if value is None else int(value)


def integer(message: Raw, key: str) -> int:
    """The same; 0 where there is none."""
    return optional_integer(message, key) or 0


def section(message: Raw, key: str) -> Raw:
    """An object; empty where there is none."""
    value = message.get(key)
    return value if isinstance(value, dict) else {}


def texts(message: Raw, key: str) -> tuple[str, ...]:
    """The texts of a list."""
    value = message.get(key)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def items(message: Raw, key: str, make: Callable[[Raw], ItemT]) -> tuple[ItemT, ...]:
    """What is made of each object of a list that must be there.

    Raises:
        Malformed: it is no list, an item is no object, or there are more than :data:`MOST_ITEMS`; or ``make`` says so.
    """
    value = message.get(key)
    if not isinstance(value, list) or len(value) > MOST_ITEMS or not all(isinstance(item, dict) for item in value):
        raise Malformed(f"no list {key!r}")
    return tuple(make(item) for item in value)


def blocks(message: Raw) -> tuple[Raw, ...]:
    """The content blocks of a message of the API's."""
    content = message.get("content")
    return tuple(block for block in content if isinstance(block, dict)) if isinstance(content, list) else ()


def parent_of(message: Raw) -> str:
    """The id of the Task call whose subagent has said it; empty: the main conversation has.

    Raises:
        Malformed: it is something else than an id.
    """
    parent = message.get("parent_tool_use_id")
    if parent is not None and not isinstance(parent, str):
        raise Malformed("parent_tool_use_id is no text")
    return parent or ""
