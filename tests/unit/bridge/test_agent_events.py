"""What the agent says, told to a conversation. covers: C12, C16"""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge.bridge.agent_events import AgentEvents, refusal_error
from cc_bridge.bridge.surroundings import Ending
from cc_bridge.errors import BridgeError, ClaudeNotFound, ClaudeStartError, ConnectionLost, ProtocolError
from cc_bridge.events import PermissionRequest, TextDelta, TurnResult, Verdict
from cc_bridge.logs import Log
from cc_bridge.protocol.commands import DeclareDone, SendInput
from cc_bridge.protocol.conversation import Conversation
from cc_bridge.protocol.link import (
    AgentRefused,
    Done,
    ErrorOutput,
    Exited,
    Hello,
    LinkEvent,
    Output,
    Queued,
    Started,
    Took,
    Violated,
    Withdrawn,
)

TURN, OTHER = "6f1f0a1c-9d0a-4c53-9d8e-111111111111", "6f1f0a1c-9d0a-4c53-9d8e-222222222222"
HELLO = Hello("9.9", "e", "running", 0, (), resumed=False)


class Heard:
    """The events of a conversation whose agent is the test. It is one turn's if it follows."""

    name = "demo"
    claude_hint = "Install it."

    def __init__(self, *, follows: bool = False, **options: Any) -> None:
        self.conversation = Conversation()
        self.ending = Ending("the container was removed", 137, out_of_memory=True)
        self.sessions: list[str] = []
        self.agent = AgentEvents(self.conversation, self, Log("demo", "memory"), follows=follows, **options)
        if follows:
            self.conversation.follow(TURN, 0)

    def pop_ending(self) -> Ending:
        return self.ending

    def session_changed(self, session_id: str) -> None:
        self.sessions.append(session_id)

    def hears(self, *events: LinkEvent, caught_up: bool = True) -> BridgeError | None:
        return self.agent.received(events, 0, caught_up=caught_up)

    def sends(self, turn_id: str = TURN) -> list[str]:
        """Submit a command; the ids of what is sent then."""
        self.conversation.submit(turn_id, "hello", 0)
        return self.sent()

    def sent(self) -> list[str]:
        return [command.input_id for command in self.conversation.commands() if isinstance(command, SendInput)]

    def result(self, turn_id: str = TURN) -> TurnResult:
        [*_, result] = self.conversation.take_events(turn_id)
        assert isinstance(result, TurnResult)
        return result


def ready() -> Heard:
    made = Heard()
    made.agent.greeted(HELLO, 0, continues=False)
    return made


def said(**message: Any) -> Output:
    return Output(message)


INIT = said(type="system", subtype="init", session_id="s")
ANSWER = said(type="assistant", message={"content": [{"type": "text", "text": "hello"}]})
RESULT = said(type="result", subtype="success", result="hello", user_message_uuids=[TURN], session_id="s")


@pytest.mark.parametrize(
    ("follows", "resumed", "state", "runs"),
    [
        (False, False, "running", True),
        (False, False, "exited", False),
        (False, True, "running", False),  # as it was: the frames that follow say
        (True, True, "running", True),  # they may be long ago
        (True, True, "exited", False),
    ],
)
def test_whether_claude_code_runs_by_the_hello(follows: bool, resumed: bool, state: str, runs: bool) -> None:
    made = Heard(follows=follows)
    made.agent.greeted(HELLO.replace(state=state, resumed=resumed), 0, continues=resumed)
    assert made.agent.claude_runs is runs


def test_what_was_known_of_it_stays_where_frames_follow() -> None:
    made = Heard(claude_runs=True)
    made.agent.greeted(HELLO.replace(state="exited", resumed=True), 0, continues=True)
    assert made.agent.claude_runs


