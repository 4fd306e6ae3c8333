"""One process in the agent: started once, listened to while there is room, and its end told after all it has said.

covers: B1, C16
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge_agent import journal, queue
from cc_bridge_agent.ledger import Ledger
from cc_bridge_agent.session import Session
from cc_bridge_agent.spawn import StartError
from tests.unit.agent.stepping import StepLoop

LIMIT = 10_000_000


class Host:
    """A client of the session that takes all, unless it is told to be clogged."""

    def __init__(self) -> None:
        self.given = self.acknowledged = 0
        self.feed: Any = None
        self.clogged = self.gone = self.paused = False
        self.data = b""

    def send(self, data: bytes) -> None:
        self.data += data

    def pause_reading(self, paused: bool) -> None:
        self.paused = paused

    def close(self, why: str) -> None:
        raise AssertionError(why)

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data.splitlines()]

    def said(self, key: str) -> list[Any]:
        return [frame[key] for frame in self.frames if key in frame]


class Stage:
    """A session, its host, and processes that are really started."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.loop: Any = StepLoop()
        self.logged: list[str] = []
        self.exits = 0
        self.host: Any = Host()
        self.ledger = Ledger(str(directory / "journal"), limit)
        self.session = Session(self.loop, "main", self._log, self._exited, self.ledger)
        self.session.audience.attach(self.host, 0)

    def _log(self, event: str, **fields: Any) -> None:
        self.logged.append(event)

    def _exited(self) -> None:
        self.exits += 1

    def start(self, *argv: str, **env: str) -> int:
        self.session.start(list(argv), env, "/")
        return int(self.session.describe()["pid"])

    def python(self, code: str) -> int:
        return self.start(sys.executable, "-ISc", code)

    def wait(self, pid: int) -> None:
        """Until it has ended; then as the loop does after SIGCHLD."""
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.session.reap()

    def until(self, key: str, value: Any) -> None:
        """Turn the loop until this was said."""
        while value not in self.host.said(key):
            assert self.loop.watched, f"nothing more can come, and {value!r} was not said"
            self.loop.step()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    pid = made.session.describe().get("pid")
    if pid:
        made.session.signal(signal.SIGKILL)
        made.wait(pid)


def test_before_it_is_started(stage: Stage) -> None:
    described = stage.session.describe()
    assert (described["state"], described["seq"], described["open"]) == ("new", 0, [])
    assert described["session"] == "main"
    assert described["journal"] == stage.ledger.journal.id
    assert "pid" not in described
    assert "exit" not in described
    assert not stage.session.running
    stage.session.signal(signal.SIGKILL)
    stage.session.reap()
    assert stage.host.frames == []


def test_it_is_started_once(stage: Stage) -> None:
    pid = stage.start("cat")
    stage.session.start(["false"], {}, "/")
    assert stage.session.running
    assert stage.host.frames == [{"seq": 1, "started": pid}]
    described = stage.session.describe()
    assert (described["state"], described["pid"], described["seq"]) == ("running", pid, 1)
    assert stage.logged == ["claude_started"]


def test_what_cannot_be_started_says_why(stage: Stage) -> None:
    with pytest.raises(StartError) as caught:
        stage.start("/nowhere/claude")
    assert caught.value.errno == 2
    assert not stage.session.running
    assert stage.host.frames == []
    assert stage.session.describe()["state"] == "new"


def test_a_line_goes_in_once_and_comes_back(stage: Stage) -> None:
    stage.start("cat")
    assert stage.session.take("a", "", b'{"a":1}') is None
    assert stage.session.take("a", "", b'{"a":1}') == {"took": "a", "again": True}
    stage.session.take("c-b", "", b'{"b":1}')
    stage.until("out", {"b": 1})
    assert stage.host.said("took") == ["a", "c-b"]
    assert stage.host.said("out") == [{"a": 1}, {"b": 1}]
    assert stage.session.describe()["open"] == ["a"]


