"""What an answer of the Claude API has used, read as it passes, whole or streamed. Does no I/O."""

from __future__ import annotations

import json
from typing import Any

from ..values import Value
from .prices import DEAREST, Price, price_of

__all__ = ["BYTES_A_TOKEN", "Usage", "UsageReader"]

#: Bytes. A line of a stream is an event: those that are longer carry no usage.
_LONGEST_LINE = 1024 * 1024
_LONGEST_BODY = 8 * 1024 * 1024

#: More than this no request can have used: what says so is no number of tokens.
_MOST_TOKENS = 1_000_000_000

#: Where an answer ends before it has said how many tokens it has: bytes of a piece's event beside the text, and of
#: text for a token. On the safe side: a token of English has about four characters.
_AROUND, BYTES_A_TOKEN = 100, 3

#: Events that are looked into, of those of a stream.
_SAYING = (b'"message_start"', b'"message_delta"', b'"message_stop"', b'"error"')

_SEARCH_USD = 0.01


class Usage(Value):
    """What one request has used.

    Attributes:
        model: as the answer has it; empty: it did not say.
        input_tokens: with those that were read from the cache, or written to it.
        usd: by list prices; 0 where they are not known.
        usd_at_most: the same, where prices are not known by the dearest.
    """

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    usd_at_most: float = 0.0


class UsageReader:
    """Reads one answer. Give each piece to ``receive_data`` after it was passed on; ``usage()`` is what it had so far.

    Args:
        content_type: the answer's; empty: none has begun.
        asked: bytes that it answers. Where it does not come to say what it has used, these were.
    """

    def __init__(self, content_type: str, asked: int = 0) -> None:
        self._asked = asked
        self._streamed = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._rest = bytearray()
        self._skipping = False
        self._numbers: dict[str, int] = {}
        self._model = ""
        self._fast = False
        self._text = 0
        self._final = False
        self._ended = False

    @property
    def complete(self) -> bool:
        """Whether a stream's last event has come. Other answers have a length that says it."""
        return self._ended or not self._streamed

    def receive_data(self, data: bytes) -> None:
        """Read on; any bytes will do."""
        if not self._streamed:
            if not self._skipping:
                self._rest += data
                self._skipping = len(self._rest) > _LONGEST_BODY
            return
        looked_at = len(self._rest)
        self._rest += data
        start = 0
        while (end := self._rest.find(b"\n", max(start, looked_at))) >= 0:
            self._take_line(bytes(self._rest[start:end]))
            start = end + 1
        del self._rest[:start]
        if len(self._rest) > _LONGEST_LINE:
            self._text += len(self._rest)
            self._skipping = True
            self._rest.clear()

    def _take_line(self, line: bytes) -> None:
        if self._skipping:
            self._skipping = False
            self._text += len(line)
            return
        if not line.startswith(b"data:"):
            return
        event = _parsed(line[5:]) if any(word in line for word in _SAYING) else {}
        kind = event.get("type")
        if kind == "message_start":
            message = event.get("message")
            self._take_message(message if isinstance(message, dict) else {})
        elif kind == "message_delta":
            self._final = self._take_usage(event.get("usage")) or self._final
        elif kind in ("message_stop", "error"):
            self._ended = True
        else:
            self._text += max(0, len(line) - _AROUND)

    def _take_message(self, message: dict[str, Any]) -> None:
        model = message.get("model")
        self._model = model[:100] if isinstance(model, str) else self._model
        self._take_usage(message.get("usage"))

    def _take_usage(self, usage: object) -> bool:
        """Note numbers, which only grow, as later events repeat them. Returns whether output is among them."""
        if not isinstance(usage, dict):
            return False
        self._fast = self._fast or usage.get("speed") == "fast"
        parts = [usage, usage.get("cache_creation"), usage.get("server_tool_use")]
        for part in parts:
            for name in _COUNTED if isinstance(part, dict) else ():
                value = part.get(name) if isinstance(part, dict) else None
                if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
                    self._numbers[name] = max(value, self._numbers.get(name, 0))
        return "output_tokens" in usage

    def usage(self) -> Usage:
        """What is known so far; where an answer was cut, its output is estimated by its length."""
        if not self._streamed and self._rest:
            body = {} if self._skipping else _parsed(bytes(self._rest))
            self._text = len(self._rest)
            self._take_message(body)
            # An answer without usage, such as an error or a count of tokens, costs nothing.
            self._final = not self._skipping
            self._rest.clear()
        get = self._numbers.get
        written, read = get("cache_creation_input_tokens", 0), get("cache_read_input_tokens", 0)
        fresh, output = get("input_tokens", 0), get("output_tokens", 0)
        if not (self._numbers or self._final or self._ended):
            fresh = self._asked // BYTES_A_TOKEN
        if not self._final:
            output = max(output, self._text // BYTES_A_TOKEN)
        price = None if self._fast else price_of(self._model)
        hour = min(written, get("ephemeral_1h_input_tokens", 0))
        usd = _usd(price or DEAREST, fresh, written - hour, hour, read, output)
        usd += _SEARCH_USD * get("web_search_requests", 0)
        return Usage(self._model, fresh + written + read, output, usd if price else 0.0, usd)


_COUNTED = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "ephemeral_1h_input_tokens",
    "web_search_requests",
)


def _usd(price: Price, fresh: int, written: int, hour: int, read: int, output: int) -> float:
    long = price.long_from and fresh + written + hour + read > price.long_from
    a_token_in, a_token_out = (price.long_input, price.long_output) if long else (price.input, price.output)
    return ((fresh + 1.25 * written + 2 * hour + price.cached * read) * a_token_in + output * a_token_out) / 1e6


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
