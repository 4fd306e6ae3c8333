"""Claude Code's stream-json, typed: one message in, one value out.

Claude Code is not trusted and changes with every release: whatever is not understood, or has other
types than expected, comes out as :class:`Unknown` with the message as it was, never as an error.
Facts about the format were measured on 2.1.197 and 2.1.329 (docs/claude-code.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..values import Value

__all__ = [
    "BlockPiece",
    "BlockStart",
    "Cancelled",
    "ControlReply",
    "Echo",
    "Init",
    "Lifecycle",
    "Message",
    "Permission",
    "PersonTyped",
    "Result",
    "Retry",
    "Routine",
    "Tools",
    "Unknown",
    "UnsupportedRequest",
    "WholeBlocks",
    "allow",
    "deny",
    "interrupt_request",
    "parse",
    "unsupported",
    "user_message",
]

Raw = Mapping[str, Any]

#: Read only, as its type says.
_NOTHING: Raw = {}


class Init(Value):
    """``system/init``: a turn starts. Newer releases name the messages it is for."""

    session_id: str
    model: str
    turn_ids: tuple[str, ...]
    version: str


class Lifecycle(Value):
    """``command_lifecycle``: a message was queued, started, completed or cancelled (since about 2.1.3).

    A pane says ``held`` of one that it has taken and that may have to wait for a person.
    """

    turn_id: str
    state: str


class Echo(Value):
    """The user's message, replayed with the uuid that was given to it."""

    turn_id: str


class BlockStart(Value):
    """A content block begins to stream; ``kind`` is ``text``, ``thinking``, ``tool_use`` ..."""

    kind: str


class BlockPiece(Value):
    """A piece of a text or thinking block."""

    kind: str
    text: str


class WholeBlocks(Value):
    """Complete content blocks. ``synthetic``: written by Claude Code and not by the model."""

    blocks: tuple[Raw, ...]
    synthetic: bool


class Tools(Value):
    """Results of tools."""

    results: tuple[Raw, ...]


class Retry(Value):
    """``system/api_retry``."""

    attempt: int
    max_retries: int
    delay: float
    status: int | None
    error: str


class Permission(Value):
    """``control_request`` ``can_use_tool``: wants an answer."""

    request_id: str
    tool_name: str
    input: Raw
    suggestions: tuple[Any, ...]


class Cancelled(Value):
    """``control_cancel_request``: somebody else has decided, or the request is moot."""

    request_id: str


class PersonTyped(Value):
    """``system/person_turn``: in a pane, a person's turn runs."""

    prompt: str


class UnsupportedRequest(Value):
    """A control request that this version cannot answer; Claude Code waits until it is refused."""

    request_id: str
    subtype: str


class ControlReply(Value):
    """The answer to a control request of ours."""

    request_id: str


class Result(Value):
    """``result``: the end of a turn. ``text`` may be absent after an interrupt (claude-code#94741)."""

    turn_ids: tuple[str, ...]
    subtype: str
    is_error: bool
    text: str
    session_id: str
    api_status: int | None
    num_turns: int
    duration: float
    cost_usd: float
    usage: Raw = _NOTHING


class Routine(Value):
    """Known, and of no interest here: status lines, block ends, the notice of an interrupt."""


class Unknown(Value):
    """Not understood. ``kind`` is type and subtype, for counting."""

    kind: str
    message: Raw


Message = (
    Init
    | Lifecycle
    | Echo
    | BlockStart
    | BlockPiece
    | WholeBlocks
    | Tools
    | Retry
    | Permission
    | Cancelled
    | PersonTyped
    | UnsupportedRequest
    | ControlReply
    | Result
    | Routine
    | Unknown
)


def parse(message: Raw) -> Message:
    """The typed form of a message."""
    kind = message.get("type")
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    parsed = parser(message) if parser else None
    return parsed or Unknown(_kind(message), message)


# What the host says


def user_message(text: str, turn_id: str) -> dict[str, Any]:
    """A prompt. Claude Code echoes the uuid, which shows which turn is whose."""
    return {"type": "user", "message": {"role": "user", "content": text}, "uuid": turn_id}


def interrupt_request(request_id: str) -> dict[str, Any]:
    """Ends the running turn. Ignored before its ``system/init`` (claude-agent-sdk-typescript#429)."""
    return {"type": "control_request", "request_id": request_id, "request": {"subtype": "interrupt"}}


