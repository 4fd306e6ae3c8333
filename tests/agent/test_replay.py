"""Nothing lost and nothing twice, as the agent keeps it. covers: B1"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Agent, Connection, both
from .test_agent import resident

MakeAgent = Callable[..., Agent]

#: A Claude Code that echoes.
ECHO = ("cat",)


def counter(count: int, size: int = 200) -> tuple[str, ...]:
    program = (
        f'for n in range({count}): print(\'{{"n":%d,"pad":"%s"}}\' % (n, "x" * {size}))\nimport sys\nsys.stdin.read()'
    )
    return (sys.executable, "-c", program)


def outputs(host: Connection, count: int) -> list[int]:
    return [host.until("out")["out"]["n"] for _ in range(count)]


def have(host: Connection, seq: int) -> list[Any]:
    return [seq, host.hello["journal"]]


def killed_and_started_again(agent: Agent, make_agent: MakeAgent) -> Agent:
    agent.process.kill()
    agent.process.wait(10)
    return make_agent(place=agent.directory)


def kept(agent: Agent) -> int:
    """Bytes of its journal."""
    size = 0
    for path in agent.directory.glob("agent.sock.state/main/*"):
        with contextlib.suppress(FileNotFoundError):  # forgotten just now
            size += path.stat().st_size
    return size


def test_a_host_goes_on_after_the_last_frame_it_saw(agent: Agent) -> None:
    first = agent.connect()
    first.start(*ECHO)
    for number in range(5):
        first.send({"id": f"c-{number}", "in": {"n": number}})
    frames = [first.read() for _ in range(10)]
    for cut, frame in enumerate(frames):
        later = agent.connect(have=have(first, frame["seq"]))
        assert later.hello["from"] == frame["seq"] + 1
        assert [later.read() for _ in frames[cut + 1 :]] == frames[cut + 1 :]


def test_what_was_said_to_nobody_is_kept(agent: Agent) -> None:
    host = agent.connect()
    seq = host.start(*counter(1000))["seq"]
    host.close()
    agent.connections.clear()
    later = agent.connect(have=have(host, seq))
    assert outputs(later, 1000) == list(range(1000))


def test_a_turn_is_read_again_from_its_first_frame(agent: Agent) -> None:
    host = agent.connect()
    host.start(*ECHO)
    host.send({"id": "a", "in": {"n": 1}}, {"id": "c-b", "in": {"n": 2}})
    frames = [host.read() for _ in range(4)]
    taken = next(frame for frame in frames if frame.get("took") == "c-b")
    later = agent.connect(turn="c-b")
    assert later.read() == taken
    assert later.hello["from"] == taken["seq"]


@pytest.mark.parametrize(
    "asked",
    [{"turn": "unknown"}, {"have": [3, "another journal"]}, {"have": [10**9, None]}, {"have": ["x", "y"]}],
    ids=range(4),
)
def test_what_is_not_kept_is_said_to_be_gone(agent: Agent, asked: dict[str, Any]) -> None:
    agent.connect().start(*ECHO)
    host = agent.connect(**asked)
    assert host.hello["error"] == "gone"
    assert host.read() == {}


@both
def test_a_killed_agent_loses_nothing_that_it_said_or_took(agent: Agent, make_agent: MakeAgent) -> None:
    host = agent.connect()
    host.start(*ECHO)
    host.send({"id": "a", "in": {"n": 1}}, {"id": "c-b", "in": {"n": 2}})
    frames = [host.read() for _ in range(4)]
    agent = killed_and_started_again(agent, make_agent)
    later = agent.connect(turn="a")
    assert [later.read() for _ in range(4)] == frames
    assert later.read() == {"seq": frames[-1]["seq"] + 1, "exit": None}, "nobody saw how Claude Code ended"
    assert later.hello["open"] == []
    assert later.start(*ECHO)["seq"] == frames[-1]["seq"] + 2
    later.send({"id": "c-b", "in": {"n": 2}}, {"id": "c", "in": {"n": 3}})
    assert later.read() == {"took": "c-b", "again": True}
    assert later.until("out")["out"] == {"n": 3}, "an input was written twice"


def test_a_repeat_is_answered_where_claude_does_not_run(agent: Agent, make_agent: MakeAgent) -> None:
    host = agent.connect()
    host.start(*ECHO)
    host.send({"id": "a", "in": {"n": 1}})
    host.until("out")
    host = killed_and_started_again(agent, make_agent).connect()
    host.send({"id": "a", "in": {"n": 1}}, {"id": "b", "in": {"n": 1}})
    assert host.read() == {"took": "a", "again": True}
    assert host.read()["error"] == "not_running"


def test_a_slow_reader_costs_disk_and_not_memory(agent: Agent) -> None:
    slow, quick = agent.connect(), agent.connect()
    slow.start(*counter(50_000, 900))
    before = resident(agent.process.pid)
    assert outputs(quick, 50_000) == list(range(50_000))
    assert resident(agent.process.pid) - before < 10_000_000
    assert outputs(slow, 50_000) == list(range(50_000))


def test_a_full_journal_stops_claude_until_somebody_has_read(make_agent: MakeAgent) -> None:
    agent = make_agent("--journal-limit", "10000000")
    host = agent.connect()
    seq = host.start(*counter(50_000, 900))["seq"]
    host.close()
    later = agent.connect(have=have(host, seq))
    for number in range(50_000):
        frame = later.until("out")
        assert frame["out"]["n"] == number
        if number % 250 == 0:
            later.send({"ack": frame["seq"]})
            assert kept(agent) < 20_000_000


def test_a_host_that_does_not_read_holds_up_no_one_else(make_agent: MakeAgent) -> None:
    agent = make_agent("--journal-limit", "10000000")
    reader, idle = agent.connect(), agent.connect()
    reader.start(*counter(50_000, 900))
    for number in range(50_000):
        frame = reader.until("out")
        assert frame["out"]["n"] == number
        if number % 250 == 0:
            reader.send({"ack": frame["seq"]})
    while idle.read():  # what it had been sent; then it is let go
        pass
    assert any(line["event"] == "client_gone" and "lagging" in line["reason"] for line in agent.log())


def test_what_was_seen_to_its_end_is_dropped_by_size(agent: Agent) -> None:
    host = agent.connect()
    host.start(*ECHO)
    for number in range(40):
        host.send({"id": f"i{number}", "in": {"type": "result", "pad": "x" * 1_000_000}})
        host.until("out")
        host.send({"done": f"i{number}"}, {"status": True})
        turns = host.until("turns")["turns"]
        assert turns[-1] == {"id": f"i{number}", "read": True}
    assert 10_000_000 < kept(agent) < 30_000_000
    assert turns[0]["id"] != "i0"
    assert agent.connect(turn="i0").hello["error"] == "gone"
    assert agent.connect(turn=turns[0]["id"]).until("out")


def test_what_nobody_has_read_is_listed_also_after_a_restart(agent: Agent, make_agent: MakeAgent) -> None:
    host = agent.connect()
    host.start(*ECHO)
    host.send({"id": "a", "in": {}}, {"id": "b", "in": {}}, {"id": "c-1", "in": {}}, {"done": "a"}, {"status": True})
    turns = [{"id": "a", "read": True}, {"id": "b", "read": False}]
    assert host.until("turns")["turns"] == turns
    host = killed_and_started_again(agent, make_agent).connect()
    host.send({"status": True})
    assert host.until("turns")["turns"] == turns


def test_a_health_check_leaves_no_journal(agent: Agent) -> None:
    agent.connect("health")
    assert not (agent.directory / "agent.sock.state").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_costs_whoever_keeps_up_nothing(make_agent: MakeAgent, small_disk: Path) -> None:
    agent = make_agent("--state", str(small_disk / "state"))
    host = agent.connect()
    host.start(*counter(50_000))
    assert outputs(host, 50_000) == list(range(50_000))
    assert any(line["event"] == "journal_given_up" for line in agent.log())


def test_a_full_disk_makes_claude_wait_for_who_lags(make_agent: MakeAgent, small_disk: Path) -> None:
    agent = make_agent("--state", str(small_disk / "state"))
    host = agent.connect()
    seq = host.start(*counter(50_000))["seq"]
    host.close()
    while not any(line["event"] == "journal_waits" for line in agent.log()):
        agent.connect("another").close()
    assert outputs(agent.connect(have=have(host, seq)), 50_000) == list(range(50_000))


def test_a_journal_that_cannot_be_used_is_said(make_agent: MakeAgent, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "main").mkdir(parents=True)
    (state / "main" / "00000000000000000001.log").mkdir()
    refusal = make_agent("--state", str(state)).connect().hello
    assert refusal["error"] == "state"
    assert str(state) in refusal["message"]


def test_a_journal_that_cannot_be_written_is_gone_without(make_agent: MakeAgent) -> None:
    host = make_agent("--state", "/dev/null/state").connect()
    host.start(*counter(100))
    assert outputs(host, 100) == list(range(100))
