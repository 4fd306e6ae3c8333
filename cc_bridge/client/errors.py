"""What goes wrong between a client and a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BridgeError

__all__ = ["ServiceError", "ServiceUnreachable"]


class ServiceError(BridgeError):
    """The service has refused, or failed.

    Attributes:
        status: of HTTP.
        kind: what it is, for programs: the name of one of the library's errors, such as ``InstanceNotFound``.
        problem: all that was said.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        what, hint = str(problem.get("detail") or f"HTTP status {status}"), str(problem.get("hint") or "")
        super().__init__(what, instance=str(problem.get("instance_name") or ""), hint=hint)
        self.status = status
        self.kind = str(problem.get("type") or "").removeprefix("urn:cc-bridge:")
        self.problem = problem


class ServiceUnreachable(BridgeError):
    """Nothing answers there, or not any more. What was sent with a key may have arrived: send it again with it."""

    hint = "Does `cc-bridge serve` run, and is the address right?"