def test_a_turn_is_given_when_the_one_before_it_has_ended(stage: Stage) -> None:
    """`cat` says what it is given: the input is its own result. covers: C8, C16"""
    stage.start("cat")
    stage.session.take("a", "", b'{"a":1}')
    assert stage.session.take("b", "", b'{"b":1}') is None
    stage.session.take("c", "", b'{"c":1}')
    assert stage.session.describe()["queue"] == ["b", "c"]
    assert stage.session.take("b", "", b'{"b":1}') == {"took": "b", "again": True}
    stage.session.take("c-1", "", b'{"type":"result","user_message_uuids":["another"]}')
    stage.session.take("c-2", "", b'{"type":"x","result":"result"}')
    stage.session.take("c-3", "", b'{"x":3}')
    stage.until("out", {"x": 3})
    assert stage.host.said("took") == ["a", "c-1", "c-2", "c-3"]
    stage.session.take("c-4", "", b'{"type":"result","user_message_uuids":["a"]}')
    stage.until("out", {"b": 1})
    assert stage.host.said("took")[4:] == ["c-4", "b"]
    assert stage.host.said("queued") == ["b", "c"]
    stage.session.take("c-5", "", b'{"type":"result"}')  # this Claude Code names turns, and so this one is left over
    stage.session.take("c-6", "", b'{"type":"result","user_message_uuids":["b"]}')
    stage.until("out", {"c": 1})
    assert stage.host.said("took")[-2:] == ["c-6", "c"]
    assert stage.session.describe()["queue"] == []


def test_what_waits_is_withdrawn_at_no_cost_to_the_others(stage: Stage) -> None:
    stage.start("cat")
    for name in ("a", "b", "c"):
        stage.session.take(name, "", b'{"%b":1}' % name.encode())
    assert stage.session.withdraw("b") is None
    assert stage.session.withdraw("b") == {"withdrawn": "b", "late": True}
    assert stage.session.withdraw("a") == {"withdrawn": "a", "late": True}
    assert stage.host.said("withdrawn") == ["b"]
    stage.session.take("c-1", "", b'{"type":"result"}')
    stage.until("out", {"c": 1})
    assert stage.session.take("b", "", b'{"b":1}') is None, "it was never given: the same id may come again"


def test_an_interrupt_is_for_its_turn_and_no_other(stage: Stage) -> None:
    stage.start("cat")
    stage.session.take("a", "", b'{"a":1}')
    assert stage.session.take("c-1", "b", b'{"interrupt":"b"}') == {"took": "c-1", "late": True}
    assert stage.session.take("c-2", "a", b'{"interrupt":"a"}') is None
    stage.until("out", {"interrupt": "a"})
    assert {"interrupt": "b"} not in stage.host.said("out")


def test_what_waits_is_given_to_the_next_process(stage: Stage) -> None:
    pid = stage.start("cat")
    stage.session.take("a", "", b'{"a":1}')
    stage.until("out", {"a": 1})
    stage.session.take("b", "", b'{"b":1}')
    stage.session.signal(signal.SIGKILL)
    assert stage.session.take("c", "", b'{"c":1}') is None, "it is ending, and is given no more"
    stage.wait(pid)
    assert stage.host.said("took") == ["a"]
    stage.start("cat")
    stage.until("out", {"b": 1})
    assert stage.session.describe()["queue"] == ["c"]


def test_what_waits_outlives_the_agent(stage: Stage, tmp_path: Path) -> None:
    pid = stage.start("cat")
    for name in ("a", "b", "c", "d"):
        stage.session.take(name, "", b'{"%b":1}' % name.encode())
    stage.until("out", {"a": 1})
    stage.session.withdraw("c")
    stage.session.signal(signal.SIGKILL)
    stage.wait(pid)
    stage.ledger.journal.close()
    another = Stage(tmp_path)
    assert another.session.describe()["queue"] == ["b", "d"]
    assert another.session.take("b", "", b"{}") == {"took": "b", "again": True}
    pid = another.start("cat")
    another.until("out", {"b": 1})
    another.session.signal(signal.SIGKILL)
    another.wait(pid)


def test_what_a_process_has_not_read_waits_again_before_all_others(stage: Stage, tmp_path: Path) -> None:
    """Nothing of it has happened; also where the result before it and the end come together."""
    pid = stage.python('print(\'{"type":"result"}\', flush=True); input()')
    stage.session.take("a", "", b'{"a":1}')
    stage.session.take("b", "", b'{"b":1}')
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    stage.until("out", {"type": "result"})
    assert stage.session.describe()["queue"] == ["b"], "it is not given to one that has ended"
    stage.wait(pid)
    pid = stage.python('input(); print(\'{"type":"result","n":2}\', flush=True); import time; time.sleep(1000)')
    stage.session.take("c", "", b'{"c":1}')
    stage.until("out", {"type": "result", "n": 2})
    stage.session.take("c-1", "", b"{}")
    stage.session.signal(signal.SIGKILL)
    stage.wait(pid)
    assert stage.host.said("took")[-2:] == ["c", "c-1"]
    assert [next(iter(frame.keys() - {"seq", "in"})) for frame in stage.host.frames[-2:]] == ["queued", "exit"]
    assert stage.session.describe()["queue"] == ["c"]
    stage.ledger.journal.close()
    assert Ledger(str(tmp_path / "journal"), LIMIT).queue.waiting == ["c"]


