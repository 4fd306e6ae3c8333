"""Hosts that were overtaken: the fence in a hello."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.conftest import Agent

MakeAgent = Callable[..., Agent]


def test_a_host_that_was_overtaken_is_let_go_by_name(agent: Agent) -> None:
    old = agent.connect(fence=5)
    old.start("cat")
    new = agent.connect(fence=7)
    assert new.hello["state"] == "running"
    refusal = old.until("error")
    assert refusal["error"] == "fence"
    assert old.read() == {}, "the connection ends with it"


def test_what_an_overtaken_host_has_written_is_not_taken(agent: Agent) -> None:
    """It lies in the connection when the next host comes. What was accepted stays, and waits."""
    old = agent.connect(fence=5)
    old.start("sleep", "60")  # reads nothing
    old.send({"id": "first", "in": {}}, {"id": "second", "in": {}})
    old.until("queued")
    old.send({"id": "c-1", "in": {"text": "a" * 2**21}})  # so that no more is read of this host
    old.until("took")
    old.send({"id": "late", "in": {}})
    new = agent.connect(fence=6)
    assert old.until("error")["error"] == "fence"
    new.send({"status": True})
    assert [turn["id"] for turn in new.until("status")["turns"]] == ["first", "second"]


@pytest.mark.parametrize("session", ["main", "raw-a"])
def test_a_lower_fence_is_refused_in_all_sessions(agent: Agent, session: str) -> None:
    agent.connect(fence=7)
    refused = agent.connect(session, fence=6)
    assert refused.hello["error"] == "fence"
    assert refused.read() == {}
    assert agent.connect(session, fence=7).hello["hello"] == 1, "as high as the highest is high enough"


def test_sessions_of_an_overtaken_host_end_together(agent: Agent) -> None:
    olds = [agent.connect("main", fence=1), agent.connect("raw-b", fence=1)]
    agent.connect("other", fence=2)
    assert [old.until("error")["error"] for old in olds] == ["fence", "fence"]


def test_a_newer_host_whose_hello_cannot_be_understood_has_overtaken_all_the_same(agent: Agent) -> None:
    old = agent.connect(fence=5)
    assert agent.connect(fence=7, have=[]).hello["error"] == "protocol"
    assert old.until("error")["error"] == "fence"


def test_the_fence_outlives_the_agent(make_agent: MakeAgent) -> None:
    first = make_agent()
    first.connect(fence=9)
    first.process.kill()
    first.process.wait(10)
    second = make_agent(place=first.directory, pipes=False)
    assert second.connect(fence=8).hello["error"] == "fence"
    assert "hello" in second.connect(fence=10).hello


def test_who_has_no_fence_goes_on(agent: Agent) -> None:
    """People who look, and hosts of kinds that have no lease."""
    looker, plain = agent.connect(look=True), agent.connect()
    plain.start("cat")
    agent.connect(fence=3)
    plain.send({"id": "a", "in": {}})
    assert plain.until("took")["took"] == "a"
    looker.send({"status": True})
    assert looker.until("status")
    assert "hello" in agent.connect(look=True).hello


@pytest.mark.parametrize("fence", ["7", -1, 7.5, True, 2**63, None])
def test_what_is_no_fence(agent: Agent, fence: Any) -> None:
    agent.connect(fence=3)
    assert agent.connect(fence=fence).hello["error"] == "protocol"
    assert "hello" in agent.connect(fence=3).hello


def test_a_fence_that_is_asked_to_resume_what_is_gone_counts(agent: Agent) -> None:
    old = agent.connect(fence=3)
    assert agent.connect(fence=4, have=[5, "another"]).hello["error"] == "gone"
    assert old.until("error")["error"] == "fence"


@pytest.mark.parametrize("content", [b"", b"\0" * 20, b"nonsense"])
def test_a_fence_that_was_torn_is_none(make_agent: MakeAgent, content: bytes) -> None:
    first = make_agent()
    first.connect(fence=9)
    first.end()
    (first.directory / "agent.sock.state" / "fence.txt").write_bytes(content)
    second = make_agent(place=first.directory, pipes=False)
    assert "hello" in second.connect(fence=1).hello
