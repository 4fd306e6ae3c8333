"""What the host is told of a pane: the lines that ``claude -p`` would write, each message once. Sans-I/O."""

import os
from typing import Any, Dict, List, NamedTuple, Optional

from .turn import Entry, PaneTurn


class Answer(NamedTuple):
    """Answer a permission hook; empty: the dialog decides."""

    key: str
    output: Dict[str, Any]


class HostOutput:
    """The host's end of a pane.

    Attributes:
        output: messages, in order; the caller takes them out.
        answers: to permission hooks, likewise.
        session_id, model, version: as far as known.
    """

    def __init__(self) -> None:
        self.output: List[Dict[str, Any]] = []
        self.answers: List[Answer] = []
        self.session_id = self.model = self.version = ""
        self._asked: Dict[str, Dict[str, Any]] = {}  # permission requests without a decision

    def tell(self, message: Dict[str, Any]) -> None:
        """Queue a message under the session's id."""
        self.output.append({**message, "session_id": self.session_id})

    # Turns

    def begin(self, entry: Entry) -> None:
        """What comes from here on answers this entry."""
        init = {"model": self.model, "claude_code_version": self.version, "user_message_uuids": [entry.id]}
        self.tell({"type": "system", "subtype": "init", **init})

    def person(self, turn: PaneTurn) -> None:
        """A person has the floor."""
        self.tell({"type": "system", "subtype": "person_turn", "prompt": turn.prompt})

    def result(
        self, entry: Entry, text: str, *, interrupted: bool, failed: bool, turn: Optional[PaneTurn], seconds: float
    ) -> None:
        """The entry is over; ``turn``: what has answered it, if anything has."""
        result: Dict[str, Any] = {
            "subtype": "error_during_execution" if interrupted else "success",
            "is_error": interrupted or failed,
            "result": text,
            "user_message_uuids": [entry.id],
        }
        if turn is not None:
            result.update(usage=turn.usage, num_turns=max(1, turn.exchanges), duration_ms=1000 * seconds)
            if failed:
                result["api_error_status"] = turn.status or _status_in(text)
        self.tell({"type": "result", **result})

    # What a turn says

    def stream(self, event: Dict[str, Any]) -> None:
        """Pass on an event of the API's as it came."""
        self.tell({"type": "stream_event", "event": event})

    def blocks(self, blocks: List[Any]) -> None:
        """A whole message of the model's, or a part of one."""
        self.tell({"type": "assistant", "message": {"role": "assistant", "model": self.model, "content": blocks}})

    def tool(self, turn: PaneTurn, block: Dict[str, Any]) -> None:
        """A tool is about to be used; told once."""
        name = str(block.get("id"))
        if name not in turn.shown:
            turn.shown[name] = block
            self.blocks([{key: block.get(key) for key in ("type", "id", "name", "input")}])

    def results(self, turn: PaneTurn, results: List[Dict[str, Any]]) -> None:
        """What tools have returned; each told once."""
        turn.behind -= {str(block.get("tool_use_id")) for block in results}
        fresh = [block for block in results if str(block.get("tool_use_id")) not in turn.results]
        turn.results.update(str(block.get("tool_use_id")) for block in fresh)
        for block in fresh:
            tool = turn.shown.get(str(block.get("tool_use_id")), {})
            # It has run, or will not: a request for permission is moot.
            self._withdraw(tool.get("name"), tool.get("input"))
        if fresh and turn.entry is not None:
            self.tell({"type": "user", "message": {"role": "user", "content": fresh}})

    def retry(self, turn: PaneTurn, status: Optional[int], after: float, error: str) -> None:
        """The API failed, and will be asked again; ``after`` seconds, or as long as usual."""
        turn.failures += 1
        delay = 1000 * (after or min(32.0, 0.5 * 2 ** (turn.failures - 1)))
        retry = {"attempt": turn.failures, "max_retries": 10, "error_status": status, "error": error}
        self.tell({"type": "system", "subtype": "api_retry", "retry_delay_ms": delay, **retry})

    # Permissions

    def ask(self, key: str, payload: Dict[str, Any], number: int) -> None:
        """A permission hook wants a decision."""
        request = {
            "subtype": "can_use_tool",
            "tool_name": payload.get("tool_name"),
            "input": payload.get("tool_input"),
            "permission_suggestions": payload.get("permission_suggestions") or [],
        }
        request_id = "pane-%s-%d-%s" % (key, number, os.urandom(4).hex())  # process ids come again
        self._asked[request_id] = {"key": key, "tool": payload.get("tool_name"), "input": payload.get("tool_input")}
        self.tell({"type": "control_request", "request_id": request_id, "request": request})

    def decide(self, response: Dict[str, Any]) -> None:
        """The host's answer; too late is no error."""
        asked = self._asked.pop(str(response.get("request_id")), None)
        if asked is not None:
            decision = response.get("response") or {"behavior": "deny", "message": str(response.get("error"))}
            output = {"hookEventName": "PermissionRequest", "decision": decision}
            self.answers.append(Answer(asked["key"], {"hookSpecificOutput": output}))

    def leave_to_dialog(self, key: str) -> None:
        """It is not the program's to decide."""
        self.answers.append(Answer(key, {}))

    def forget_permissions(self) -> None:
        """The turn is over, and with it what it wanted."""
        for asked in list(self._asked.values()):
            self._withdraw(asked["tool"], asked["input"])

    def _withdraw(self, tool: Any, arguments: Any) -> None:
        for request_id, asked in list(self._asked.items()):
            if (asked["tool"], asked["input"]) == (tool, arguments):
                del self._asked[request_id]
                self.tell({"type": "control_cancel_request", "request_id": request_id})
                self.leave_to_dialog(asked["key"])


def _status_in(text: str) -> Optional[int]:
    words = text.replace(":", " ").split()
    return next((int(word) for word in words[:5] if word.isdigit() and len(word) == 3), None)
