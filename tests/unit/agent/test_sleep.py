"""When one Claude Code goes to sleep, and how: with real processes, and a clock that is turned by hand. covers: B7"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge_agent import session as session_module
from cc_bridge_agent import spawn

from .test_session import Stage

BUSY = "busy"


class Bedroom(Stage):
    """A stage whose time passes when the test says so."""

    def begin(self, *argv: str, after: float = 600.0) -> int:
        self.session.start(list(argv), {}, "/", after)
        return int(self.session.describe()["pid"])

    def time_passes(self) -> float:
        """As long as the timer says, and nothing was said meanwhile."""
        ((seconds, _),) = self.loop.timers
        self.session.sleeper._since -= seconds
        return float(self.loop.let_time_pass())


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Bedroom]:
    made = Bedroom(tmp_path)
    yield made
    pid = made.session.describe().get("pid")
    if pid:
        made.session.signal(signal.SIGKILL)
        made.wait(pid)


def until_file(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_it_sleeps_when_nothing_was_said_for_long_enough(room: Bedroom) -> None:
    pid = room.begin("cat")
    assert room.session.describe()["sleep"] == 600
    assert room.time_passes() == 600
    assert room.session.describe()["state"] == "asleep"
    room.wait(pid)
    assert room.host.frames[-1] == {"seq": 2, "exit": 0, "asleep": True}
    described = room.session.describe()
    assert (described["state"], described["exit"]) == ("asleep", 0)
    assert room.session.asleep
    assert room.loop.timers == [], "asleep, nothing wakes the agent"
    room.begin("cat")
    assert (room.session.describe()["state"], room.session.asleep) == ("running", False)


def test_without_a_time_it_never_sleeps(room: Bedroom) -> None:
    room.begin("cat", after=0)
    assert room.loop.timers == []


def test_what_is_said_puts_it_off(room: Bedroom) -> None:
    room.begin("cat")
    room.session.take("c-1", "", b"{}")
    room.loop.let_time_pass()
    ((left, _),) = room.loop.timers
    assert 590 < left <= 600
    assert room.session.describe()["state"] == "running"


@pytest.mark.parametrize("asked", [False, True])
def test_never_in_a_turn(room: Bedroom, asked: bool) -> None:
    room.begin("cat")
    room.session.take("a", "", b'{"a":1}')
    room.until("out", {"a": 1})
    if asked:
        assert room.session.sleep() == {"error": BUSY, "message": "it has a turn"}
    else:
        room.time_passes()
        assert room.time_passes() == 600, "it is looked at again, and not before"
    assert room.session.describe()["state"] == "running"
    room.session.take("c-1", "", b'{"type":"result"}')
    room.until("out", {"type": "result"})
    assert room.session.sleep() is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"type":"system","subtype":"init"}', "it has a turn that it has begun by itself"),
        (
            b'{"type":"system","subtype":"background_tasks_changed","tasks":[{"description":"sleep 30"}]}',
            "it works in the background: sleep 30",
        ),
    ],
)
def test_not_while_it_says_that_something_goes_on(room: Bedroom, line: bytes, reason: str) -> None:
    room.begin("cat")
    room.session.take("c-1", "", line)
    room.loop.step()
    while not room.host.said("out"):
        room.loop.step()
    assert room.session.sleep() == {"error": BUSY, "message": reason}


def test_not_while_a_process_of_its_own_session_runs(room: Bedroom, tmp_path: Path) -> None:
    """As background shells are started; a server of tools is in Claude Code's session, and does not count."""
    ready = tmp_path / "ready"
    code = (
        "import subprocess, sys;"
        "subprocess.Popen(['sleep', '1000']);"
        "shell = subprocess.Popen(['sleep', '1000'], start_new_session=True);"
        f"open({str(ready)!r}, 'w').close();"
        "sys.stdin.readline(); shell.kill(); shell.wait(); print('gone', flush=True); sys.stdin.read()"
    )
    room.begin(sys.executable, "-ISc", code)
    until_file(ready)
    assert room.session.sleep() == {"error": BUSY, "message": "it runs in the background: sleep"}
    room.session.take("c-1", "", b"{}")
    room.until("out", "gone")
    assert room.session.sleep() is None


