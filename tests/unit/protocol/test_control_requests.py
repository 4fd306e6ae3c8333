"""What this host asks Claude Code: each request is answered, or known to be lost. covers: B9, B14"""

from __future__ import annotations

import pytest

from cc_bridge.protocol.commands import control_id
from cc_bridge.protocol.control_requests import ControlRequests, Reply

ASK = {"subtype": "set_model"}


@pytest.fixture
def requests() -> ControlRequests:
    made = ControlRequests()
    made.add("a", ASK)
    return made


def test_a_request_is_sent_once_and_answered_once(requests: ControlRequests) -> None:
    assert not requests.is_over("a")
    assert requests.take_waiting() == [("a", ASK)]
    assert requests.take_waiting() == []
    assert not requests.is_over("a")
    requests.replied("a", Reply({"model": "m"}))
    requests.replied("a", Reply(None, "late"))
    assert requests.is_over("a")
    assert requests.take("a") == Reply({"model": "m"})
    assert requests.take("a") is None


def test_another_host_s_answer_is_not_kept(requests: ControlRequests) -> None:
    requests.replied("theirs", Reply({}))
    assert requests.take("theirs") is None
    requests.replied("a", Reply({}))
    assert not requests.is_over("a"), "it was not even sent"


def test_one_that_was_given_up_is_forgotten(requests: ControlRequests) -> None:
    assert requests.take("a") is None
    assert requests.take_waiting() == []
    requests.add("b", ASK)
    requests.take_waiting()
    assert requests.take("b") is None
    requests.replied("b", Reply({}))
    assert requests.take("b") is None


def test_one_that_did_not_arrive_waits_again_before_the_others(requests: ControlRequests) -> None:
    requests.add("b", ASK)
    requests.take_waiting()
    requests.add("c", ASK)
    requests.wait_again(control_id(7, "b"))
    assert [name for name, _ in requests.take_waiting()] == ["b", "c"]
    requests.wait_again()
    assert [name for name, _ in requests.take_waiting()] == ["a", "b", "c"]
    requests.wait_again("70239f12-b8a6-4331-8634-823542f95e3f")
    assert requests.take_waiting() == [], "that was a turn"


def test_the_end_of_claude_code_is_the_end_of_what_it_was_asked(requests: ControlRequests) -> None:
    requests.take_waiting()
    requests.add("b", ASK)
    requests.process_exited()
    assert requests.is_over("a")
    reply = requests.take("a")
    assert reply is not None
    assert reply.answer is None
    assert "ended" in reply.error
    assert not requests.is_over("b"), "the next Claude Code is asked"


def test_when_nobody_listens_all_is_over(requests: ControlRequests) -> None:
    requests.take_waiting()
    requests.add("b", ASK)
    requests.close("closed")
    assert [requests.take(name) for name in ("a", "b")] == [Reply(None, "closed")] * 2