def test_a_command_is_sent_when_claude_code_is_known_to_run() -> None:
    made = Heard()
    assert made.sends() == []
    made.agent.greeted(HELLO.replace(state="new"), 0, continues=False)
    assert made.sent() == []
    assert made.hears(Started(1)) is None
    assert made.agent.claude_runs
    assert made.sent() == [TURN]


def test_a_turn_is_told_as_it_comes() -> None:
    made = ready()
    made.sends()
    assert made.hears(Took(TURN, again=False), INIT, ANSWER, RESULT) is None
    events = made.conversation.take_events(TURN)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["hello"]
    assert isinstance(events[-1], TurnResult)
    assert made.sessions == ["s"]
    assert DeclareDone(TURN) in made.conversation.commands()
    made.hears(Done(TURN), INIT)
    assert made.sessions == ["s"], "told when it changes"
    made.agent.greeted(HELLO.replace(resumed=True), 0, continues=True)
    assert made.conversation.commands() == [], "the agent knows that it is done"


def test_what_is_followed_may_be_long_ago_so_its_session_is_not_gone_on_with() -> None:
    made = Heard(follows=True)
    made.hears(Took(TURN, again=False), INIT)
    assert (made.conversation.session_id, made.sessions) == ("s", [])


def test_permission_requests_of_what_is_followed_are_told_when_all_was_read_that_was_there() -> None:
    made = Heard(follows=True)
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}
    made.hears(
        Took(TURN, again=False),
        INIT,
        said(type="control_request", request_id="r", request=request),
        caught_up=False,
    )
    assert not [event for event in made.conversation.take_events(TURN) if isinstance(event, PermissionRequest)]
    made.hears(caught_up=True)
    assert [event for event in made.conversation.take_events(TURN) if isinstance(event, PermissionRequest)]


def test_an_input_that_waits_and_is_withdrawn_is_over() -> None:
    made = Heard()
    made.agent.greeted(HELLO.replace(queue=()), 0, continues=False)
    made.sends()
    made.hears(Queued(TURN))
    assert made.conversation.waits_in_agent
    made.conversation.interrupt(TURN, 0)
    made.hears(Withdrawn(TURN, late=False))
    assert made.result().verdict is Verdict.INTERRUPTED


def test_an_input_that_the_agent_knew_is_another_s_turn() -> None:
    """It was sent once, and by somebody else, or by an earlier life of this program."""
    made = ready()
    made.sends()
    made.hears(Took(TURN, again=True))
    assert made.conversation.is_done(TURN), "nothing comes of it here"
    assert made.agent.take_joined() == [TURN]
    assert made.agent.take_joined() == [], "told once"


def test_an_input_that_was_sent_again_is_known_by_ourselves() -> None:
    made = ready()
    made.sends()
    made.agent.greeted(HELLO.replace(resumed=True), 0, continues=True)
    assert made.sent() == [TURN]
    made.hears(Took(TURN, again=True), INIT, ANSWER, RESULT)
    assert made.agent.take_joined() == []
    assert made.result().verdict is Verdict.COMPLETED


def test_a_repeat_of_what_was_answered_joins_nothing() -> None:
    made = ready()
    made.sends()
    made.hears(Took(TURN, again=False), Took(TURN, again=True), Took(OTHER, again=True))
    assert made.agent.take_joined() == []


@pytest.mark.parametrize(
    ("exited", "code", "out_of_memory"),
    [(Exited(3), 3, False), (Exited(-9, out_of_memory=True), -9, True), (Exited(None), 137, True)],
)
def test_how_it_ended_is_what_the_agent_saw_or_else_what_the_place_knows(
    exited: Exited, code: int, out_of_memory: bool
) -> None:
    made = ready()
    made.sends()
    made.hears(Took(TURN, again=False), ErrorOutput("it says why"), exited)
    result = made.result()
    assert (result.exit_code, result.out_of_memory) == (code, out_of_memory)
    assert not made.agent.claude_runs
    assert ("the container was removed" in result.error) is (exited.code is None)