def test_where_nobody_can_see_it_stays_awake(room: Bedroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "detached_children", lambda _: None)
    room.begin("cat")
    answer = room.session.sleep()
    assert answer is not None
    assert "no /proc" in answer["message"]
    room.time_passes()
    assert room.session.describe()["state"] == "running"


def test_what_comes_while_it_falls_asleep_waits_for_the_next(room: Bedroom) -> None:
    pid = room.begin("cat")
    assert room.session.sleep() is None
    assert room.session.sleep() is None, "the exit answers both"
    assert room.session.take("a", "", b'{"a":1}') is None
    refusal = room.session.take("c-1", "", b"{}")
    assert refusal is not None
    assert refusal["error"] == "not_running"
    begun: list[int] = []
    room.session.once_ended(lambda: begun.append(room.begin("cat")))
    room.wait(pid)
    room.until("out", {"a": 1})
    kinds = [next(key for key in frame if key not in ("seq", "in")) for frame in room.host.frames]
    assert kinds == ["started", "queued", "exit", "started", "took", "out"]
    assert len(begun) == 1


def test_one_that_does_not_end_is_made_to(room: Bedroom, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import signal, time;"
        "signal.signal(signal.SIGTERM, lambda *_: print('deaf', flush=True));"
        f"open({str(ready)!r}, 'w').close();"
        "[time.sleep(1000) for _ in iter(int, 1)]"
    )
    pid = room.begin(sys.executable, "-ISc", code)
    until_file(ready)
    assert room.session.sleep() is None
    assert room.time_passes() == 10
    room.until("out", "deaf")
    assert room.time_passes() == 5
    room.wait(pid)
    assert room.host.frames[-1] == {"seq": room.host.frames[-1]["seq"], "exit": -9, "asleep": True}


def test_one_that_still_says_something_is_let_finish(room: Bedroom, tmp_path: Path) -> None:
    room.begin(
        sys.executable, "-ISc", "import sys; sys.stdin.read(); print('yes', flush=True); import time; time.sleep(1000)"
    )
    assert room.session.sleep() is None
    room.until("out", "yes")
    room.loop.let_time_pass()
    ((left, _),) = room.loop.timers
    assert 5 < left <= 10


def test_one_that_never_stops_talking_is_let_finish_for_a_minute(room: Bedroom) -> None:
    code = "import sys; sys.stdin.read(); print('yes', flush=True); import time; time.sleep(1000)"
    pid = room.begin(sys.executable, "-ISc", code)
    assert room.session.sleep() is None
    room.until("out", "yes")
    room.session.sleeper._latest -= 60
    room.loop.let_time_pass()
    room.wait(pid)
    assert room.host.frames[-1]["exit"] == -signal.SIGTERM


def test_what_sleeps_is_not_put_to_sleep(room: Bedroom) -> None:
    assert room.session.sleep() == {"asleep": True}
    pid = room.begin("cat")
    room.session.sleep()
    room.wait(pid)
    assert room.session.sleep() == {"asleep": True}


def test_one_that_is_killed_is_not_asleep(room: Bedroom) -> None:
    pid = room.begin("cat")
    room.session.signal(signal.SIGTERM)
    assert room.session.sleep() == {"error": BUSY, "message": "it is ending"}
    room.wait(pid)
    assert room.host.frames[-1]["exit"] == -15
    assert "asleep" not in room.host.frames[-1]
    assert room.session.describe()["state"] == "exited"


def test_children_in_sessions_of_their_own_are_found() -> None:
    assert spawn.detached_children(os.getpid()) is not None
    assert spawn.detached_children(2**22 + 1) is None, "who cannot be seen may have any"


def test_without_proc_nobody_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Any) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(os, "listdir", missing)
    assert spawn.detached_children(1) is None
