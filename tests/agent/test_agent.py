"""The agent as hosts see it, with ordinary programs in Claude Code's place. covers: C9, C10, B3"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Agent, archive_for, both

MakeAgent = Callable[..., Agent]


def ends(pidfd: int) -> bool:
    """Whether the process ends, now or soon."""
    try:
        return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)


@both
def test_hello(agent: Agent) -> None:
    host = agent.connect()
    assert host.hello["hello"] == 1
    assert (host.hello["state"], host.hello["seq"], host.hello["open"]) == ("new", 0, [])
    assert host.hello["epoch"] == agent.connect().hello["epoch"]


def test_lines_are_numbered_and_come_as_they_are(agent: Agent) -> None:
    host = agent.connect()
    host.start(
        "sh", "-c", """printf '{"a": 1}\\n\\nno JSON\\n{"b":  "\\303\\251"}\\n'; echo oops >&2; read x; exit 3"""
    )
    frames = [host.read() for _ in range(4)]
    out = [frame["out"] for frame in frames if "out" in frame]
    assert out == [{"a": 1}, "no JSON", {"b": "é"}]
    assert [frame["err"] for frame in frames if "err" in frame] == ["oops"]
    host.send({"id": "x", "in": {}})
    assert host.until("exit")["exit"] == 3
    assert [frame["seq"] for frame in frames] == [2, 3, 4, 5]


def test_claude_code_can_be_interrupted_whoever_started_the_agent(make_agent: MakeAgent) -> None:
    """A shell's background job has SIGINT ignored, and hands that down."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        agent = make_agent()
    finally:
        signal.signal(signal.SIGINT, before)
    host = agent.connect()
    host.start("sleep", "60")
    host.send({"signal": "INT"})
    assert host.until("exit")["exit"] == -signal.SIGINT


def test_output_without_a_last_newline_is_not_lost(agent: Agent) -> None:
    host = agent.connect()
    host.start("sh", "-c", "printf 'the end'; exit 0")
    assert host.until("out")["out"] == "the end"
    assert host.until("exit")["exit"] == 0


def test_input_is_passed_once(agent: Agent) -> None:
    host = agent.connect()
    host.start("cat")
    host.send({"id": "a", "in": {"n": 1}}, {"id": "a", "in": {"n": 1}}, {"id": "c-b", "in": {"n": 2}})
    frames = [host.read() for _ in range(5)]
    assert [frame["out"]["n"] for frame in frames if "out" in frame] == [1, 2]
    assert {"took": "a", "again": True} in frames


def test_what_was_withdrawn_does_not_come_back_over_the_connection_that_broke(agent: Agent) -> None:
    """It was on its way when the host connected anew, and gave it up."""
    broken, host = agent.connect(host="a host"), agent.connect(host="a host")
    host.start("cat")
    host.send({"withdraw": "a"}, {"id": "a1", "in": {"type": "result"}})
    assert host.until("withdrawn") == {"withdrawn": "a", "late": True}
    broken.send({"id": "a", "in": {"type": "result"}})
    assert broken.until("withdrawn") == {"withdrawn": "a", "late": True}
    host.send({"id": "a", "in": {"type": "result"}})
    assert [host.until("took")["took"] for _ in range(2)] == ["a1", "a"], "it may be sent anew"


def test_open_turns_are_told_to_who_comes_later(agent: Agent) -> None:
    host = agent.connect()
    host.start("cat")
    host.send({"id": "a", "in": {"type": "result"}})
    host.until("out")
    host.send({"id": "b", "in": {}}, {"id": "c-1", "in": {}}, {"done": "a"}, {"status": True})
    assert host.until("status")["status"]["open"] == ["b"]
    later = agent.connect()
    assert (later.hello["open"], later.hello["state"]) == (["b"], "running")


