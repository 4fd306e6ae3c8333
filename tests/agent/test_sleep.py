"""Sleep as hosts see it, with `cat` in Claude Code's place. covers: B7"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Agent, Connection

#: Longer than any test: what is due after it never comes.
LONG = 1e8


def start(host: Connection, *argv: str, **times: Any) -> None:
    host.send({"start": {"argv": list(argv or ("cat",)), "env": {}, "cwd": "/", **times}})
    host.until("started")


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


def falling_asleep(agent: Agent, gate: Path, **times: float) -> tuple[Connection, Connection]:
    """A host, and who looks: Claude Code was told to end, and does when there is the gate."""
    host, looker = agent.connect(), agent.connect(look=True)
    start(host, "sh", "-c", f"cat; until test -e '{gate}'; do sleep 0.02; done", sleep=LONG, **times)
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
    host, looker = falling_asleep(agent, tmp_path / "gate", stop=0.05)
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
    host, looker = falling_asleep(agent, tmp_path / "gate", stop=0.05)
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