def test_a_turn_that_its_agent_has_ended_was_interrupted_and_has_not_failed() -> None:
    made = ready()
    made.sends()
    made.hears(Took(TURN, again=False), Exited(0, stopped=True))
    result = made.result()
    assert result.verdict is Verdict.INTERRUPTED
    assert "told to end" in result.error


def test_what_it_says_to_stderr_is_kept() -> None:
    made = ready()
    made.hears(ErrorOutput("no login"))
    assert made.conversation.stderr == "no login"


def test_where_it_does_not_run_the_command_waits_and_fails_after_three_more_tries() -> None:
    made = ready()
    made.sends()
    for _ in range(3):
        assert made.hears(AgentRefused("not_running", "it does not run")) is None
        assert not made.agent.claude_runs
        assert made.conversation.is_queued(TURN)
        assert made.hears(Started(1)) is None
        assert made.sent() == [TURN]
    made.hears(AgentRefused("not_running", "it does not run"))
    assert (made.result().verdict, made.conversation.active) == (Verdict.FAILED, None)


def test_a_command_that_was_accepted_has_its_tries_again() -> None:
    made = Heard()
    made.agent.greeted(HELLO.replace(queue=()), 0, continues=False)
    made.sends()
    for _ in range(2):
        for _ in range(3):
            made.agent.lost("it broke", 0, error="demo: it broke")
            made.agent.greeted(HELLO.replace(queue=()), 0, continues=False)
            assert made.sent() == [TURN]
        made.hears(Queued(TURN))
    assert not made.conversation.is_done(TURN)


def test_a_full_queue_is_no_failure() -> None:
    made = Heard()
    made.agent.greeted(HELLO.replace(queue=(OTHER,)), 0, continues=False)
    made.sends()
    for _ in range(10):
        assert made.hears(AgentRefused("full", "too many wait", id=TURN)) is None
    assert not made.conversation.is_done(TURN)
    assert made.agent.claude_runs
    made.hears(Withdrawn(OTHER, late=False))
    assert made.sent() == [TURN], "there is room"


def test_a_lost_connection_interrupts_what_was_taken_and_counts_for_what_waits() -> None:
    made = ready()
    made.sends()
    made.hears(Took(TURN, again=False), INIT)
    made.sends(OTHER)
    for _ in range(3):
        made.agent.lost("it broke", 0, error="demo: it broke")
        assert made.conversation.is_queued(OTHER)
    result = made.result()
    assert (result.verdict, result.error) == (Verdict.INTERRUPTED, "it broke")
    made.agent.lost("it broke", 0, error="demo: it broke")
    result = made.result(OTHER)
    assert (result.verdict, result.error) == (Verdict.FAILED, "demo: it broke")


def test_what_comes_with_a_failure_is_not_lost_and_the_last_failure_is_told() -> None:
    made = ready()
    made.sends()
    failure = made.hears(
        Took(TURN, again=False), AgentRefused("start", "denied", 13), INIT, ANSWER, RESULT, Violated("not JSON")
    )
    assert isinstance(failure, ProtocolError)
    assert str(failure).startswith("demo: not JSON")
    assert made.result().text == "hello"


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        (AgentRefused("start", "no such file", 2), ClaudeNotFound, "Claude Code is not there: no such file"),
        (AgentRefused("start", "denied", 13), ClaudeStartError, "Claude Code cannot be started: denied"),
        (AgentRefused("stopping", "it ends"), ConnectionLost, "the agent: it ends"),
        (AgentRefused("state", "no", 2), ConnectionLost, "the agent: no"),
    ],
)
def test_what_the_agent_cannot_do_has_a_name(refusal: AgentRefused, error: type[BridgeError], words: str) -> None:
    found = refusal_error(refusal, "demo", "Install it.")
    assert type(found) is error
    assert found.what == words
    assert str(found).startswith("demo: ")
    assert ("Install it." in str(found)) is (error is ClaudeNotFound)
    assert type(ready().hears(refusal)) is error