def test_one_that_cannot_start_ends_its_turn(stage: Stage) -> None:
    """It would be started for ever, if what it has not read waited again."""
    pid = stage.start("false")
    stage.session.take("a", "", b"{}")
    stage.wait(pid)
    assert stage.session.describe()["queue"] == []


def test_what_waits_is_kept_anew_before_it_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT", 1000)
    stage = Stage(tmp_path, limit=5000)
    pid = stage.start("cat")
    stage.session.take("a", "", b'{"a":1}')
    stage.session.take("b", "", b'{"b":1}')
    for number in range(100):
        stage.session.take(f"c-{number}", "", b'{"number":%d,"pad":"%b"}' % (number, b"x" * 200))
        while {"number": number, "pad": "x" * 200} not in stage.host.said("out"):
            stage.session.audience.acknowledge(stage.host, stage.host.given)
            stage.loop.step()
    assert stage.ledger.journal.first > 10
    stage.session.signal(signal.SIGKILL)
    stage.wait(pid)
    stage.ledger.journal.close()
    another = Ledger(str(tmp_path / "journal"), LIMIT)
    assert another.queue.waiting == ["b"]
    assert another.position(None, "b") is not None


def test_more_than_may_wait_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_INPUTS", 1)
    stage.start("cat")
    assert [stage.session.take(name, "", b"{}") for name in ("a", "b")] == [None, None]
    refusal = stage.session.take("c", "", b"{}")
    assert refusal is not None
    assert (refusal["error"], refusal["id"]) == ("full", "c")


def test_a_line_for_nobody_is_refused_unless_it_was_taken(stage: Stage) -> None:
    refusal = stage.session.take("a", "", b"{}")
    assert refusal is not None
    assert (refusal["error"], refusal["id"]) == ("not_running", "a")
    pid = stage.start("cat")
    stage.session.take("a", "", b"{}")
    stage.session.signal(signal.SIGKILL)
    stage.wait(pid)
    assert stage.session.take("a", "", b"{}") == {"took": "a", "again": True}


def test_a_turn_is_done_once(stage: Stage) -> None:
    stage.start("cat")
    stage.session.take("a", "", b"{}")
    assert stage.session.done("a") is None
    assert stage.session.done("a") == {"done": "a"}
    assert stage.host.said("done") == ["a"]
    assert stage.session.describe()["open"] == []


