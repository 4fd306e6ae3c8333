"""Options for where the key is, and for what an instance may reach and ask."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from ..errors import InvalidInput
from ..limits import ApiLimits
from .parameters import Option

__all__ = ["AllowHost", "ApiLimit", "Key", "KeyCommand", "KeyFile", "KeyOption", "Sealed", "parse_api_limits"]


class Key(enum.StrEnum):
    """Where the key is."""

    inside = "inside"
    outside = "outside"


Sealed = Annotated[
    bool,
    Option(
        "--sealed", help="Docker, Swarm: no network and no key inside; the API is asked by a proxy on this machine."
    ),
]
AllowHost = Annotated[
    list[str] | None,
    Option(
        "--allow-host",
        metavar="HOST[:PORT]",
        help="With --sealed: it may reach this host, too, by TLS; a group such as python does for its hosts. "
        "Repeatable.",
    ),
]
KeyOption = Annotated[
    Key, Option("--key", help="outside: it has a placeholder, and a proxy on this machine puts the key in.")
]
KeyCommand = Annotated[
    str,
    Option(
        "--key-command", metavar="COMMAND", help="With a key outside: this command of this machine's prints the key."
    ),
]
KeyFile = Annotated[
    Path | None, Option("--key-file", metavar="FILE", help="With a key outside: the key is in this file.")
]
ApiLimit = Annotated[
    list[str] | None,
    Option(
        "--api-limit",
        metavar="NAME=N",
        help="With a key outside: usd-per-day, tokens-per-day, bytes-per-day, requests-per-minute or at-once. "
        "Repeatable.",
    ),
]


def parse_api_limits(texts: Sequence[str], before: ApiLimits | None = None) -> ApiLimits:
    """Limits of ``NAME=N`` each, and those of before in the place of the others.

    Raises:
        InvalidInput: one is none.
    """
    kinds = {name: type(value) for name, value in vars(ApiLimits()).items()}
    found: dict[str, Any] = dict(vars(before or ApiLimits()))
    for text in texts:
        word, _, value = text.partition("=")
        name = word.replace("-", "_")
        try:
            found[name] = kinds[name](value)
        except (KeyError, ValueError):
            hint = f"Write NAME=N; there are {', '.join(kinds).replace('_', '-')}."
            raise InvalidInput(f"--api-limit {text!r} is no limit", hint=hint) from None
    return ApiLimits(**found)
