"""Which permission requests of Claude Code's nobody has answered, by the frames alone. Sans-I/O.

For whoever looks at a conversation that is another program's: an answer is one of the host's inputs, of which the
frames have only the id. A host puts the request's id into it (``Conversation``).
"""

from __future__ import annotations

from collections.abc import Mapping

from cc_bridge_agent import wire

from . import stream_json as sj
from .commands import name_in, safe_name
from .link import Exited, LinkEvent, Output, Started, Took

__all__ = ["UnansweredRequests"]

#: Requests that are kept; no Claude Code asks for so many at once.
_MOST = 100


class UnansweredRequests:
    """Give it all events of a link, in order, from before the request; those that are unanswered are left."""

    def __init__(self) -> None:
        self._open: dict[str, sj.Permission] = {}

    @property
    def open(self) -> Mapping[str, sj.Permission]:
        """By the request's id, the oldest first."""
        return dict(self._open)

    def receive(self, event: LinkEvent) -> None:
        """What came next."""
        match event:
            case Output(dict() as raw):
                self._receive_message(sj.parse(raw))
            case Took(input_id) if input_id.startswith(wire.CONTROL) and (answered := name_in(input_id)):
                for request_id in [request_id for request_id in self._open if safe_name(request_id) == answered]:
                    del self._open[request_id]
            case Started() | Exited():
                self._open.clear()

    def _receive_message(self, message: sj.Message) -> None:
        match message:
            case sj.Permission(request_id) if len(self._open) < _MOST:
                self._open[request_id] = message
            case sj.Cancelled(request_id):
                self._open.pop(request_id, None)
            case sj.Result():
                self._open.clear()
