"""What is asked of the service and what its answers mean. Sans-I/O: both clients are made of this."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from .errors import ServiceError, ServiceUnreachable
from .shapes import AnswerName, Prompt

__all__ = ["LONGEST_WAIT", "Call", "Patience", "answer", "checked", "command", "headers_of", "of", "timeout_for"]

#: Seconds that the service holds a request, at most.
LONGEST_WAIT = 600.0

#: Seconds for an answer to begin and to go on. Streams have a heartbeat every 15 s.
_PATIENT = httpx.Timeout(60.0, connect=10.0, read=45.0)

#: Seconds between two tries: doubled each time, up to the second.
_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

#: The service, or a proxy before it, is away for a while.
_AWAY = frozenset({502, 503, 504})

#: Characters of an answer that is no problem, which are shown.
_SHOWN = 200


class Call(NamedTuple):
    """A request.

    Attributes:
        again: it may be made again when nobody knows what became of it.
    """

    method: str
    path: str
    params: Mapping[str, str] = {}
    body: Any = None
    headers: Mapping[str, str] = {}
    again: bool = False


def headers_of(token: str) -> dict[str, str]:
    """Of all requests."""
    return {"Authorization": f"Bearer {token}"}


def timeout_for(wait: float) -> httpx.Timeout:
    """For a request that the service may hold for so many seconds."""
    assert _PATIENT.read is not None
    return httpx.Timeout(60.0, connect=_PATIENT.connect, read=_PATIENT.read + wait)


def of(method: str, *parts: str, body: Any = None, **params: Any) -> Call:
    """A request to ``/v1/PARTS``. Parameters that are None are left out. What only asks may be made again."""
    given = {name: _text(value) for name, value in params.items() if value is not None}
    return Call(
        method, "/".join(("/v1", *(quote(part, safe="") for part in parts))), given, body, again=method == "GET"
    )


def command(name: str, prompt: Prompt, key: str, wait: float) -> Call:
    """A command. With its key it is one, however often it is sent."""
    headers = {"Idempotency-Key": key}
    if wait > 0:
        headers["Prefer"] = f"wait={max(1, round(min(wait, LONGEST_WAIT)))}"
    path = f"/v1/instances/{quote(name, safe='')}/commands"
    return Call("POST", path, body={"prompt": prompt}, headers=headers, again=True)


def answer(
    request: str, decision: AnswerName, *, rule: str | None, reason: str | None, changed: Mapping[str, Any] | None
) -> Call:
    """A decision on a permission request."""
    given = {"answer": decision, "rule": rule, "reason": reason, "input": changed}
    return of("POST", "permissions", request, body={key: value for key, value in given.items() if value is not None})


def checked(response: httpx.Response) -> httpx.Response:
    """The response, whose body has been read.

    Raises:
        ServiceError: it is none that was hoped for.
    """
    if response.is_success:
        return response
    problem: Any = None
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            problem = json.loads(response.content)
        except ValueError:
            pass  # cut off: what it is, the status says
    if not isinstance(problem, dict):
        problem = {"detail": f"HTTP status {response.status_code}: {response.text[:_SHOWN]}"}
    raise ServiceError(response.status_code, problem)


class Patience:
    """How long somebody who does not answer is asked again.

    Args:
        seconds: from the first failure to the last try.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pause = _PAUSE
        self._since: float | None = None

    def rewarded(self) -> None:
        """It has answered."""
        self._pause, self._since = _PAUSE, None

    def pause(self, error: Exception, now: float) -> float:
        """Seconds until the next try.

        Args:
            now: seconds of a clock that never goes back.

        Raises:
            ServiceUnreachable: no more tries.
            ServiceError: the same, where the service has said why; or it is not away.
        """
        if isinstance(error, ServiceError) and error.status not in _AWAY:
            raise error
        self._since = now if self._since is None else self._since
        if now - self._since >= self._seconds:
            if isinstance(error, ServiceError):
                raise error
            raise ServiceUnreachable(f"the service cannot be reached: {error or type(error).__name__}") from error
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
