"""Raw sessions: one process beside the main one, and its streams as bytes. covers: B6"""

from __future__ import annotations

import base64
import os
import select
import signal
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Agent, Connection, both

MakeAgent = Callable[..., Agent]


def stdin(number: int, data: bytes | None) -> dict[str, Any]:
    return {"id": f"c-{number}", "stdin": None if data is None else base64.b64encode(data).decode()}


def begin(host: Connection, script: str, **start: Any) -> None:
    host.send({"start": {"argv": ["sh", "-c", script], "env": {}, "cwd": "/", **start}})
    assert "started" in host.read()


def until_exit(host: Connection) -> tuple[bytes, bytes, dict[str, Any]]:
    """All of stdout and of stderr from here on, and the exit."""
    said = {"stdout": b"", "stderr": b""}
    while True:
        frame = host.read()
        assert frame, "the connection ended"
        for stream in said.keys() & frame.keys():
            said[stream] += base64.b64decode(frame[stream])
        if "exit" in frame:
            return said["stdout"], said["stderr"], frame


def ends(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], 20)[0])
    finally:
        os.close(pidfd)


@both
def test_streams_are_bytes_and_apart(agent: Agent) -> None:
    host = agent.connect("raw-a")
    assert host.hello["raw"] is True
    begin(host, "cat; echo no >&2; exit 3")
    host.send(stdin(1, b"\n\n\0\xff no line"), stdin(2, b" more\r\n"), stdin(3, None))
    out, err, exited = until_exit(host)
    assert (out, err, exited["exit"]) == (b"\n\n\0\xff no line more\r\n", b"no\n", 3)


def test_input_goes_on_once_and_its_end_comes_after_it(agent: Agent) -> None:
    host = agent.connect("raw-a")
    begin(host, "wc -c; exec >&-; read line")
    host.send(stdin(1, b"x" * 300_000), stdin(1, b"x" * 300_000), stdin(2, b"y"), stdin(3, None))
    host.send(stdin(3, None), stdin(2, b"y"))
    out, _, exited = until_exit(host)
    assert out.strip() == b"300001"
    assert exited["exit"] == 1


def test_a_repeat_is_answered_and_the_process_goes_on_after_the_end_of_its_input(agent: Agent) -> None:
    host = agent.connect("raw-a")
    begin(host, "cat >/dev/null; echo ended; exec sleep 60")
    host.send(stdin(1, None))
    assert host.until("stdout")
    host.send(stdin(1, None), {"signal": "TERM"})
    assert host.until("took") == {"took": "c-1", "again": True}
    assert host.until("exit")["exit"] == -signal.SIGTERM


def test_what_is_not_read_is_not_answered_and_signals_do_not_wait_behind_it(agent: Agent) -> None:
    host = agent.connect("raw-a")
    begin(host, "exec sleep 60")
    host.send(*[stdin(number, b"x" * 60_000) for number in range(10)], {"status": True})
    frames = []
    while not frames or "status" not in frames[-1]:
        frames.append(host.read())
    assert 1 <= len([frame for frame in frames if "took" in frame]) < 10
    host.send({"signal": "INT"})
    assert host.until("exit")["exit"] == -signal.SIGINT


def test_a_host_that_comes_back_misses_nothing_and_starts_nothing_again(agent: Agent) -> None:
    host = agent.connect("raw-a")
    begin(host, 'while read line; do echo "$line"; done')
    host.send(stdin(1, b"one\n"))
    host.until("stdout")
    seen = [host.hello["seq"], host.hello["journal"]]
    host.close()
    back = agent.connect("raw-a", have=seen)
    assert back.hello["state"] == "running"
    back.send({"start": {"argv": ["echo"], "env": {}, "cwd": "/"}}, stdin(1, b"one\n"), stdin(2, b"two\n"))
    back.send(stdin(3, None))
    assert until_exit(back)[0] == b"one\ntwo\n"
    back.send({"start": {"argv": ["echo"], "env": {}, "cwd": "/"}}, {"status": True})
    assert back.read()["status"]["state"] == "exited"


