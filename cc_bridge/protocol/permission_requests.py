"""Claude Code's questions whether it may use a tool, until somebody has decided."""

from __future__ import annotations

from .commands import name_in, safe_name

__all__ = ["PermissionRequests"]


class PermissionRequests:
    """The requests of the turn that runs which wait for a decision, whoever makes it."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}  # and the name of each in a control message's id

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._open

    def __bool__(self) -> bool:
        return bool(self._open)

    def ask(self, request_id: str) -> None:
        """Claude Code waits for a decision."""
        self._open[request_id] = safe_name(request_id)

    def close(self, request_id: str) -> bool:
        """A request is decided or moot; False: it was not open."""
        return self._open.pop(request_id, None) is not None

    def close_all(self) -> None:
        """Their turn has ended."""
        self._open.clear()

    def answered_by(self, control_id: str) -> str:
        """The open request that a control message of this id has answered; empty: none."""
        name = name_in(control_id)
        return next((request_id for request_id, safe in self._open.items() if safe == name), "")
