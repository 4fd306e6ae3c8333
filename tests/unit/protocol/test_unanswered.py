"""Whether a decision is waited for, by the frames alone. covers: B4"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol.commands import SendInput, control_id
from cc_bridge.protocol.conversation import Conversation
from cc_bridge.protocol.link import Done, Exited, LinkEvent, Output, Started, Took
from cc_bridge.protocol.unanswered import UnansweredRequests


def asks(request_id: str, tool: str = "Bash") -> Output:
    request = {"subtype": "can_use_tool", "tool_name": tool, "input": {}}
    return Output({"type": "control_request", "request_id": request_id, "request": request})


def unanswered(*events: LinkEvent) -> list[str]:
    requests = UnansweredRequests()
    for event in events:
        requests.receive(event)
    return list(requests.open)


OTHERS: list[LinkEvent] = [Took("c-9-other", again=False), Took("r", again=False), Done("r"), Output("r"), Output({})]


def test_what_is_asked_is_open() -> None:
    assert unanswered(asks("r"), *OTHERS, asks("s")) == ["r", "s"]


@pytest.mark.parametrize(
    "end",
    [
        Took("c-1-r", again=False),
        Output({"type": "control_cancel_request", "request_id": "r"}),
        Output({"type": "result"}),
        Exited(0),
        Started(1),
    ],
    ids=str,
)
def test_until_it_is_answered_or_moot(end: LinkEvent) -> None:
    assert unanswered(asks("r"), end) == []


@given(st.text(min_size=1), st.integers(0, 10**6))
def test_the_answer_of_a_host_is_found(request_id: str, number: int) -> None:
    """Whatever Claude Code calls its request; one whose id leaves nothing of a name stays open."""
    taken: list[Any] = [Took(control_id(number, request_id), again=False)]
    known = any(c.isascii() and (c.isalnum() or c in "-_") for c in request_id[:48])
    assert unanswered(asks(request_id), *taken) == ([] if known else [request_id])


def test_a_conversation_answers_under_such_an_id() -> None:
    conversation = Conversation()
    conversation.submit("00000000-0000-4000-8000-000000000001", "hello", 0)
    conversation.process_ready((), 0)
    sent = [command.input_id for command in conversation.commands() if isinstance(command, SendInput)]
    conversation.took(sent[0], 0)
    request = asks("0b0c-r")
    conversation.receive_message(request.message, 0)
    conversation.deny("0b0c-r", "no")
    answers = [command.input_id for command in conversation.commands() if isinstance(command, SendInput)]
    assert unanswered(request, *(Took(answer, again=False) for answer in answers)) == []
