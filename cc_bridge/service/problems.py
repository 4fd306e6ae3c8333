"""Errors as clients get them: application/problem+json (RFC 9457), with the library's hint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from ..errors import (
    AlreadyDecided,
    BridgeError,
    BudgetExceeded,
    ChannelError,
    EngineTimeout,
    EngineUnavailable,
    InstanceBusy,
    InstanceDiffers,
    InstanceNotFound,
    InvalidInput,
    LimitReached,
    NameConflict,
    NoSpaceLeft,
    PositionGone,
    RequestRefused,
    TurnNotFound,
)
from .identities import NotAllowed, TooMany
from .sse import json_bytes
from .store.errors import KeyReused, StoreUnavailable

__all__ = ["NotThere", "Problem", "TooLate", "problem_of", "stranger"]


class NotThere(BridgeError):
    """What was asked for is not there, or not for who asks."""


class TooLate(BridgeError):
    """What was to be changed cannot be changed any more."""


#: The first that fits.
_STATUSES: tuple[tuple[type[BridgeError], HTTPStatus], ...] = (
    (InstanceNotFound, HTTPStatus.NOT_FOUND),
    (TurnNotFound, HTTPStatus.NOT_FOUND),
    (NotThere, HTTPStatus.NOT_FOUND),
    (TooLate, HTTPStatus.CONFLICT),
    (RequestRefused, HTTPStatus.CONFLICT),
    (InstanceDiffers, HTTPStatus.CONFLICT),
    (InstanceBusy, HTTPStatus.CONFLICT),
    (AlreadyDecided, HTTPStatus.CONFLICT),
    (KeyReused, HTTPStatus.CONFLICT),
    (NameConflict, HTTPStatus.CONFLICT),
    (PositionGone, HTTPStatus.GONE),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (TooMany, HTTPStatus.TOO_MANY_REQUESTS),
    (BudgetExceeded, HTTPStatus.TOO_MANY_REQUESTS),
    (LimitReached, HTTPStatus.TOO_MANY_REQUESTS),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (NoSpaceLeft, HTTPStatus.INSUFFICIENT_STORAGE),
    (EngineUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (EngineTimeout, HTTPStatus.SERVICE_UNAVAILABLE),
    (ChannelError, HTTPStatus.SERVICE_UNAVAILABLE),
)

#: Seconds after which it is worth trying again, where the error does not know.
_AGAIN = 5


@dataclass(frozen=True)
class Problem:
    """A problem, as RFC 9457 has it.

    Attributes:
        kind: a word that programs may compare: the class of the library's error, or ``http``.
        detail: what has happened.
        hint: what to do about it.
        more: what else is known.
    """

    status: int
    kind: str
    detail: str
    hint: str = ""
    instance: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    retry_after: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The members of the JSON object."""
        said = {"hint": self.hint, "instance_name": self.instance}
        return {
            "type": f"urn:cc-bridge:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **{name: value for name, value in said.items() if value},
            **self.more,
        }

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """What the client gets."""
        again = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        given = {**(headers or {}), **again}
        return Response(json_bytes(self.body), self.status, given, "application/problem+json")


def stranger(what: str) -> Response:
    """What somebody gets whom nobody knows."""
    hint = "`cc-bridge serve` shows where the first token is; more are made with it."
    problem = Problem(HTTPStatus.UNAUTHORIZED, "not-signed-in", what, hint)
    return problem.response({"WWW-Authenticate": 'Bearer realm="cc-bridge"'})


def problem_of(error: BridgeError) -> Problem:
    """What an error of the library's is for a client."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.BAD_GATEWAY)
    more: dict[str, Any] = {}
    if isinstance(error, AlreadyDecided):
        more = {"by": error.by, "how": error.how}
    elif isinstance(error, InstanceDiffers):
        more = {"differences": list(error.differences)}
    return Problem(
        status, type(error).__name__, error.what, error.hint, error.instance, more, _retry_after(error, status)
    )


def _retry_after(error: BridgeError, status: HTTPStatus) -> int | None:
    if isinstance(error, StoreUnavailable | TooMany):
        return max(1, math.ceil(error.retry_after))
    if isinstance(error, BudgetExceeded) and error.opens is not None:
        return max(1, math.ceil((error.opens - datetime.now(UTC)).total_seconds()))
    return _AGAIN if status == HTTPStatus.SERVICE_UNAVAILABLE else None
