"""An answer of the API's, told to the host as it streams. Sans-I/O."""

import json
from typing import Any, Dict, Optional

from .host_output import HostOutput
from .turn import PaneTurn

#: Statuses of the API's after which Claude Code asks again, beside those of 500 and above.
_RETRIED = (401, 408, 409, 429)


class StreamedAnswer:
    """One request's. Of a person's turn, or one that is over, nothing is told."""

    def __init__(self, host: HostOutput, turn: PaneTurn) -> None:
        self.turn = turn
        self._host = host
        self._blocks: Dict[int, Dict[str, Any]] = {}  # that stream now, by their index

    @property
    def _is_told(self) -> bool:
        return self.turn.entry is not None and not self.turn.over

    def event(self, event: Dict[str, Any]) -> None:
        """A server-sent event."""
        handler = getattr(self, "_on_" + str(event.get("type")), None)
        if self._is_told and handler is not None:
            handler(event)

    def failed(self, status: Optional[int], retry_after: float, error: str) -> None:
        """The API has answered with an error, or (no status) not to the end: Claude Code may ask again."""
        if self._is_told:
            self.turn.status = status
            if status is None or status in _RETRIED or status >= 500:
                self._host.retry(self.turn, status, retry_after, error)

    def _on_message_start(self, event: Dict[str, Any]) -> None:
        self.turn.messages.add(str((event.get("message") or {}).get("id")))
        self.turn.last_text = ""
        self._host.stream(event)

    def _on_content_block_start(self, event: Dict[str, Any]) -> None:
        self._blocks[event.get("index", 0)] = dict(event.get("content_block") or {}, pieces=[])
        self._host.stream(event)

    def _on_content_block_delta(self, event: Dict[str, Any]) -> None:
        delta, block = event.get("delta") or {}, self._blocks.get(event.get("index", 0))
        if delta.get("type") == "input_json_delta" and block is not None:
            block["pieces"].append(str(delta.get("partial_json", "")))  # a tool's input is told as a whole
            return
        if delta.get("type") == "text_delta":
            self.turn.last_text += str(delta.get("text", ""))
        self._host.stream(event)

    def _on_content_block_stop(self, event: Dict[str, Any]) -> None:
        block = self._blocks.pop(event.get("index", 0), {})
        if block.get("type") == "tool_use":
            self._host.tool(self.turn, dict(block, input=_joined(block["pieces"])))

    def _on_message_delta(self, event: Dict[str, Any]) -> None:
        self.turn.usage = event.get("usage") or self.turn.usage


def _joined(pieces: "list[str]") -> Any:
    try:
        return json.loads("".join(pieces) or "{}")
    except ValueError:
        return {}
