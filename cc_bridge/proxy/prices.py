"""List prices of the Claude API, by model.

From platform.claude.com/docs/en/about-claude/pricing and the models' own pages, November 2026. Writing the cache
costs 1.25 times the input's price for five minutes, and twice for an hour.
"""

from __future__ import annotations

import re

from ..values import Value

__all__ = ["DEAREST", "Price", "price_of"]


class Price(Value):
    """USD for a million tokens.

    Attributes:
        cached: what reading the cache costs, as a part of ``input``.
        long_from: input tokens above which ``long_input`` and ``long_output`` are what all of a request costs; 0: none.
    """

    input: float
    output: float
    cached: float = 0.1
    long_from: int = 0
    long_input: float = 0.0
    long_output: float = 0.0


#: For limits, where a price is not known: no model has been listed at more.
DEAREST = Price(30.0, 150.0)

_OPUS, _OLD_OPUS, _SONNET = Price(5.0, 25.0), Price(15.0, 75.0), Price(3.0, 15.0)

_PRICES = {
    "fable-5-1": Price(10.0, 50.0, 0.025),
    "mythos-5-1": Price(10.0, 50.0, 0.025),
    "fable-5": Price(10.0, 50.0),
    "mythos-5": Price(10.0, 50.0),
    "opus-5-5": Price(4.0, 20.0, 0.05),
    **dict.fromkeys(("opus-5", "opus-4-8", "opus-4-7", "opus-4-6", "opus-4-5"), _OPUS),
    **dict.fromkeys(("opus-4-1", "opus-4-0", "opus-4", "3-opus"), _OLD_OPUS),
    "sonnet-5-5": Price(2.0, 10.0, 0.05),
    "sonnet-5": Price(2.0, 10.0),
    **dict.fromkeys(("sonnet-4-6", "sonnet-4-5", "sonnet-4-0", "sonnet-4", "3-7-sonnet", "3-5-sonnet"), _SONNET),
    "haiku-5-5": Price(0.1, 0.5, 0.1, 100_000, 0.5, 2.5),
    "haiku-4-5": Price(1.0, 5.0),
    "3-5-haiku": Price(0.8, 4.0),
    "3-haiku": Price(0.25, 1.25),
}

_NAME = re.compile(r"claude-([a-z0-9-]{1,40}?)(-[0-9]{8}|-latest)?(\[1m\])?")


def price_of(model: str) -> Price | None:
    """A model's, by its name in the API; None: not known."""
    name = _NAME.fullmatch(model)
    return _PRICES.get(name[1]) if name else None