def test_what_claude_code_does_is_told_to_who_asks(agent: Agent) -> None:
    """Whose turn, since when, how long it has been silent, and the other hosts; of itself nobody need be told."""
    host = agent.connect(host="a host")
    host.send({"status": True})
    assert host.until("status")["now"] == {"turn": "", "hosts": []}
    host.start("cat")
    host.send({"id": "a", "in": {}}, {"id": "b", "in": {}})
    host.until("out")
    nameless, odd = agent.connect(), agent.connect(host=["x" * 1000])
    nameless.send({"status": True})
    said = nameless.until("status")
    assert (said["now"]["turn"], said["status"]["queue"]) == ("a", ["b"])
    assert said["now"]["seconds"] >= said["now"]["silent"] >= 0
    first, second = said["now"]["hosts"]
    assert (first, len(second)) == ("a host", 100)
    odd.send({"status": True})
    assert odd.until("status")["now"]["hosts"] == ["a host", ""]


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\n",
        b"[]\n",
        b'{"id":"a","in":{"x":1}\n',
        b'{"id":"a","in":nonsense}\n',
        b'{"signal":"HUP"}\n',
        b'{"start":{"argv":[]}}\n',
        b'{"start":7}\n',
        b'{"start":{"argv":["a\\u0000b"],"env":{"A":1}}}\n',
        b'{"hello":1}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
    ids=range(11),
)
def test_garbage_ends_the_connection_and_not_the_agent(agent: Agent, data: bytes) -> None:
    other = agent.connect()
    other.start("cat")
    host = agent.connect()
    host.send_raw(data)
    assert host.until("error")["error"] == "protocol"
    assert host.read() == {}
    other.send({"id": "a", "in": {"still": "here"}})
    assert other.until("out")["out"] == {"still": "here"}


def test_frames_before_a_hello_are_refused(agent: Agent) -> None:
    for frame in ({"start": {"argv": ["cat"]}}, {"id": "a", "in": {}}, {"shutdown": True}):
        host = agent.connect(hello=False)
        host.send(frame)
        assert host.read()["error"] == "protocol"
        assert host.read() == {}


def test_another_version_is_refused_by_name(agent: Agent) -> None:
    host = agent.connect(hello=False)
    host.send({"hello": 2})
    refusal = host.read()
    assert refusal["error"] == "version"
    assert "speaks version 1" in refusal["message"]


def test_a_frame_of_a_newer_host_is_passed_over(agent: Agent) -> None:
    host = agent.connect()
    host.send({"novelty": 1}, {"status": True})
    assert "status" in host.read()


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ({"argv": ["/nowhere/claude"]}, "No such file"),
        ({"argv": ["/etc/passwd"]}, "Permission denied"),
        ({"argv": ["cat"], "cwd": "/nowhere"}, "/nowhere"),
    ],
)
def test_what_cannot_be_started(agent: Agent, start: dict[str, object], reason: str) -> None:
    host = agent.connect()
    host.send({"start": start})
    refusal = host.read()
    assert refusal["error"] == "start"
    assert reason in refusal["message"]
    host.send({"id": "a", "in": {}})
    assert host.read()["error"] == "not_running"


def test_environment_and_directory(agent: Agent, tmp_path: Path) -> None:
    host = agent.connect()
    host.start("sh", "-c", 'echo "$SECRET $PWD"', env={"SECRET": "x y"}, cwd=str(tmp_path))
    assert host.until("out")["out"] == f"x y {tmp_path}"
    assert "x y" not in (agent.directory / "log").read_text()


def test_nothing_of_ours_is_inherited(agent: Agent) -> None:
    host = agent.connect()
    host.start("sh", "-c", "ls /proc/self/fd | wc -l")
    assert int(host.until("out")["out"]) <= 4  # 0, 1, 2, and the directory that ls reads


@pytest.mark.parametrize(("name", "code"), [("INT", -2), ("TERM", -15), ("KILL", -9)])
def test_signals(agent: Agent, name: str, code: int) -> None:
    host = agent.connect()
    host.start(
        sys.executable, "-c", "import signal; signal.signal(2, signal.SIG_DFL); print(1, flush=True); signal.pause()"
    )
    host.until("out")
    host.send({"signal": name})
    assert host.until("exit")["exit"] == code


def test_a_second_start_does_nothing_and_one_after_the_end_starts_anew(agent: Agent) -> None:
    host = agent.connect()
    first = host.start("cat")["started"]
    host.send({"start": {"argv": ["cat"]}}, {"status": True})
    assert host.until("status")["status"]["pid"] == first
    host.send({"signal": "KILL"})
    host.until("exit")
    assert host.start("cat")["started"] != first