def test_environment_and_directory(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_THE_AGENT", "1")
    code = "import os; print('{\"a\":\"%(FROM_THE_AGENT)s%(KEY)s\"}' % os.environ, os.getcwd(), sep='\\n', flush=True)"
    pid = stage.start(sys.executable, "-ISc", code, KEY="2")
    stage.wait(pid)
    assert stage.host.said("out") == [{"a": "12"}, "/"]


def test_both_streams_are_told_and_the_end_comes_last(stage: Stage) -> None:
    pid = stage.python("import os; os.write(1, b'{}\\nno end'); os.write(2, b'oops\\n\\xff'); os._exit(3)")
    stage.wait(pid)
    stage.session.reap()
    frames = [{key: value for key, value in frame.items() if key != "seq"} for frame in stage.host.frames]
    assert frames == [{"started": pid}, {"out": {}}, {"out": "no end"}, {"err": "oops"}, {"err": "\ufffd"}, {"exit": 3}]
    assert [frame["seq"] for frame in stage.host.frames] == [1, 2, 3, 4, 5, 6]
    described = stage.session.describe()
    assert (described["state"], described["exit"]) == ("exited", 3)
    assert (stage.exits, stage.session.running) == (1, False)
    assert stage.logged == ["claude_started", "claude_exited"]


def test_a_running_process_is_not_reaped(stage: Stage) -> None:
    stage.start("cat")
    stage.session.reap()
    assert (stage.session.running, stage.exits) == (True, 0)


def test_more_than_a_pipe_holds_is_told_before_the_end(stage: Stage) -> None:
    pid = stage.python("import os; os.write(1, b'{\"a\":1}\\n' * 8000)")
    stage.wait(pid)
    assert len(stage.host.said("out")) == 8000
    assert list(stage.host.frames[-1]) == ["seq", "exit"]


def test_its_descriptors_are_given_back(stage: Stage) -> None:
    stage.session.audience.tell()
    stage.ledger.keep()
    pid = stage.start("true")
    stage.wait(pid)
    before = len(os.listdir("/proc/self/fd"))
    pid = stage.start("true")
    stage.wait(pid)
    assert len(os.listdir("/proc/self/fd")) == before
    assert stage.loop.watched == {}


def test_what_it_has_started_is_ended_with_it(stage: Stage) -> None:
    code = "import subprocess, os; print(subprocess.Popen(['sleep', '1000']).pid, flush=True)"
    pid = stage.python(code)
    stage.wait(pid)
    (left,) = stage.host.said("out")
    try:
        ended = os.pidfd_open(int(left))
    except ProcessLookupError:
        return
    assert select.select([ended], [], [], 20)[0]
    os.close(ended)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_it_and_is_told(stage: Stage, number: signal.Signals) -> None:
    pid = stage.start("sleep", "1000")
    stage.session.signal(number)
    stage.wait(pid)
    assert stage.host.said("exit") == [-number]
    assert stage.host.said("oom") == []


def test_after_its_end_another_is_started_and_knows_nothing_of_it(stage: Stage) -> None:
    pid = stage.start("cat")
    stage.session.take("a", "", b"{}")
    stage.until("out", {})
    stage.session.signal(signal.SIGKILL)
    stage.wait(pid)
    assert stage.session.describe()["open"] == []
    another = stage.start("cat")
    assert another != pid
    described = stage.session.describe()
    assert (described["state"], described["open"]) == ("running", [])
    assert "exit" not in described
    stage.session.take("b", "", b'{"b":1}')
    stage.until("out", {"b": 1})


def test_an_unfinished_line_is_not_carried_over_to_the_next_process(stage: Stage) -> None:
    stage.wait(stage.python("import os; os.write(1, b'{\"half')"))
    stage.wait(stage.python("import os; os.write(1, b'{}\\n')"))
    assert stage.host.said("out") == ['{"half', {}]


def test_who_does_not_read_its_input_stops_the_hosts_beyond_a_mebibyte(stage: Stage) -> None:
    pid = stage.start("sleep", "1000")
    line = b'{"a":"%b"}' % (b"x" * 500_000)
    stage.session.take("a", "", line)
    stage.session.take("c-b", "", line)
    assert not stage.host.paused
    stage.session.take("c-c", "", line)
    assert stage.host.paused
    stage.session.signal(signal.SIGKILL)
    stage.wait(pid)
    assert not stage.host.paused, "nobody is waited for any more"


def test_who_reads_again_lets_the_hosts_go_on(stage: Stage) -> None:
    stage.python("import sys; print(len(sys.stdin.readline()), flush=True); sys.stdin.read()")
    line = b'{"a":"%b"}' % (b"x" * 3_000_000)
    stage.session.take("a", "", line)
    stage.until("out", str(len(line) + 1))
    assert not stage.host.paused


def test_an_input_that_cannot_be_written_ends_nothing(stage: Stage) -> None:
    """Its end is on its way, and tells."""
    pid = stage.python("import os; os.close(0); print('closed', flush=True); os.read(os.pipe()[0], 1)")
    stage.until("out", "closed")
    stage.session.take("a", "", b"{}")
    assert "stdin_closed" in stage.logged
    assert stage.session.running
    stage.session.signal(signal.SIGKILL)
    stage.wait(pid)
    assert stage.host.said("took") == ["a"]


def test_without_room_it_is_not_read(tmp_path: Path) -> None:
    stage = Stage(tmp_path, limit=1)
    pid = stage.python("import os; os.write(1, b'{}\\n')")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    stage.loop.step()
    assert stage.host.said("out") == [], "the journal is full"
    assert stage.loop.watched == {}
    stage.session.reap()
    assert stage.host.said("out") == [{}], "but its end loses nothing"


def test_a_line_without_an_end_is_said_and_ends_it(stage: Stage) -> None:
    pid = stage.python("import os\nwhile True: os.write(2, b'x' * 65536)")
    while not any("refused the output" in err for err in stage.host.said("err")):
        stage.loop.step(1)
    stage.wait(pid)
    assert stage.host.said("exit") == [-9]
