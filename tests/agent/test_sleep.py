"""Sleep as hosts see it, with `cat` in Claude Code's place. covers: B7"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Agent, Connection, both

#: Longer than any test: what is due after it never comes.
LONG = 1e8


def start(host: Connection, *argv: str, **times: Any) -> None:
    host.send({"start": {"argv": list(argv or ("cat",)), "env": {}, "cwd": "/", **times}})
    host.until("started")


@both
def test_it_sleeps_by_itself_and_is_started_again(agent: Agent) -> None:
    host = agent.connect()
    start(host, sleep=0.1, stop=LONG)
    exit_frame = host.until("exit")
    assert (exit_frame["exit"], exit_frame["asleep"]) == (0, True)
    later = agent.connect()
    assert (later.hello["state"], later.hello["sleep"]) == ("asleep", 1), "less than a second counts as one"
    host.send({"id": "a", "in": {}})
    assert host.until("error")["error"] == "not_running"
    start(host)
    host.send({"id": "a", "in": {"n": 1}})
    assert host.until("out")["out"] == {"n": 1}


def test_it_is_put_to_sleep_and_says_why_not(agent: Agent) -> None:
    host = agent.connect()
    host.send({"sleep": True})
    assert host.until("asleep") == {"asleep": True}
    start(host, sleep=LONG)
    host.send({"id": "a", "in": {"n": 1}}, {"sleep": True})
    assert host.until("error") == {"error": "busy", "message": "it has a turn"}
    host.send({"id": "c-1", "in": {"type": "result"}})
    while host.until("out")["out"] != {"type": "result"}:
        pass
    host.send({"sleep": True})
    assert host.until("exit")["asleep"] is True


def test_what_came_while_it_fell_asleep_is_done_where_its_host_has_gone(agent: Agent, tmp_path: Path) -> None:
    """By the agent itself, which goes on with the conversation that Claude Code had named."""
    named = tmp_path / "named"
    program = f'echo "$*" >> {named}; exec cat'
    host = agent.connect(host="one")
    again = ["sh", "-c", program, "sh", "--resume", "{session_id}", "{session_id}x"]
    host.send({"start": {"argv": ["sh", "-c", program], "env": {}, "cwd": "/", "sleep": LONG, "again": again}})
    host.until("started")
    host.send({"id": "a", "in": {"type": "system", "subtype": "init", "session_id": "conversation-1"}})
    host.until("out")
    host.send({"id": "c-1", "in": {"type": "result"}})
    host.until("out")
    host.send({"sleep": True}, {"id": "b", "in": {"n": 1}})
    host.until("queued")
    host.close()
    later = agent.connect(turn="b", host="two")
    while later.until("out")["out"] != {"n": 1}:
        pass
    assert named.read_text().splitlines() == ["", "--resume conversation-1 {session_id}x"]


@pytest.mark.parametrize("id_", ["--help", "a b", 7, None, "x" * 100])
def test_what_is_no_conversation_is_no_word_of_its(agent: Agent, tmp_path: Path, id_: object) -> None:
    named = tmp_path / "named"
    program = f'echo "$*" >> {named}; exec cat'
    host = agent.connect(host="one")
    argv = ["sh", "-c", program, "sh", "as before"]
    start_ = {"argv": argv, "env": {}, "cwd": "/", "sleep": LONG, "again": ["sh", "-c", program, "sh", "{session_id}"]}
    host.send({"start": start_})
    host.send({"id": "a", "in": {"type": "system", "subtype": "init", "session_id": id_}})
    host.until("out")
    host.send({"id": "c-1", "in": {"type": "result"}})
    host.until("out")
    host.send({"sleep": True}, {"id": "b", "in": {"n": 1}})
    host.until("queued")
    host.close()
    later = agent.connect(turn="b", host="two")
    while later.until("out")["out"] != {"n": 1}:
        pass
    assert named.read_text().splitlines() == ["as before", "as before"]


def test_who_is_there_starts_it_when_it_may(agent: Agent) -> None:
    """A host of a fleet has to wait for others to sleep; when it leaves, the agent does it."""
    host, other = agent.connect(host="one"), agent.connect(host="two")
    start(host, sleep=LONG)
    host.send({"sleep": True}, {"id": "a", "in": {"n": 1}})
    other.until("exit")
    other.send({"status": True})
    assert other.until("status")["status"]["state"] == "asleep"
    host.close()
    assert other.until("out")["out"] == {"n": 1}


def test_who_wants_it_while_it_falls_asleep_gets_the_next(agent: Agent) -> None:
    """The input waits, the start is done when there is room for it, and nothing is done twice."""
    host = agent.connect()
    start(host, sleep=LONG)
    again = {"start": {"argv": ["cat"], "env": {}, "cwd": "/", "sleep": LONG}}
    host.send({"sleep": True}, {"id": "a", "in": {"n": 1}}, again, again)
    frames = [host.read() for _ in range(5)]
    assert [next(key for key in frame if key not in ("seq", "in")) for frame in frames] == [
        "queued",
        "exit",
        "started",
        "took",
        "out",
    ]


def test_a_start_that_was_put_off_may_fail(agent: Agent) -> None:
    host = agent.connect()
    start(host, sleep=LONG)
    other = agent.connect()
    host.send({"sleep": True}, {"status": True})
    host.until("status")
    for each in (host, other):
        each.send({"start": {"argv": ["/nowhere"], "env": {}, "cwd": "/"}})
    assert [each.until("error")["errno"] for each in (host, other)] == [2, 2]


def test_another_start_changes_the_time(agent: Agent) -> None:
    """It is not started again; what was due before is not due any more."""
    host = agent.connect()
    start(host, sleep=LONG)
    again = {"argv": ["cat"], "env": {}, "cwd": "/", "stop": LONG}
    host.send({"start": {**again, "sleep": 0.1}})
    assert host.until("exit")["asleep"] is True
    start(host, sleep=0.5)
    host.send({"start": {**again, "sleep": LONG}}, {"status": True})
    assert host.until("status")["status"]["sleep"] == LONG


def test_long_asleep_without_a_host_the_agent_ends(agent: Agent) -> None:
    host, looker = agent.connect(), agent.connect(look=True)
    start(host, sleep=0.05, stop=0.05)
    host.until("exit")
    assert agent.connect(look=True).hello["state"] == "asleep", "a host is connected"
    host.close()
    while looker.read():  # who looks keeps it from nothing
        pass
    assert agent.process.wait(20) == 0
    assert [entry["reason"] for entry in agent.log() if entry["event"] == "stopping"] == ["asleep"]


def test_without_a_time_it_stays(make_agent: Callable[..., Agent]) -> None:
    agent = make_agent()
    host = agent.connect()
    start(host, sleep=0.05, stop=0)
    host.until("exit")
    host.close()
    assert agent.connect(look=True).hello["state"] == "asleep"


def falling_asleep(agent: Agent, gate: Path, *, once: bool = False, **times: float) -> tuple[Connection, Connection]:
    """A host, and who looks: Claude Code was told to end, and does when there is the gate.

    Args:
        once: it cannot be started a second time.
    """
    host, looker = agent.connect(), agent.connect(look=True)
    program = gate.with_name("program")
    program.write_text(
        f"#!/bin/sh\n{f'rm {program}' if once else ''}\ncat; until test -e '{gate}'; do sleep 0.02; done"
    )
    program.chmod(0o700)
    start(host, str(program), sleep=LONG, **times)
    host.send({"sleep": True}, {"status": True})
    assert host.until("status")["status"]["state"] == "asleep"
    return host, looker


def leave(host: Connection, looker: Connection) -> None:
    host.close()
    clients = 2
    while clients > 1:
        looker.send({"status": True})
        clients = looker.until("status")["clients"]


def test_an_input_that_waits_keeps_the_agent_and_is_given_to_the_next(agent: Agent, tmp_path: Path) -> None:
    """Where the agent cannot start it, a host may."""
    host, looker = falling_asleep(agent, tmp_path / "gate", once=True, stop=0.05)
    host.send({"id": "a", "in": {"n": 1}})
    host.until("queued")
    leave(host, looker)
    (tmp_path / "gate").touch()
    looker.until("exit")
    time.sleep(0.3)  # several times `stop`
    later = agent.connect()
    assert later.hello["queue"] == ["a"]
    start(later)
    assert later.until("out")["out"] == {"n": 1}


def test_an_input_that_was_withdrawn_keeps_no_agent(agent: Agent, tmp_path: Path) -> None:
    host, looker = falling_asleep(agent, tmp_path / "gate", once=True, stop=0.05)
    host.send({"id": "a", "in": {"n": 1}})
    host.until("queued")
    leave(host, looker)
    (tmp_path / "gate").touch()
    looker.until("exit")
    looker.send({"withdraw": "a"})
    assert agent.process.wait(20) == 0


@pytest.mark.parametrize("waits", [False, True])
def test_who_has_gone_while_it_fell_asleep_gets_another_only_for_an_input(
    agent: Agent, tmp_path: Path, waits: bool
) -> None:
    host, looker = falling_asleep(agent, tmp_path / "gate")
    host.send({"start": {"argv": ["cat"], "env": {}, "cwd": "/"}})
    if waits:
        host.send({"id": "a", "in": {"n": 1}})
        host.until("queued")
    leave(host, looker)
    (tmp_path / "gate").touch()
    looker.until("exit")
    if waits:
        assert looker.until("out")["out"] == {"n": 1}
    else:
        looker.send({"status": True})
        assert looker.until("status")["status"]["state"] == "asleep"


@pytest.mark.parametrize("times", [{"sleep": -1}, {"sleep": "soon"}, {"stop": True}, {"sleep": 1e11}])
def test_what_is_no_time_is_refused(agent: Agent, times: dict[str, Any]) -> None:
    host = agent.connect()
    host.send({"start": {"argv": ["cat"], "env": {}, "cwd": "/", **times}})
    assert host.until("error")["error"] == "protocol"
