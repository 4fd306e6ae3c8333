"""Permission requests on disk: a private file for each that waits, and for each answer that may not have arrived."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..instance import Allow, Decision, Deny
from ..state import make_private, write_whole

__all__ = ["Answered", "KeptRequest", "RequestStore"]

#: Characters of a request's input as JSON, up to which it is kept. It comes again with the request itself.
_LONGEST_INPUT = 64 * 1024

#: Bytes of a file that is read, and requests that are.
_LARGEST_FILE = 1024 * 1024
_MOST = 10_000


@dataclass(frozen=True)
class Answered:
    """A request's answer.

    Attributes:
        how: as :class:`~cc_bridge.AlreadyDecided` has it.
    """

    decision: Decision
    by: str
    how: str


@dataclass(frozen=True)
class KeptRequest:
    """A request, and what has become of it.

    Attributes:
        input: None: it was too long to be kept.
    """

    id: str
    instance: str
    turn: str
    request_id: str
    tool_name: str
    input: Mapping[str, Any] | None
    suggestions: tuple[Any, ...]
    since: datetime
    answered: Answered | None = None


class RequestStore:
    """The directory. It belongs to one fleet at a time.

    Args:
        directory: made with mode 0700.

    Raises:
        InvalidInput: the directory cannot be used, or is not this user's alone.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        make_private(directory)

    def load(self) -> list[KeptRequest]:
        """All that are kept, oldest first. What cannot be read is deleted: Claude Code asks again."""
        found = []
        for path in sorted(self.directory.iterdir())[:_MOST]:
            request = _read(path) if path.suffix == ".json" else None
            if request is None or f"{request.id}.json" != path.name:
                path.unlink(missing_ok=True)
            else:
                found.append(request)
        return sorted(found, key=lambda request: request.since)

    def save(self, request: KeptRequest) -> None:
        """Keep a request, whole or as it was before; an answer also if the machine loses its power.

        Raises:
            OSError: it could not be written.
            TypeError, ValueError: the answer is not JSON.
        """
        write_whole(self._path(request.id), _text(request).encode("utf-8"), lasting=bool(request.answered))

    def remove(self, request_id: str) -> None:
        """Forget a request; harmless when repeated."""
        with contextlib.suppress(OSError):  # what stays is an answer that nobody asks for again
            self._path(request_id).unlink(missing_ok=True)

    def _path(self, request_id: str) -> Path:
        return self.directory / f"{request_id}.json"


def _text(request: KeptRequest) -> str:
    shown = json.dumps([request.input, request.suggestions], default=str)
    if len(shown) > _LONGEST_INPUT:
        request = replace(request, input=None, suggestions=())
    answered = request.answered
    return json.dumps(
        {
            "id": request.id,
            "instance": request.instance,
            "turn": request.turn,
            "request_id": request.request_id,
            "tool_name": request.tool_name,
            "input": request.input,
            "suggestions": list(request.suggestions),
            "since": request.since.isoformat(),
            "answered": answered and {"by": answered.by, "how": answered.how, **_decision_as_dict(answered.decision)},
        }
    )


def _decision_as_dict(decision: Decision) -> dict[str, Any]:
    if isinstance(decision, Deny):
        return {"deny": decision.reason}
    return {"allow": {"input": decision.input, "updates": list(decision.updates)}}


def _read(path: Path) -> KeptRequest | None:
    try:
        with path.open("rb") as file:
            kept = json.loads(file.read(_LARGEST_FILE))
        texts = {name: kept[name] for name in ("id", "instance", "turn", "request_id", "tool_name")}
        since = datetime.fromisoformat(kept["since"]).astimezone(UTC)
        if not all(isinstance(text, str) for text in texts.values()) or not isinstance(kept["input"], dict | None):
            return None
        return KeptRequest(
            **texts,
            input=kept["input"],
            suggestions=tuple(kept["suggestions"]),
            since=since,
            answered=_answer(kept["answered"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _answer(kept: Any) -> Answered | None:
    if kept is None:
        return None
    if "deny" in kept:
        return Answered(Deny(str(kept["deny"])), str(kept["by"]), str(kept["how"]))
    given = kept["allow"]
    if not isinstance(given["input"], dict | None):
        raise TypeError("an input is a dictionary")
    return Answered(Allow(given["input"], tuple(given["updates"])), str(kept["by"]), str(kept["how"]))