def test_a_host_that_is_gone_for_good_leaves_no_process_and_the_main_session_goes_on(agent: Agent) -> None:
    main, host = agent.connect(), agent.connect("raw-a")
    main.start("cat")
    begin(host, "cat; echo bye", linger=0.2)
    pid = agent.connect("raw-a", look=True).hello["pid"]
    host.close()
    assert ends(pid)
    main.send({"id": "x", "in": {}})
    assert main.until("out")


def test_a_host_that_comes_back_in_time_finds_its_process(agent: Agent) -> None:
    host = agent.connect("raw-a")
    begin(host, "cat", linger=60)
    seen = [host.hello["seq"], host.hello["journal"]]
    host.close()
    back = agent.connect("raw-a", have=seen)
    back.send(stdin(1, b"here"), stdin(2, None))
    assert until_exit(back)[0] == b"here"


def test_what_was_read_to_its_end_is_forgotten_on_request(agent: Agent) -> None:
    host = agent.connect("raw-a")
    begin(host, "read line")
    host.send({"forget": True})
    assert host.until("error")["error"] == "busy"
    host.send(stdin(1, None))
    until_exit(host)
    journal = agent.directory / "agent.sock.state" / "raw-a"
    assert journal.is_dir()
    host.send({"forget": True})
    assert host.read() == {}
    assert not journal.exists()
    assert agent.connect("raw-a").hello["state"] == "new"


def test_a_killed_agent_leaves_an_end_that_nobody_saw(make_agent: MakeAgent) -> None:
    agent = make_agent()
    host = agent.connect("raw-a")
    begin(host, "echo said; cat")
    host.until("stdout")
    seen = [host.hello["seq"], host.hello["journal"]]
    agent.process.kill()
    agent.process.wait(10)
    back = make_agent(place=agent.directory).connect("raw-a", have=seen)
    out, _, exited = until_exit(back)
    assert (out, exited["exit"]) == (b"said\n", None)
    back.send(stdin(1, b"x"))
    assert back.until("error")["error"] == "not_running"


def test_variables_can_be_taken_away(make_agent: MakeAgent) -> None:
    host = make_agent().connect("raw-a")
    begin(host, 'echo "[$HOME][$MINE][$EMPTY]"', env={"HOME": None, "MINE": "x", "EMPTY": ""})
    assert until_exit(host)[0] == b"[][x][]\n"


def test_turns_are_refused(agent: Agent) -> None:
    for frame in ({"id": "x", "in": {}}, {"sleep": True}, {"id": "x", "stdin": ""}, {"id": "c-1", "stdin": 17}):
        host = agent.connect("raw-a")
        host.send(frame)
        assert host.until("error")["error"] == "protocol"


def test_a_terminal_of_its_own(agent: Agent) -> None:
    host = agent.connect("raw-a")
    assert host.hello["tty"] is True
    begin(host, "tty >/dev/null && stty size; read line; stty size; seq 20000; exit 3", tty=[70, 20])
    assert base64.b64decode(host.until("stdout")["stdout"]) == b"20 70\r\n"
    host.send({"resize": [90, 30]}, stdin(1, b"x\r"))
    out, err, exited = until_exit(host)
    lines = [line.strip() for line in out.splitlines()]
    assert (lines.count(b"30 90"), err, exited["exit"]) == (1, b"", 3)
    assert lines[-1] == b"20000"  # what it wrote last is there, although it has ended


def test_who_leaves_a_terminal_hangs_up(agent: Agent) -> None:
    host = agent.connect("raw-a")
    begin(host, "exec sleep 60", tty=[80, 24])
    host.send(stdin(1, None))
    assert until_exit(host)[2]["exit"] == -signal.SIGHUP


@pytest.mark.parametrize(
    "frame",
    [
        {"resize": [80, 24]},
        {"start": {"argv": ["cat"], "env": {}, "cwd": "/", "tty": [0, 24]}},
        {"start": {"argv": ["cat"], "env": {}, "cwd": "/", "tty": [80]}},
        {"start": {"argv": ["cat"], "env": {}, "cwd": "/", "tty": "80x24"}},
        {"start": {"argv": ["cat"], "env": {}, "cwd": "/", "tty": [True, 65536]}},
    ],
)
def test_a_size_that_is_none_is_refused(agent: Agent, frame: dict[str, Any]) -> None:
    host = agent.connect("raw-a")
    host.send(frame)
    assert host.read()["error"] == "protocol"
