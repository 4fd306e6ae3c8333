"""Claude Code's stream-json, typed: one message in, one value out.

Claude Code is not trusted and changes with every release: whatever is not understood, or has other
types than expected, comes out as :class:`Unknown` with the message as it was, never as an error.
Facts about the format were measured on 2.1.197 and 2.1.329 (docs/claude-code.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..events import Report as ReportEvent
from ..values import Value
from .fields import Malformed, Raw, blocks, integer, number, parent_of, section, text, texts
from .reports import parse_report

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
    "Report",
    "Result",
    "Retry",
    "Routine",
    "Tools",
    "Unknown",
    "UnsupportedRequest",
    "WholeBlocks",
    "allow",
    "control_request",
    "deny",
    "interrupt_request",
    "parse",
    "unsupported",
    "user_message",
]

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
    """Complete content blocks.

    Attributes:
        synthetic: written by Claude Code and not by the model.
        parent: id of the Task call whose subagent has written them.
        subagent_type: of that subagent.
    """

    blocks: tuple[Raw, ...]
    synthetic: bool
    parent: str = ""
    subagent_type: str = ""


class Tools(Value):
    """Results of tools; ``parent``: as :class:`WholeBlocks` has it."""

    results: tuple[Raw, ...]
    parent: str = ""


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
    tool_use_id: str = ""
    agent_id: str = ""
    reason: str = ""


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
    """The answer to a control request of some host's.

    Attributes:
        answer: what was asked for; None: it was refused.
        error: why.
        code: Claude Code's own word for that.
    """

    request_id: str
    answer: Raw | None
    error: str = ""
    code: str = ""


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


class Report(Value):
    """Something that is an event as it is."""

    event: ReportEvent


class Routine(Value):
    """Known, and of no interest here: requests to the API, block ends, the notice of an interrupt."""


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
    | Report
    | Result
    | Routine
    | Unknown
)


def parse(message: Raw) -> Message:
    """The typed form of a message."""
    kind = message.get("type")
    parser = _PARSERS.get(kind, _report) if isinstance(kind, str) else None
    try:
        parsed = parser(message) if parser else None
    except Malformed:
        parsed = None
    return parsed or Unknown(_kind(message), message)


# What the host says


def user_message(content: str | Sequence[Raw], turn_id: str) -> dict[str, Any]:
    """A prompt. Claude Code echoes the uuid, which shows which turn is whose."""
    return {"type": "user", "message": {"role": "user", "content": content}, "uuid": turn_id}


def control_request(request_id: str, request: Raw) -> dict[str, Any]:
    """A request to Claude Code, which :class:`ControlReply` answers."""
    return {"type": "control_request", "request_id": request_id, "request": dict(request)}


def interrupt_request(request_id: str) -> dict[str, Any]:
    """Ends the running turn. Ignored before its ``system/init`` (claude-agent-sdk-typescript#429)."""
    return control_request(request_id, {"subtype": "interrupt"})


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
        version = text(message, "claude_code_version")
        return Init(text(message, "session_id"), text(message, "model"), texts(message, "user_message_uuids"), version)
    if subtype == "api_retry":
        status = message.get("error_status")
        return Retry(
            integer(message, "attempt"),
            integer(message, "max_retries"),
            number(message, "retry_delay_ms") / 1000,
            status if isinstance(status, int) else None,
            text(message, "error"),
        )
    if subtype == "person_turn":
        return PersonTyped(text(message, "prompt"))
    if subtype == "status" and message.get("status") in ("requesting", "ready"):
        return Routine()
    return _report(message)


def _report(message: Raw) -> Message | None:
    event = parse_report(message)
    return None if event is None else Report(event)


def _lifecycle(message: Raw) -> Message | None:
    return Lifecycle(text(message, "command_uuid"), text(message, "state"))


def _stream_event(message: Raw) -> Message | None:
    if message.get("parent_tool_use_id"):
        return Routine()  # a subagent's; its whole messages come as well
    event = section(message, "event")
    kind = event.get("type")
    if kind == "content_block_delta":
        delta = section(event, "delta")
        name = delta.get("type")
        if name == "text_delta":
            return BlockPiece("text", text(delta, "text"))
        if name == "thinking_delta":
            return BlockPiece("thinking", text(delta, "thinking"))
        return Routine()
    if kind == "content_block_start":
        return BlockStart(text(section(event, "content_block"), "type"))
    return Routine()


def _assistant(message: Raw) -> Message | None:
    inner, parent = section(message, "message"), parent_of(message)
    if not isinstance(inner.get("content"), list):
        return None
    subagent_type = text(message, "subagent_type") if parent else ""
    return WholeBlocks(blocks(inner), inner.get("model") == "<synthetic>", parent, subagent_type)


def _user(message: Raw) -> Message | None:
    if message.get("isReplay"):
        return Echo(text(message, "uuid"))
    parent = parent_of(message)
    results = tuple(block for block in blocks(section(message, "message")) if block.get("type") == "tool_result")
    return Tools(results, parent) if results else Routine()  # else a subagent's prompt, or the notice of an interrupt


def _control_request(message: Raw) -> Message | None:
    request_id, request = text(message, "request_id"), section(message, "request")
    if not request_id:
        return None
    if request.get("subtype") == "can_use_tool":
        suggestions = request.get("permission_suggestions")
        return Permission(
            request_id,
            text(request, "tool_name"),
            section(request, "input"),
            tuple(suggestions) if isinstance(suggestions, list) else (),
            text(request, "tool_use_id"),
            text(request, "agent_id"),
            text(request, "decision_reason"),
        )
    return UnsupportedRequest(request_id, text(request, "subtype"))


def _control_response(message: Raw) -> Message | None:
    response = section(message, "response")
    if response.get("subtype") == "success":
        return ControlReply(text(response, "request_id"), section(response, "response"))
    return ControlReply(text(response, "request_id"), None, text(response, "error"), text(response, "error_code"))


def _result(message: Raw) -> Message | None:
    status = message.get("api_error_status")
    return Result(
        turn_ids=texts(message, "user_message_uuids"),
        subtype=text(message, "subtype"),
        is_error=bool(message.get("is_error")),
        text=text(message, "result"),
        session_id=text(message, "session_id"),
        api_status=status if isinstance(status, int) else None,
        num_turns=integer(message, "num_turns"),
        duration=number(message, "duration_ms") / 1000,
        cost_usd=number(message, "total_cost_usd"),
        usage=section(message, "usage"),
    )


_PARSERS: dict[str, Callable[[Raw], Message | None]] = {
    "system": _system,
    "command_lifecycle": _lifecycle,
    "stream_event": _stream_event,
    "assistant": _assistant,
    "user": _user,
    "control_request": _control_request,
    "control_response": _control_response,
    "control_cancel_request": lambda message: Cancelled(text(message, "request_id")),
    "keep_alive": lambda _: Routine(),
    "result": _result,
}


def _kind(message: Raw) -> str:
    kind, subtype = message.get("type"), message.get("subtype")
    named = f"{kind}/{subtype}" if isinstance(subtype, str) else str(kind)
    return named[:80]  # it becomes a key of a counter: a hostile one must stay small
