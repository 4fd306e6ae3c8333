"""What a person sees of instances that run, whoever has begun what they do. covers: G10"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel
from tests.command import COMMAND, PROMPTED, Terminal, cc

TOOL = '[[tool Bash {"command": "touch made", "description": "make"}]] [[say done]]'


@pytest.fixture
def model_options(scripted_model: ScriptedModel, workspace: Path, claude: str) -> list[str]:
    home = workspace / "home"
    home.mkdir()
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env(home).items()]
    return ["--on=local", f"--workspace={workspace}", *env]


@pytest.fixture
def name(model_options: list[str]) -> Iterator[str]:
    """An instance that runs."""
    chosen = f"seen-{uuid.uuid4().hex[:8]}"
    done = cc("up", chosen, *model_options)
    assert done.returncode == 0, done.stderr
    yield chosen
    cc("rm", "--force", "--conversation", *[name for name in [chosen] if name in Registry().names()])


@contextmanager
def sending(name: str, prompt: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """A command that another program has sent, and which has said so much."""
    argv = [*COMMAND, "send", name, prompt]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.read(len(until)) == until
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def chatting(name: str, prompt: str, until: str) -> Iterator[Terminal]:
    """A person who is asked for a permission."""
    with Terminal([*COMMAND, "chat", name]) as person:
        person.wait_for("Ctrl-D leaves")
        person.wait_for(PROMPTED)
        person.type(f"{prompt}\r")
        person.wait_for(until)
        yield person
        person.type("\x04")
        assert person.end() == 0


def seen(name: str) -> dict[str, Any]:
    (row,) = [row for row in json.loads(cc("ps", "--json").stdout) if row["name"] == name]
    assert isinstance(row, dict)
    return row


def running_turn(name: str) -> str:
    (turn,) = [turn for turn in json.loads(cc("turns", name, "--json").stdout) if turn["state"] == "running"]
    return str(turn["id"])


def test_a_stuck_instance_is_seen(name: str) -> None:
    """Idle, busy with what waits for it, and stopped; whose turn, since when, and who is there."""
    idle = seen(name)
    assert (idle["activity"], idle["turn"], idle["waiting"], idle["connected"]) == ("idle", None, 0, [])
    assert idle["last_activity"]
    with sending(name, "[[say so far]] [[hang]]", "so far"):
        busy = seen(name)
        assert (busy["activity"], busy["channel"], len(busy["connected"])) == ("busy", "pipes", 1)
        assert busy["turn"] == running_turn(name)
        assert busy["turn_since"] >= busy["created"]
        argv = [*COMMAND, "send", name, "[[say two]]"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr
            while "waits for 1 other" not in second.stderr.readline():
                pass
            assert seen(name)["waiting"] == 1
            assert ", 1 waiting" in cc("ps").stdout
            info = json.loads(cc("info", name, "--json").stdout)
            assert (info["activity"], info["waiting"], len(info["connected"])) == ("busy", 1, 2)
            states = [turn["state"] for turn in json.loads(cc("turns", name, "--json").stdout)]
            assert states == ["running", "waiting"]
            assert cc("interrupt", name).stdout == f"{busy['turn']}\n"
            assert second.communicate(timeout=30)[0] == "two\n"
    assert cc("stop", name).returncode == 0
    stopped = seen(name)
    assert (stopped["status"], stopped["activity"], stopped["channel"]) == ("stopped", None, None)
    assert json.loads(cc("info", name, "--json").stdout)["running"] is False, "looking has started it"


def test_whoever_waits_for_a_permission_is_seen(name: str) -> None:
    with chatting(name, TOOL, "why not?") as person:
        asking = seen(name)
        assert (asking["activity"], asking["asks"]) == ("permission", "Bash")
        assert re_found("asks to use Bash, turn begun .* ago", cc("ps").stdout)
        following = subprocess.Popen(
            [*COMMAND, "follow", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with following:
            assert following.stderr
            while "waits for a decision on Bash" not in following.stderr.readline():
                pass
            person.type("y\r")
            person.wait_for("done")
            person.wait_for(PROMPTED)
            assert following.communicate(timeout=30)[0] == "done\n", "who looks has decided"
        assert seen(name)["activity"] == "idle"


def re_found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def test_turns_follow_and_interrupt(name: str) -> None:
    assert cc("send", name, "[[say one]] of a\nprompt").stdout == "one\n"
    nothing = cc("follow", name)
    assert (nothing.returncode, "no turn runs" in nothing.stderr) == (2, True)
    idle = cc("interrupt", name)
    assert (idle.returncode, idle.stdout, "no turn runs" in idle.stderr) == (0, "", True)
    (ended,) = json.loads(cc("turns", name, "--json").stdout)
    assert (ended["state"], ended["read"], ended["prompt"]) == ("ended", True, "[[say one]] of a\nprompt")
    assert re_found(rf"{ended['id']} +ended +.* ago +\[\[say one\]\] of a prompt", cc("turns", name).stdout)
    assert cc("follow", name, ended["id"]).stdout == "one\n"
    assert json.loads(cc("interrupt", name, ended["id"], "--json").stdout) == {"interrupted": None}
    assert "has ended" in cc("interrupt", name, ended["id"]).stderr
    unknown = cc("follow", name, str(uuid.uuid4()))
    assert (unknown.returncode, "Traceback" in unknown.stderr) == (1, False)
    with sending(name, "[[say so far]] [[hang]]", "so far") as sender:
        turn = running_turn(name)
        argv = [*COMMAND, "follow", name, "--json"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
            assert following.stdout
            assert json.loads(following.stdout.readline())["type"] == "TurnStarted"
            assert json.loads(cc("interrupt", name, turn, "--json").stdout) == {"interrupted": turn}
            rest = [json.loads(line) for line in following.communicate(timeout=30)[0].splitlines()]
            assert (rest[-1]["type"], rest[-1]["verdict"]) == ("TurnResult", "interrupted")
            assert following.returncode == 1
        assert sender.wait(30) == 1
    cc("stop", name)
    for verb in ("follow", "interrupt"):
        refused = cc(verb, name)
        assert (refused.returncode, "does not run" in refused.stderr) == (5, True)
    later = cc("turns", name)
    assert "[[say one]] of a prompt" in later.stdout
    assert json.loads(cc("info", name, "--json").stdout)["running"] is False, "looking has started it"


def test_history(name: str) -> None:
    """Readable and harmless; also of an instance that does not run."""
    none = cc("history", name)
    assert (none.returncode, "no conversation yet" in none.stderr) == (2, True)
    cc("send", name, "[[say an \x1b]0;evil\x07 answer]]")
    cc("send", name, TOOL)
    cc("stop", name)
    said = [json.loads(line) for line in cc("history", name, "--json").stdout.splitlines()]
    assert [item["kind"] for item in said] == ["prompt", "answer", "prompt", "tool", "result", "answer"]
    assert (said[3]["text"], said[3]["input"]["command"], said[4]["is_error"]) == ("Bash", "touch made", True)
    shown = cc("history", name).stdout
    assert "> [[say an ␛]0;evil␇ answer]]" in shown
    assert "\x1b" not in shown
    assert '· Bash {"command": "touch made"' in shown
    assert cc("history", name, "-n", "1").stdout == "done\n\n"
    assert json.loads(cc("info", name, "--json").stdout)["running"] is False, "looking has started it"


@pytest.mark.parametrize("verb", ["history", "turns"])
def test_who_does_not_read_what_was_said_can_end_it_all_the_same(name: str, verb: str, workspace: Path) -> None:
    """A pager that shows its first page, say."""
    cc("send", name, "[[say hello]]")
    cc("stop", name)
    (transcript,) = workspace.glob("home/.claude/projects/*/*.jsonl")
    with open(transcript, "a") as file:
        for number in range(5000):
            line = {"type": "user", "uuid": str(number), "message": {"role": "user", "content": "x" * 100}}
            file.write(json.dumps(line) + "\n")
    with subprocess.Popen([*COMMAND, verb, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as shown:
        assert shown.stdout
        shown.stdout.read(1)
        shown.terminate()
        assert shown.wait(30) == 128 + signal.SIGTERM


def test_ps_in_a_format_of_ones_own(name: str) -> None:
    line = f"{name}\tlocal idle"
    assert line in cc("ps", "-a", "--format", "{name}\\t{kind} {activity}").stdout.splitlines()
    assert name in cc("ps", "--format", "{{.Names}}", "--filter=activity=idle").stdout.splitlines()
    assert cc("ps", "--format", "{colour}").returncode == 2


def test_send_on_a_terminal_asks(name: str, workspace: Path) -> None:
    denied = cc("send", name, TOOL)
    assert f"`cc-bridge update {name} --allowed-tools Bash`" in denied.stderr
    with Terminal([*COMMAND, "send", name, TOOL]) as person:
        person.wait_for("wants to use Bash")
        person.wait_for("why not?")
        person.type("y\r")
        person.wait_for("done")
        assert person.end() == 0
    assert (workspace / "made").exists()


def test_ctrl_c_decides_nothing(name: str, workspace: Path) -> None:
    """Where a person follows, the turn goes on and can be decided; where they have sent it, it is interrupted."""
    with chatting(name, TOOL, "why not?") as person:
        with Terminal([*COMMAND, "follow", "--ask", name]) as other:
            other.wait_for("why not?")
            other.type("\x03")
            assert other.end() == 130
        person.type("y\r")
        person.wait_for("done")
        person.wait_for(PROMPTED)
    with Terminal([*COMMAND, "send", name, TOOL]) as person:
        person.wait_for("why not?")
        person.type("\x03")
        assert person.end() == 130
    assert seen(name)["activity"] == "idle"


def test_run_on_a_terminal_asks(model_options: list[str], workspace: Path) -> None:
    denied = cc("run", TOOL, *model_options)
    assert "--allowed-tools Bash allows it" in denied.stderr
    with Terminal([*COMMAND, "run", TOOL, *model_options]) as person:
        person.wait_for("why not?")
        person.type("y\r")
        person.wait_for("done")
        assert person.end() == 0
    assert (workspace / "made").exists()


def test_one_that_does_not_answer_does_not_hold_up_ps(name: str) -> None:
    """An agent that is stopped (SIGSTOP), as on a machine that swaps."""
    info = json.loads((cc("info", name, "--json")).stdout)
    assert info["running"]
    listening = [json.loads(line) for line in Registry().home(name).agent_log.read_text().splitlines()]
    (pid,) = [line["pid"] for line in listening if line["event"] == "listening"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert seen(name)["activity"] is None
    finally:
        os.kill(pid, signal.SIGCONT)


def checks(name: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = cc("doctor", name, "--json")
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}


def test_doctor_of_one_instance(name: str, workspace: Path) -> None:
    code, found = checks(name)
    assert (code, {check["state"] for check in found.values()}) == (0, {"ok", "note"}), found
    assert found["activity"]["found"].startswith("idle")
    assert cc("doctor", "no-such").returncode == 2
    cc("stop", name)
    code, found = checks(name)
    assert (code, found["process"]["state"]) == (0, "note")
    moved = workspace.rename(workspace.with_name("moved"))
    code, found = checks(name)
    assert (code, found["workspace"]["state"]) == (1, "fail")
    assert "No such file" in cc("doctor", name).stdout
    moved.rename(workspace)
    record = Registry().home(name).path / "record.json"
    text = record.read_text()
    record.write_text("{}")
    assert checks(name)[0] == 1
    record.write_text(text)


def test_doctor_finds_a_permission_that_nobody_decides(name: str) -> None:
    """Who was asked was killed; another one can be."""
    argv = [*COMMAND, "chat", name]
    with Terminal(argv) as person:
        person.wait_for("Ctrl-D leaves")
        person.wait_for(PROMPTED)
        person.type(f"{TOOL}\r")
        person.wait_for("why not?")
        os.kill(person.pid, signal.SIGKILL)
        person.end()
    argv = [*COMMAND, "follow", name]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as following:
        assert following.stderr
        while "waits for a decision on Bash" not in following.stderr.readline():
            pass
        code, found = checks(name)  # who only follows cannot decide
        following.kill()
    assert (code, found["activity"]["state"]) == (1, "fail")
    assert f"cc-bridge follow --ask {name}" in found["activity"]["advice"]
    assert cc("follow", "--ask", name).returncode == 2, "there is no terminal"
    with Terminal([*COMMAND, "follow", "--ask", name]) as other:
        other.wait_for("why not?")
        other.type("y\r")
        other.wait_for("done")
        assert other.end() == 0


def test_logs_are_readable(name: str) -> None:
    """With the turns' ids, on stdout, and never what was said."""
    cc("send", name, "[[say a secret]]")
    (turn,) = json.loads(cc("turns", name, "--json").stdout)
    lines = cc("logs", name).stdout.splitlines()
    assert re.match(r"[\d-]{10} [\d:]{8}  listening  pid=\d+ version=", lines[0])
    assert any(line.endswith(f"turn began  turn={turn['id']}") for line in lines)
    assert "secret" not in "".join(lines)
    assert json.loads(cc("logs", "--json", name, "-n", "1").stdout)["event"] == "client_gone"
    assert re.match(r"[\d-]{10}T[\d:.]{12}\+00:00  ", cc("logs", "-t", name).stdout)
    assert cc("logs", "--since=0s", name).stdout == ""
    assert cc("logs", "--since=1h", name).stdout.splitlines()[: len(lines)] == lines