def test_what_claude_started_ends_with_it(agent: Agent) -> None:
    host = agent.connect()
    host.start("sh", "-c", "sleep 300 & echo $!; read x")
    child = os.pidfd_open(int(host.until("out")["out"]))
    host.send({"id": "a", "in": {}})
    host.until("exit")
    assert ends(child)


def test_what_outlives_claude_and_writes_for_ever_does_not_keep_the_agent_busy(make_agent: MakeAgent) -> None:
    """Three writers in groups of their own: they survive what the agent can kill, and hold its pipes."""
    agent = make_agent("--journal-limit", str(1024 * 1024))
    host = agent.connect()
    os.mkfifo(agent.directory / "go")
    go = os.open(agent.directory / "go", os.O_RDWR)
    writer = f"setsid sh -c 'echo $$ >&2; read x <{agent.directory}/go; exec yes' &"
    host.start("sh", "-c", f"{writer * 3} read x")
    pids = [int(host.until("err")["err"]) for _ in range(3)]
    writers = [os.pidfd_open(pid) for pid in pids]
    try:
        os.write(go, b"\n" * 3)
        host.send({"signal": "TERM"})
        assert host.until("exit")["exit"] == -signal.SIGTERM
        host.start("cat")
        assert sum(path.stat().st_size for path in agent.directory.glob("**/*.log")) < 8 * 1024 * 1024
    finally:
        os.close(go)
        for writer in writers:
            assert ends(writer), "its output is read by nobody, so it ends"


def test_sessions_are_apart(agent: Agent) -> None:
    one, two = agent.connect("one"), agent.connect("two")
    one.start("sh", "-c", "echo 1; read x")
    two.start("sh", "-c", "echo 2; read x")
    assert one.until("out")["out"] == "1"
    assert two.until("out")["out"] == "2"


def test_everybody_hears_the_same(agent: Agent) -> None:
    one = agent.connect()
    one.start("cat")
    two = agent.connect()
    one.send({"id": "a", "in": {"n": 1}})
    assert one.until("out") == two.until("out")


def test_long_lines_both_ways(agent: Agent) -> None:
    host = agent.connect()
    host.start("cat")
    text = "x" * 10_000_000
    host.send({"id": "a", "in": {"text": text}})
    assert host.until("out")["out"]["text"] == text


def test_a_line_of_64_mib(agent: Agent) -> None:
    host = agent.connect()
    size = 64 * 1024 * 1024 - 100
    program = f"import sys; sys.stdout.write('{{\"text\":\"' + 'x' * {size} + '\"}}\\n')"
    host.start(sys.executable, "-c", program)
    assert len(host.until("out")["out"]["text"]) == size


def test_a_line_without_an_end_ends_the_process_and_not_the_agent(agent: Agent) -> None:
    host = agent.connect()
    host.start("sh", "-c", "cat /dev/zero | tr '\\0' x")
    assert "refused the output" in host.until("err")["err"]
    assert "exit" in host.until("exit")
    host.start("cat")


