"""What a conversation asks of whoever holds it, and what the inputs that are no turns are called."""

from __future__ import annotations

from typing import Any

from cc_bridge_agent import wire

from ..values import Value

__all__ = [
    "Command",
    "DeclareDone",
    "EndProcess",
    "ReadTranscript",
    "SendInput",
    "Withdraw",
    "control_id",
    "is_control",
    "name_in",
    "safe_name",
]


class SendInput(Value):
    """Pass this message to Claude Code.

    Attributes:
        turn: only while Claude Code has this turn; empty: in any case.
    """

    input_id: str
    message: dict[str, Any]
    turn: str = ""


class Withdraw(Value):
    """Tell the agent that this input, which waits, is not to be passed on."""

    input_id: str


class DeclareDone(Value):
    """Tell the agent that this input's turn was seen to its end."""

    input_id: str


class ReadTranscript(Value):
    """Read the tail of the session's transcript and call ``receive_transcript`` with it."""

    turn_id: str
    session_id: str


class EndProcess(Value):
    """Kill Claude Code: it hangs. The next command resumes the session in a new process.

    Attributes:
        turn: unless it has another turn by now.
    """

    reason: str
    turn: str = ""


Command = SendInput | Withdraw | DeclareDone | ReadTranscript | EndProcess


def control_id(number: int, request_id: str) -> str:
    """What the agent is to call a control message: a number of the host's, and what of a request's id may be in it."""
    return f"{wire.CONTROL}{number}-{safe_name(request_id)}"[:64]


def is_control(input_id: str) -> bool:
    """The input is a control message, and begins no turn."""
    return input_id.startswith(wire.CONTROL)


def name_in(control_id: str) -> str:
    """The name of the request that a control message of this id is about; see :func:`safe_name`."""
    return control_id.split("-", 2)[-1]


def safe_name(request_id: str) -> str:
    """The part of a request's id that a control message's id has."""
    return "".join(c for c in request_id[:48] if c.isascii() and (c.isalnum() or c in "-_"))
