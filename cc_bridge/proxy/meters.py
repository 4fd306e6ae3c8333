"""Limits on what an instance asks of the API, and its day's sums. Does no I/O; time is given, in seconds since 1970."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..limits import ApiLimits
from .terms import Refused
from .usage import BYTES_A_TOKEN, Usage

__all__ = ["Meters"]

_COUNTS = ("requests", "bytes", "input_tokens", "output_tokens")

#: Requests at once where the tokens or the USD of a day are limited and nothing else is said: so many may go beyond it.
_AT_ONCE = 16

#: USD for a token that is being asked about, until the answer says what it costs: what most models take.
_A_TOKEN = 5e-6

#: Refused requests in a minute beyond which each is held back, and noted together with others.
_MOST_REFUSED = 100


class Meters:
    """What one instance has used today, and whether it may go on.

    Args:
        kept: what :meth:`as_dict` said before the program ended.
    """

    def __init__(self, limits: ApiLimits, kept: Mapping[str, Any] | None = None) -> None:
        self.limits = limits
        self._at_once = 0
        self._reserved = 0  # bytes of what was asked and has not been answered
        self._begun: deque[float] = deque()
        self._refused: deque[float] = deque(maxlen=_MOST_REFUSED + 1)
        self._day = ""
        self._sums: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        self._usd = self._usd_at_most = 0.0
        if kept is not None:
            self._take(kept)

    def _take(self, kept: Mapping[str, Any]) -> None:
        self._day = str(kept.get("day", ""))
        for name in _COUNTS:
            value = kept.get(name)
            self._sums[name] = value if isinstance(value, int) and value > 0 else 0
        self._usd, self._usd_at_most = _amount(kept.get("usd")), _amount(kept.get("usd_at_most"))

    def as_dict(self) -> dict[str, Any]:
        """The day and its sums, of JSON's types: ``day``, ``requests``, ``bytes``, tokens, ``usd``, ``usd_at_most``.

        The last counts models whose price is not known by the dearest; it is what ``usd_per_day`` looks at.
        """
        return {"day": self._day, **self._sums, "usd": self._usd, "usd_at_most": self._usd_at_most}

    def begin(self, now: float) -> None:
        """A request begins; call :meth:`end` when it has ended.

        Raises:
            Refused: a limit is reached, and it has not begun.
        """
        self.check_day(now)
        while self._begun and not 0 <= now - self._begun[0] < 60:
            self._begun.popleft()
        most = self.limits.at_once or (_AT_ONCE if self.limits.tokens_per_day or self.limits.usd_per_day else 0)
        if most and self._at_once >= most:
            raise _for_now(f"{self._at_once} requests at once are all it may have")
        if self.limits.requests_per_minute:
            if len(self._begun) >= self.limits.requests_per_minute:
                raise _for_now(f"{len(self._begun)} requests a minute are all it may have")
            self._begun.append(now)
        self._at_once += 1
        self._sums["requests"] += 1

    def refuse(self, now: float) -> None:
        """A request was refused."""
        self._refused.append(now)

    def is_flooded(self, now: float) -> bool:
        """Whether so much was refused in the last minute that more of it is no news."""
        return len(self._refused) > _MOST_REFUSED and 0 <= now - self._refused[0] < 60

    def reserve(self, count: int) -> None:
        """Bytes are asked that cost something; until their request ends they count by their length."""
        self._reserved += count

    def end(self, now: float, usage: Usage, reserved: int = 0) -> None:
        """A request has ended, and used this; so many bytes were reserved for it."""
        self._turn(now)
        self._at_once -= 1
        self._reserved -= reserved
        self._sums["input_tokens"] += usage.input_tokens
        self._sums["output_tokens"] += usage.output_tokens
        self._usd += usage.usd
        self._usd_at_most += usage.usd_at_most

    def add_bytes(self, now: float, count: int) -> bool:
        """Count bytes of bodies or of a tunnel. Returns False when the day's are used up: stop then."""
        self._turn(now)
        self._sums["bytes"] += count
        return not self.limits.bytes_per_day or self._sums["bytes"] <= self.limits.bytes_per_day

    def check_day(self, now: float) -> None:
        """Refuse what would begin when a day's limit is reached.

        Raises:
            Refused: names the limit.
        """
        self._turn(now)
        tokens = self._sums["input_tokens"] + self._sums["output_tokens"]
        for what, used, most in (
            ("bytes", self._sums["bytes"], self.limits.bytes_per_day),
            ("tokens", tokens, self.limits.tokens_per_day),
            ("USD", self._usd_at_most, self.limits.usd_per_day),
        ):
            if most and used >= most:
                message = f"today's limit of {most:,} {what} is reached; the day ends at midnight, UTC"
                # Claude Code shows it as it is and does not ask again (docs/claude-code.md).
                raise Refused(402, "billing_error", f"cc-bridge: {message}")
        waiting = self._reserved // BYTES_A_TOKEN
        for what, used, most in (
            ("tokens", tokens + waiting, self.limits.tokens_per_day),
            ("USD", self._usd_at_most + waiting * _A_TOKEN, self.limits.usd_per_day),
        ):
            if most and used >= most:
                raise _for_now(f"what is left of today's {most:,} {what} is being used")

    def _turn(self, now: float) -> None:
        """Begin a new day where it is one. A clock that was put back does not give a day again."""
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        if day > self._day:
            self._day = day
            self._sums = dict.fromkeys(_COUNTS, 0)
            self._usd = self._usd_at_most = 0.0


def _amount(value: object) -> float:
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _for_now(what: str) -> Refused:
    return Refused(429, "rate_limit_error", f"cc-bridge: {what}; it is tried again")