def test_logs_are_followed_to_the_end(name: str) -> None:
    with subprocess.Popen([*COMMAND, "logs", "-f", name], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert "listening" in following.stdout.readline()
        cc("send", name, "[[say hello]]")
        while "turn began" not in following.stdout.readline():
            pass
        cc("stop", name)
        rest = following.communicate(timeout=30)[0]
        assert rest.endswith("  stopped\n")
        assert following.returncode == 0


def test_logs_are_followed_to_the_death_of_an_agent_that_is_killed(name: str) -> None:
    """Which leaves no last word."""
    with subprocess.Popen([*COMMAND, "logs", "-f", name], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        pid = re.search(r"listening  pid=(\d+)", following.stdout.readline())
        assert pid
        os.kill(int(pid[1]), signal.SIGKILL)
        following.communicate(timeout=30)
        assert following.returncode == 0
    assert "listening" in cc("logs", "-f", name).stdout, "nor does a dead one keep anybody waiting"


def test_an_instance_whose_record_is_broken_ends_when_it_is_removed(name: str) -> None:
    home = Registry().home(name)
    (home.path / "record.json").write_text("{}")
    listening = os.open(home.pipes / "listen", os.O_WRONLY)
    removed = cc("rm", "--force", "--conversation", name)
    assert (removed.returncode, removed.stdout) == (0, f"{name}\n")
    poll = select.poll()
    poll.register(listening, 0)
    assert poll.poll(20_000) == [(listening, select.POLLERR)], "its agent has ended"
    os.close(listening)


def test_logs_end_quietly_when_their_reader_goes(name: str) -> None:
    """Also where nothing more is written."""
    argv = [*COMMAND, "logs", "-f", name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert following.stderr
        following.stdout.readline()
        following.stdout.close()
        assert following.wait(30) == 141
        assert following.stderr.read() == ""
