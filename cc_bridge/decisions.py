"""Decisions on permission requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .errors import InvalidInput
from .events import PermissionRequest
from .values import Value

__all__ = ["Allow", "Decision", "Deny", "OnPermission", "decision_of", "request_digest"]

#: Characters of base32 in an id: 130 bits, so that nobody finds two requests with one.
_DIGEST = 26


class Allow(Value):
    """Let the tool run.

    Attributes:
        input: a changed input, or None for the one asked about.
        updates: rules that make the permission last, from the request's ``suggestions``.
    """

    input: Mapping[str, Any] | None = None
    updates: tuple[Any, ...] = ()


class Deny(Value):
    """Do not let the tool run; the model reads the reason."""

    reason: str = "The user has not allowed this."


Decision = Allow | Deny

#: A coroutine function that decides on a permission request, within ``permission_limit`` seconds of the instance's.
OnPermission = Callable[[PermissionRequest], Awaitable[Decision]]


async def decision_of(on_permission: OnPermission, request: PermissionRequest) -> Decision:
    """What ``on_permission`` decides.

    Raises:
        InvalidInput: it is no coroutine function, or returned something else than Allow or Deny. A bool is not taken:
            what a program returns by mistake is often true.
    """
    answer = on_permission(request)
    if not isinstance(answer, Awaitable):
        hint = "Write it with `async def`; instances of cc_bridge.blocking take plain functions, too."
        raise InvalidInput(f"on_permission is no coroutine function: it returned {answer!r} at once", hint=hint)
    decision: object = await answer
    if not _is_decision(decision):
        hint = "Return Allow() or Deny(reason); the permission was denied."
        raise InvalidInput(f"on_permission returned {decision!r}, which is no decision", hint=hint)
    assert isinstance(decision, Allow | Deny)
    try:
        json.dumps(decision.as_dict(), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        hint = "The permission was denied."
        raise InvalidInput(f"on_permission returned what cannot be sent: {error}", hint=hint) from error
    return decision


def request_digest(instance: str, turn: str, request: PermissionRequest) -> str:
    """A request's id, of all that the decision is about: what is asked again with another input is another request.

    The suggested rules are part of it: nobody shall keep rules for always that were not shown.

    Raises:
        ValueError, TypeError, RecursionError: its input is no JSON, or what it suggests.
    """
    import hashlib  # takes as long as forty of our modules, and most programs never ask

    about = [instance, turn, request.request_id, request.tool_name, dict(request.input), *request.suggestions]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).digest()
    return base64.b32encode(digest)[:_DIGEST].decode().lower()


def _is_decision(decision: object) -> bool:
    match decision:
        case Allow(None | Mapping(), tuple() | list()) | Deny(str()):
            return True
    return False
