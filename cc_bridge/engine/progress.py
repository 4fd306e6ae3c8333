"""Progress messages of builds and pulls as steps for a person to read. Sans-I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..values import Value

__all__ = ["Progress", "ProgressReader", "Step"]

_STEP = re.compile(r"Step (\d+)/(\d+)\b")

#: Most layers of an image that are counted.
_MOST_LAYERS = 1000


class Step(Value):
    """A step of a long operation. ``done`` of ``total``: build steps or pulled bytes; None: unknown.

    Attributes:
        passing: repeated many times a second, for a progress bar; logs omit it.
    """

    text: str
    done: int | None = None
    total: int | None = None
    passing: bool = False

    def __str__(self) -> str:
        return self.text


#: Called with each step, from a worker thread.
Progress = Callable[[Step], None]


class ProgressReader:
    """Parses the engine's messages into steps."""

    def __init__(self) -> None:
        self._done: int | None = None
        self._total: int | None = None
        self._layers: dict[str, tuple[int, int]] = {}

    def read(self, message: Mapping[str, Any]) -> Iterator[Step]:
        """The steps in a message: none, or one for each line."""
        if "stream" in message:
            for line in str(message["stream"]).splitlines():
                text = line.rstrip()
                if text and not text.startswith((" --->", "Removing intermediate")):
                    yield self._built(text)
        elif "status" in message:
            yield from self._pulled(message)

    def _built(self, text: str) -> Step:
        if found := _STEP.match(text):
            self._done, self._total = int(found[1]), int(found[2])
        return Step(text, self._done, self._total)

    def _pulled(self, message: Mapping[str, Any]) -> Iterator[Step]:
        layer, detail = str(message.get("id") or ""), message.get("progressDetail") or {}
        total = detail.get("total")
        downloading = message["status"] == "Downloading"
        if downloading and isinstance(total, int) and (layer in self._layers or len(self._layers) < _MOST_LAYERS):
            self._layers[layer] = (int(detail.get("current") or 0), total)
        elif layer in self._layers and not detail:
            self._layers[layer] = (self._layers[layer][1],) * 2
        done = sum(now for now, _ in self._layers.values()) if self._layers else None
        whole = sum(total for _, total in self._layers.values()) if self._layers else None
        text = " ".join(filter(None, (layer, str(message["status"]))))
        yield Step(text, done, whole, passing=bool(detail) or "progress" in message)