def allow(request_id: str, tool_input: Raw, updates: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Permission, possibly for a changed input and with rules that make it last."""
    response: dict[str, Any] = {"behavior": "allow", "updatedInput": dict(tool_input)}
    if updates:
        response["updatedPermissions"] = list(updates)
    return _success(request_id, response)


def deny(request_id: str, reason: str) -> dict[str, Any]:
    """Refusal; the model is told the reason."""
    return _success(request_id, {"behavior": "deny", "message": reason})


def unsupported(request_id: str, subtype: str) -> dict[str, Any]:
    """Refusal of a control request that cannot be answered, so that Claude Code does not wait for ever."""
    error = f"cc-bridge does not support {subtype!r}"
    return {"type": "control_response", "response": {"subtype": "error", "request_id": request_id, "error": error}}


def _success(request_id: str, response: dict[str, Any]) -> dict[str, Any]:
    inner = {"subtype": "success", "request_id": request_id, "response": response}
    return {"type": "control_response", "response": inner}


# Parsers, one a type. Each returns None where it does not understand.


def _system(message: Raw) -> Message | None:
    subtype = message.get("subtype")
    if subtype == "init":
        version = _text(message, "claude_code_version")
        return Init(_text(message, "session_id"), _text(message, "model"), _ids(message), version)
    if subtype == "api_retry":
        status = message.get("error_status")
        return Retry(
            int(_number(message, "attempt")),
            int(_number(message, "max_retries")),
            _number(message, "retry_delay_ms") / 1000,
            status if isinstance(status, int) else None,
            _text(message, "error"),
        )
    if subtype == "person_turn":
        return PersonTyped(_text(message, "prompt"))
    return Routine() if subtype in ("status", "compact_boundary", "background_tasks_changed") else None


def _lifecycle(message: Raw) -> Message | None:
    return Lifecycle(_text(message, "command_uuid"), _text(message, "state"))


def _stream_event(message: Raw) -> Message | None:
    if message.get("parent_tool_use_id"):
        return Routine()  # a subagent's; its whole messages come as well
    event = _object(message, "event")
    kind = event.get("type")
    if kind == "content_block_delta":
        delta = _object(event, "delta")
        name = delta.get("type")
        if name == "text_delta":
            return BlockPiece("text", _text(delta, "text"))
        if name == "thinking_delta":
            return BlockPiece("thinking", _text(delta, "thinking"))
        return Routine()
    if kind == "content_block_start":
        return BlockStart(_text(_object(event, "content_block"), "type"))
    return Routine()


def _assistant(message: Raw) -> Message | None:
    inner = _object(message, "message")
    if message.get("parent_tool_use_id") or not isinstance(inner.get("content"), list):
        return None
    return WholeBlocks(_blocks(inner), inner.get("model") == "<synthetic>")


def _user(message: Raw) -> Message | None:
    if message.get("isReplay"):
        return Echo(_text(message, "uuid"))
    if message.get("parent_tool_use_id"):
        return None
    results = tuple(block for block in _blocks(_object(message, "message")) if block.get("type") == "tool_result")
    return Tools(results) if results else Routine()


def _control_request(message: Raw) -> Message | None:
    request_id, request = _text(message, "request_id"), _object(message, "request")
    if not request_id:
        return None
    if request.get("subtype") == "can_use_tool":
        suggestions = request.get("permission_suggestions")
        return Permission(
            request_id,
            _text(request, "tool_name"),
            _object(request, "input"),
            tuple(suggestions) if isinstance(suggestions, list) else (),
        )
    return UnsupportedRequest(request_id, _text(request, "subtype"))


def _control_response(message: Raw) -> Message | None:
    return ControlReply(_text(_object(message, "response"), "request_id"))


def _result(message: Raw) -> Message | None:
    status = message.get("api_error_status")
    return Result(
        turn_ids=_ids(message),
        subtype=_text(message, "subtype"),
        is_error=bool(message.get("is_error")),
        text=_text(message, "result"),
        session_id=_text(message, "session_id"),
        api_status=status if isinstance(status, int) else None,
        num_turns=int(_number(message, "num_turns")),
        duration=_number(message, "duration_ms") / 1000,
        cost_usd=_number(message, "total_cost_usd"),
        usage=_object(message, "usage"),
    )


_PARSERS: dict[str, Callable[[Raw], Message | None]] = {
    "system": _system,
    "command_lifecycle": _lifecycle,
    "stream_event": _stream_event,
    "assistant": _assistant,
    "user": _user,
    "control_request": _control_request,
    "control_response": _control_response,
    "control_cancel_request": lambda message: Cancelled(_text(message, "request_id")),
    "keep_alive": lambda _: Routine(),
    "conversation_reset": lambda _: Routine(),
    "result": _result,
}


def _kind(message: Raw) -> str:
    kind, subtype = message.get("type"), message.get("subtype")
    named = f"{kind}/{subtype}" if isinstance(subtype, str) else str(kind)
    return named[:80]  # it becomes a key of a counter: a hostile one must stay small


def _text(message: Raw, key: str) -> str:
    value = message.get(key)
    return value if isinstance(value, str) else ""


def _object(message: Raw, key: str) -> Raw:
    value = message.get(key)
    return value if isinstance(value, dict) else {}


def _number(message: Raw, key: str) -> float:
    value = message.get(key)
    finite = isinstance(value, int | float) and abs(value) < 1e15  # neither NaN nor infinity
    return value if finite else 0.0  # type: ignore[return-value]


def _blocks(message: Raw) -> tuple[Raw, ...]:
    content = message.get("content")
    return tuple(block for block in content if isinstance(block, dict)) if isinstance(content, list) else ()


def _ids(message: Raw) -> tuple[str, ...]:
    ids = message.get("user_message_uuids")
    return tuple(item for item in ids if isinstance(item, str)) if isinstance(ids, list) else ()