def resident(pid: int) -> int:
    """Bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def test_a_reader_that_stops_is_back_pressure_and_loses_nothing(agent: Agent) -> None:
    """covers: R2"""
    host = agent.connect()
    count, before = 200_000, resident(agent.process.pid)
    program = f'for n in range({count}): print(\'{{"n":%d,"pad":"%s"}}\' % (n, \'x\' * 200))'
    host.start(sys.executable, "-c", program)
    watcher = agent.connect("another")
    watcher.send({"status": True})  # answered while the first is clogged: the agent is not stuck
    watcher.until("status")
    first = host.until("out")["out"]["n"]
    assert resident(agent.process.pid) - before < 30_000_000, "it keeps in memory what nobody reads"
    numbers = [first] + [host.until("out")["out"]["n"] for _ in range(count - 1)]
    assert numbers == list(range(count))


def test_a_laggard_does_not_stall_who_keeps_up(agent: Agent) -> None:
    host, laggard = agent.connect(), agent.connect()
    host.start(sys.executable, "-c", 'for n in range(30000): print(\'{"n":%d,"pad":"%s"}\' % (n, \'x\' * 400))')
    numbers = [host.until("out")["out"]["n"] for _ in range(30000)]
    assert numbers == list(range(30000))
    assert [laggard.until("out")["out"]["n"] for _ in range(30000)] == numbers, "it lost something"
    assert resident(agent.process.pid) < 40_000_000


def test_a_program_that_does_not_read_holds_up_no_one_else(agent: Agent) -> None:
    host = agent.connect()
    host.start("sleep", "300")
    host._socket.settimeout(0.5)
    with pytest.raises(TimeoutError):  # the pipe, the agent's limit and the socket are full: back-pressure
        for number in range(1000):
            host.send({"id": f"c-{number}", "in": {"pad": "x" * 100_000}})
    other = agent.connect("other")
    assert other.hello["state"] == "new"
    assert resident(agent.process.pid) < 60_000_000


def test_sigterm_ends_claude_in_order_and_then_the_agent(agent: Agent) -> None:
    host = agent.connect()
    program = "; ".join(
        [
            "import signal, sys",
            "signal.signal(2, lambda *_: (print('saved', flush=True), sys.exit(0)))",
            "print(1, flush=True)",
            "signal.pause()",
        ]
    )
    host.start(sys.executable, "-c", program)
    host.until("out")
    agent.process.send_signal(signal.SIGTERM)
    assert host.until("out")["out"] == "saved"
    exited = host.until("exit")
    assert (exited["exit"], exited["stopped"]) == (0, True), "whose turn had not begun is told from one that failed"
    assert agent.process.wait(10) == 0
    assert not Path(agent.socket_path).exists()


def test_sigterm_kills_what_does_not_end_within_the_grace_time(make_agent: MakeAgent) -> None:
    agent = make_agent("--grace", "0.2")
    host = agent.connect()
    ignore = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; print(1, flush=True); signal.pause()"
    host.start(sys.executable, "-c", ignore)
    host.until("out")
    assert agent.end() == 0
    assert host.until("exit")["exit"] == -9


def test_claude_does_not_outlive_a_killed_agent(agent: Agent) -> None:
    host = agent.connect()
    pid = host.start("cat")["started"]
    claude = os.pidfd_open(pid)
    agent.process.kill()
    assert ends(claude), "it lives on, out of reach"


def test_linger(make_agent: MakeAgent) -> None:
    agent = make_agent("--linger", "0.3")
    host = agent.connect()
    host.start("cat")
    host.close()
    agent.connections.clear()
    assert agent.process.wait(10) == 0


def test_who_only_looks_keeps_no_agent_alive(make_agent: MakeAgent) -> None:
    """Nor is it counted or logged."""
    agent = make_agent("--linger", "0.3")
    host = agent.connect(host="a host")
    looker = agent.connect(look=True, host="a looker")
    looker.send({"status": True})
    assert looker.read()["now"]["hosts"] == ["a host"]
    host.send({"status": True})
    assert host.read()["now"]["hosts"] == []
    host.close()
    assert looker.read() == {}, "the agent ends while somebody looks"
    looker.close()
    agent.connections.clear()
    assert agent.process.wait(10) == 0
    assert [line["event"] for line in agent.log()].count("client_attached") == 1


def test_shutdown(agent: Agent) -> None:
    host = agent.connect()
    host.start("cat")
    host.send({"shutdown": True})
    while host.read():
        pass
    assert agent.process.wait(10) == 0


def test_one_agent_at_a_place(agent: Agent) -> None:
    assert agent.run("serve").returncode == 4
    agent.process.kill()
    agent.process.wait()
    done = agent.run("serve", "--linger", "0")  # what a killed one leaves is no hindrance
    assert done.returncode == 0, done.stderr


def test_attach(agent: Agent) -> None:
    frames = b'{"hello":1}\n{"start":{"argv":["cat"]}}\n{"id":"a","in":{"n":1}}\n'
    argv = [agent.interpreter, "-IS", archive_for(agent.interpreter), "attach", "--socket", agent.socket_path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(frames)
        process.stdin.flush()
        said = [json.loads(process.stdout.readline()) for _ in range(4)]
        assert said[-1]["out"] == {"n": 1}
        process.stdin.close()
        assert process.wait(10) == 0, "it ends with its input"


def test_attach_ends_with_the_agent(agent: Agent) -> None:
    argv = [agent.interpreter, "-IS", archive_for(agent.interpreter), "attach", "--socket", agent.socket_path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b'{"hello":1}\n')
        process.stdin.flush()
        process.stdout.readline()
        agent.process.kill()
        assert process.wait(10) == 0


def test_attach_and_health_where_nobody_serves(agent: Agent) -> None:
    assert agent.run("health").returncode == 0
    agent.end()
    attached = agent.run("attach", input="")
    assert attached.returncode == 3
    assert "no agent serves" in attached.stderr
    unhealthy = agent.run("health")
    assert unhealthy.returncode == 1
    assert "does not answer" in unhealthy.stdout


def test_the_log_is_json_and_says_what_happened(agent: Agent) -> None:
    host = agent.connect()
    host.start("cat")
    agent.end()
    events = [line["event"] for line in agent.log()]
    assert events == [
        "listening",
        "client_attached",
        "claude_started",
        "stopping",
        "claude_exited",
        "client_gone",
        "stopped",
    ]


def test_pipes_that_cannot_be_used_leave_the_socket(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent("--pipes", str(tmp_path / "nowhere"), pipes=False)
    assert agent.log()[0]["event"] == "pipes_unusable"
    assert agent.connect().hello["hello"] == 1


@pytest.mark.parametrize("name", ["../../etc/passwd", "x" * 300, "", "é", "nobody"])
def test_rendezvous_with_nonsense(agent: Agent, name: str) -> None:
    listen = os.open(agent.directory / "pipes" / "listen", os.O_WRONLY | os.O_NONBLOCK)
    os.write(listen, name.encode() + b"\n")
    os.close(listen)
    assert agent.connect().hello["hello"] == 1
    assert agent.process.poll() is None


def test_rendezvous_with_files_and_links(agent: Agent) -> None:
    """covers: B2"""
    pipes = agent.directory / "pipes"
    (pipes / "plain.in").write_text("")
    (pipes / "plain.out").write_text("")
    (pipes / "linked.in").symlink_to("/etc/passwd")
    os.mkfifo(pipes / "linked.out")
    listen = os.open(pipes / "listen", os.O_WRONLY | os.O_NONBLOCK)
    os.write(listen, b"plain\nlinked\n")
    os.close(listen)
    agent.connect()
    agent.connect()
    refused = [line for line in agent.log() if line["event"] == "rendezvous_failed"]
    assert [line["id"] for line in refused] == ["plain", "linked"]
    assert (pipes / "plain.out").read_text() == ""


@pytest.mark.long
def test_hundreds_of_thousands_of_requests_to_connect(agent: Agent) -> None:
    """Anybody in the container may write to ``listen``."""
    host = agent.connect()
    host.start("cat")
    before, lines = resident(agent.process.pid), b"nobody\n" * 1000
    listen = os.open(agent.directory / "pipes" / "listen", os.O_WRONLY)
    for _ in range(300):
        os.write(listen, lines[: len(lines) // 7 * 7])
    os.close(listen)
    host.send({"id": "a", "in": {"still": "here"}})
    assert host.until("out")["out"] == {"still": "here"}
    assert resident(agent.process.pid) - before < 5_000_000
    assert len(agent.log()) < 50, "it fills the disk with its log"


def test_more_connections_than_it_takes(agent: Agent) -> None:
    first = agent.connect()
    first.start("cat")
    refused = 0
    for _ in range(300):
        connection = agent.connect(hello=False)
        try:
            connection.send({"hello": 1})
            refused += connection.read() == {}
        except OSError:
            refused += 1
    assert 90 < refused < 120
    first.send({"id": "a", "in": {"still": "here"}})
    assert first.until("out")["out"] == {"still": "here"}


def test_idle_it_sleeps(agent: Agent) -> None:
    """covers: B3"""
    host = agent.connect()
    host.start("cat")
    host.send({"status": True})
    host.until("status")
    status = Path(f"/proc/{agent.process.pid}/status")

    def switches() -> int:
        return sum(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("voluntary"))

    # Two waits for what will not come: one for the agent to fall asleep, one that is measured.
    assert select.select([host._socket], [], [], 0.3)[0] == []
    before = switches()
    assert select.select([host._socket], [], [], 1.0)[0] == []
    assert switches() == before


def test_memory_is_small(agent: Agent) -> None:
    host = agent.connect()
    host.start("cat")
    assert resident(agent.process.pid) < 20 * 1024 * 1024
