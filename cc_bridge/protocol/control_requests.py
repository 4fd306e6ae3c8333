"""Requests of this host's to Claude Code, such as for another model, until it has answered."""

from __future__ import annotations

from ..values import Value
from .commands import name_in, safe_name
from .fields import Raw

__all__ = ["ControlRequests", "Reply"]


class Reply(Value):
    """What has become of a request.

    Attributes:
        answer: what Claude Code said; None: it refused, or can say nothing any more.
        error: why.
        code: Claude Code's own word for that; empty: it has none, or was not there to say it.
    """

    answer: Raw | None
    error: str = ""
    code: str = ""


class ControlRequests:
    """Requests by their ids, from when they are made until somebody has taken what has become of them."""

    def __init__(self) -> None:
        self._waiting: dict[str, Raw] = {}
        self._sent: dict[str, Raw] = {}
        self._replies: dict[str, Reply] = {}

    def add(self, request_id: str, request: Raw) -> None:
        """A request, which waits until Claude Code can be written to. The id is new."""
        self._waiting[request_id] = request

    @property
    def are_open(self) -> bool:
        """Something is still to be expected."""
        return bool(self._waiting or self._sent)

    @property
    def wait(self) -> bool:
        """Something is still to be sent."""
        return bool(self._waiting)

    def is_over(self, request_id: str) -> bool:
        """Nothing more is to be expected."""
        return request_id not in self._waiting and request_id not in self._sent

    def take(self, request_id: str) -> Reply | None:
        """What has become of the request, which is forgotten; None: it was given up before anything had."""
        self._waiting.pop(request_id, None)
        self._sent.pop(request_id, None)
        return self._replies.pop(request_id, None)

    def take_waiting(self) -> list[tuple[str, Raw]]:
        """The requests to send now, in order."""
        waiting, self._waiting = self._waiting, {}
        self._sent |= waiting
        return list(waiting.items())

    def replied(self, request_id: str, reply: Reply) -> None:
        """Claude Code has answered a request, of this host's or of another's."""
        if self._sent.pop(request_id, None) is not None:
            self._replies[request_id] = reply

    def wait_again(self, control_id: str = "") -> None:
        """A control message did not reach Claude Code; empty: none did."""
        name = name_in(control_id)
        back = [request_id for request_id in self._sent if not control_id or safe_name(request_id) == name]
        self._waiting = {request_id: self._sent.pop(request_id) for request_id in back} | self._waiting

    def process_exited(self) -> None:
        """Claude Code has ended: it will not say what became of what it was asked."""
        self._fail(self._sent, "Claude Code has ended before it answered")

    def close(self, reason: str) -> None:
        """Nobody listens any more."""
        self._fail(self._sent, reason)
        self._fail(self._waiting, reason)

    def _fail(self, requests: dict[str, Raw], reason: str) -> None:
        self._replies |= dict.fromkeys(requests, Reply(None, reason))
        requests.clear()
