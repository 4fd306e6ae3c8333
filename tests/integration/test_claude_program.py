"""`cc-bridge claude`: a program in Claude Code's place. covers: B19"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ResultMessage, query

from cc_bridge import ClaudeOptions, DockerContainer, LocalProcess, instances
from cc_bridge import open as open_instance
from cc_bridge.bridge.piped import PipedSession, Stopped
from cc_bridge.instances.outline import Outline
from cc_bridge.instances.registry import Registry
from cc_bridge.instances.way_out import ask_proxy
from cc_bridge.protocol.link import Exited
from cc_bridge.protocol.raw import Start
from cc_bridge.testing import ScriptedModel
from tests.command import COMMAND, Terminal

pytestmark = pytest.mark.anyio

#: In Claude Code's place: says what it got, as bytes.
PROGRAM = f"""#!{sys.executable}
import json, os, signal, sys
mine = {{name: os.environ.get(name) for name in ("CLAUDE_CODE_MINE", "NOT_MINE", "CLAUDECODE")}}
sys.stderr.buffer.write(json.dumps([sys.argv[1:], os.getcwd(), mine]).encode() + b"\\n")
sys.stderr.flush()
if "wait" in sys.argv:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(42))
    print("waits", flush=True)
    signal.pause()
if "die" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
data = sys.stdin.buffer.read()
sys.stdout.buffer.write(data[::-1])
sys.stdout.flush()
sys.exit(7)
"""


@pytest.fixture
async def instance(make_record: Any, tmp_path: Path) -> AsyncIterator[LocalProcess]:
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    made = LocalProcess(make_record(claude=ClaudeOptions(program=str(program))))
    yield made
    await made.cleanup()


async def begun(instance: Any) -> Any:
    """Its agent runs, and its record is kept; Claude Code of its own has not been started."""
    session = await instance.beside.run([], {})
    await session.aclose()
    return instance


async def claude(*words: str, data: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    with anyio.fail_after(60):
        return await anyio.run_process([*COMMAND, "claude", *words], input=data, check=False, **options)


async def test_bytes_words_and_the_code_are_the_same(instance: LocalProcess) -> None:
    await begun(instance)
    data = bytes(range(256)) * 10_000 + b"\n\n\r\n"
    env = {**os.environ, "CLAUDE_CODE_MINE": "1", "NOT_MINE": "1", "CLAUDECODE": "1"}
    done = await claude(
        "--instance", instance.name, "--", "-p", "a b", "", data=data, cwd=instance.record.workspace, env=env
    )
    assert (done.returncode, done.stdout) == (7, data[::-1])
    words, cwd, variables = json.loads(done.stderr)
    assert (words, cwd) == (["-p", "a b", ""], str(instance.record.workspace))
    assert variables == {"CLAUDE_CODE_MINE": "1", "NOT_MINE": None, "CLAUDECODE": None}


async def test_the_directory_says_which_instance(instance: LocalProcess) -> None:
    await begun(instance)
    below = Path(instance.record.workspace or "") / "below"
    below.mkdir()
    done = await claude("-p", data=b"x", cwd=below)
    assert (done.returncode, done.stdout, json.loads(done.stderr)[1]) == (7, b"x", str(below))
    none = await claude("-p", cwd="/")
    assert none.returncode == 2
    assert b"no instance has / in its workspace" in none.stderr


async def test_signals_and_an_end_by_one(instance: LocalProcess) -> None:
    await begun(instance)
    env = {**os.environ, "CC_BRIDGE_INSTANCE": instance.name}
    async with await anyio.open_process([*COMMAND, "claude", "wait"], env=env, stdin=subprocess.PIPE) as process:
        assert process.stdout
        with anyio.fail_after(60):
            assert await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 99) == b"waits"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 42
    died = await claude("die", env=env)
    assert died.returncode == -signal.SIGKILL


async def test_what_it_reads_slowly_or_not_at_all_is_no_harm(instance: LocalProcess) -> None:
    await begun(instance)
    env = {**os.environ, "CC_BRIDGE_INSTANCE": instance.name}
    argv = [*COMMAND, "claude", "-p"]
    with (
        open("/dev/zero", "rb") as zeros,
        subprocess.Popen(argv, env=env, stdin=zeros, stdout=subprocess.PIPE) as process,
    ):
        process.send_signal(signal.SIGTERM)
        await anyio.to_thread.run_sync(process.wait)
    done = await claude("-p", env=env, data=b"")
    assert (done.returncode, done.stdout) == (7, b"")


async def test_a_connection_that_is_lost_is_gone_on_with_elsewhere(instance: LocalProcess) -> None:
    """Nothing is lost or doubled where the quick way ends and the other one begins."""
    await begun(instance)
    outline = Outline.load(instance.name)
    assert outline
    start = Start.of([outline.program], outline.claude_env({}), str(instance.record.workspace))
    piped = PipedSession.connect(str(outline.directory / "pipes"), start)
    assert piped
    piped.streams.write(b"abc")
    piped.streams.end_input()
    read, write = os.pipe()
    os.close(write)
    os.dup2(read, piped._incoming)  # as if the agent had closed it
    os.close(read)
    arrivals, arrived = os.pipe()
    assert piped.copy(arrivals, lambda data, streams: None, standard=(arrivals, 1, 2)) is Stopped.LOST
    os.close(arrivals)
    os.close(arrived)
    session = instance.beside.go_on(piped.streams, piped.name, piped.position)
    with anyio.fail_after(60):
        came = [await session.receive(), await session.receive()]
    assert sorted(item.stream for item in came if item) == ["stderr", "stdout"]
    assert [item.data for item in came if item and item.stream == "stdout"] == [b"cba"]
    assert session.exited or await session.receive() is None
    assert session.exited == Exited(7)
    await session.aclose()


#: Loses its connection when something was written, and gets a signal before it goes on.
_LOSES = """
import os, signal, sys
from cc_bridge.bridge.piped import PipedSession
from cc_bridge.cli import claude, claude_copying
write, go_on = PipedSession._write, claude_copying.go_on
def write_and_lose(self, fd, bulk):
    done = write(self, fd, bulk)
    self._lost = self._lost or fd == 1
    return done
def hear_and_go_on(*args, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return go_on(*args, **options)
PipedSession._write, claude_copying.go_on = write_and_lose, hear_and_go_on
claude.run(sys.argv[1:])
"""


async def test_a_signal_while_a_connection_is_lost_is_passed_on(instance: LocalProcess) -> None:
    await begun(instance)
    argv = [sys.executable, "-c", _LOSES, "--instance", instance.name, "--", "-p", "wait"]
    with anyio.fail_after(60):
        done = await anyio.run_process(argv, check=False, cwd=instance.record.workspace)
    assert (done.returncode, done.stdout) == (42, b"waits\n")


@pytest.fixture
async def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """One that no instance has, and Claude Code's program; what is made for it goes with it."""
    program, made = tmp_path / "program", tmp_path / "fresh"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    made.mkdir()
    monkeypatch.setenv("CC_BRIDGE_CLAUDE", str(program))
    yield made
    for name in instances():
        instance = open_instance(name)
        if instance.record.workspace == made:
            await instance.remove()
        await instance.release()


async def test_an_instance_is_made_where_a_directory_has_none(directory: Path) -> None:
    """Also where two want it at once; and what is there is taken as it is."""
    words = ["--on", "local", "--model", "m", "--", "-p"]
    first = dict.fromkeys(range(2), b"")

    async def start(number: int) -> None:
        done = await claude(*words, data=b"ab", cwd=directory)
        assert (done.returncode, json.loads(done.stderr)[0]) == (7, ["-p"]), done.stderr
        first[number] = done.stdout

    async with anyio.create_task_group() as group:
        for number in first:
            group.start_soon(start, number)
    assert list(first.values()) == [b"ba", b"ba"]
    made = [outline for outline in Outline.all() if outline.workspace == directory]
    assert len(made) == 1
    assert Registry().load(made[0].name).claude.model == "m"
    again = await claude("-p", data=b"cd", cwd=directory)
    assert (again.returncode, again.stdout) == (7, b"dc")


async def test_a_template_says_what_is_made(directory: Path, tmp_path: Path) -> None:
    """Of a file that is trusted: one in the directory is not before somebody has looked at it."""
    text = '[templates.claude]\nkind = "local"\nclaude = { model = "t" }\n'
    (directory / "cc-bridge.toml").write_text(text)
    refused = await claude("-p", cwd=directory)
    assert (refused.returncode, Outline.nearest(str(directory))) == (2, None)
    assert b"was not looked at" in refused.stderr
    config = tmp_path / "other.toml"
    config.write_text(text)
    env = {**os.environ, "CC_BRIDGE_CONFIG": str(config), "CC_BRIDGE_UP": "--append-system-prompt 'a b'"}
    done = await claude("-p", data=b"ab", cwd=directory, env=env)
    assert (done.returncode, done.stdout) == (7, b"ba"), done.stderr
    outline = Outline.nearest(str(directory))
    assert outline
    made = Registry().load(outline.name)
    assert (made.kind, made.claude.model, made.claude.append_system_prompt) == ("local", "t", "a b")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "tmux", "--"], b"it would be a pane"),
        (["--sideways", "--"], b"No such option"),
        (["--on", "local", "--memory", "2g", "--"], b"--memory: only with --on docker"),
    ],
)
async def test_what_cannot_be_made_is_refused(directory: Path, words: list[str], said: bytes) -> None:
    done = await claude(*words, "-p", cwd=directory)
    assert done.returncode == 2
    assert said in done.stderr
    assert Outline.nearest(str(directory)) is None


#: In Claude Code's place, at a terminal: says what size that has, when that changes, and which keys are pressed.
AT_TERMINAL = f"""#!{sys.executable}
import os, signal, sys, termios, tty
def say(*words):
    print(*words, sep=" ", end="\\r\\n", flush=True)
def size(*_):
    say("size", *os.get_terminal_size(0))
signal.signal(signal.SIGWINCH, size)
signal.signal(signal.SIGCONT, lambda *_: say("drawn"))
tty.setraw(0)
say("terminals", *map(os.isatty, range(3)), os.ttyname(0) == os.ttyname(2), os.environ.get("TERM"))
size()
while (key := os.read(0, 1)) != b"q":
    say("key", key.hex())
    if key == b"\\x1a":
        os.kill(os.getpid(), signal.SIGSTOP)
    if key == b"k":
        os.kill(os.getpid(), signal.SIGKILL)
sys.exit(5)
"""


@pytest.fixture
async def at_terminal(instance: LocalProcess, tmp_path: Path) -> LocalProcess:
    (tmp_path / "program").write_text(AT_TERMINAL)
    session = await instance.beside.run([], {}, tty=(10, 10))
    await session.aclose()
    assert session.exited == Exited(-signal.SIGHUP)  # who goes away hangs up
    return instance


async def test_a_person_at_a_terminal(at_terminal: LocalProcess) -> None:
    """Keys as they are pressed, sizes, and a stop from outside, after which all is drawn again."""
    argv = ["env", "TERM=xterm-test", *COMMAND, "claude", "--instance", at_terminal.name]
    with Terminal(argv) as person:
        person.wait_for("terminals True True True True xterm-test")
        before = termios.tcgetattr(person.fd)
        assert not before[3] & termios.ECHO
        fcntl.ioctl(person.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        person.wait_for("size 77 33")
        person.type("\x03")
        person.wait_for("key 03")
        person.type("\x1a")  # it stops itself, where nobody could let it go on
        person.wait_for("drawn")
        os.kill(person.pid, signal.SIGTSTP)
        assert os.WIFSTOPPED(os.waitpid(person.pid, os.WUNTRACED)[1])
        assert termios.tcgetattr(person.fd)[3] & termios.ECHO
        os.kill(person.pid, signal.SIGCONT)
        person.wait_for("drawn")
        assert termios.tcgetattr(person.fd) == before
        person.type("q")
        assert person.end() == 5


async def test_a_terminal_is_as_before_after_a_kill(at_terminal: LocalProcess) -> None:
    with Terminal([*COMMAND, "claude", "--instance", at_terminal.name]) as person:
        person.wait_for("size")
        person.type("k")
        person.wait_for("\x1b[?25h")
        while not termios.tcgetattr(person.fd)[3] & termios.ECHO:
            pass
        assert person.end() == -signal.SIGKILL


@pytest.mark.thorough
async def test_the_real_one_at_a_terminal(
    claude: str, make_record: Any, scripted_model: ScriptedModel, tmp_path: Path
) -> None:
    home = tmp_path / "claude-home"
    home.mkdir()
    record = make_record(env=scripted_model.claude_env(home))
    key = record.env["ANTHROPIC_API_KEY"][-20:]
    seen = {"hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": {"approved": [key]}}
    trusted = {"projects": {str(record.workspace): {"hasTrustDialogAccepted": True}}}
    (home / ".claude.json").write_text(json.dumps({**seen, **trusted}))
    made = LocalProcess(record)
    session = await made.beside.run(["--version"], {})
    await session.aclose()
    with Terminal(["env", "-C", str(record.workspace), *COMMAND, "claude"]) as person:
        person.wait_for("❯")
        person.type("hello")
        person.wait_for("hello")
        person.type("\r")
        person.wait_for("said:")
        person.type("\x03\x03")
        person.wait_for("--resume")
        assert person.end() == 0
    await made.cleanup()


async def test_nothing_that_the_command_line_needs_is_imported() -> None:
    code = (
        "import sys; from cc_bridge.cli import claude; print([m for m in sys.modules if m in ('typer', 'rich', 'ssl')])"
    )
    assert (await anyio.run_process([sys.executable, "-c", code])).stdout == b"[]\n"


async def test_where_the_agent_listens_no_event_loop_is_imported(instance: LocalProcess) -> None:
    await begun(instance)
    code = (
        "import os, sys; from cc_bridge.cli import claude; "
        "os._exit = lambda code: print(code, 'asyncio' in sys.modules); "
        f"claude.run(['--instance', {instance.name!r}, '--', '-p'])"
    )
    argv = [sys.executable, "-c", code]
    done = await anyio.run_process(argv, cwd=instance.record.workspace, input=b"")
    assert done.stdout == b"7 False\n"


async def test_where_its_key_is_outside_the_proxy_is_told_first_also_without_an_event_loop(
    make_record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: B5"""
    monkeypatch.setenv("CC_BRIDGE_HOME", str(tmp_path / "state"))
    program, root = tmp_path / "program", tmp_path / "state"
    program.write_text("#!/bin/sh\necho $ANTHROPIC_BASE_URL\n")
    program.chmod(0o755)
    env = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    options = ClaudeOptions(program=str(program))
    instance = await begun(LocalProcess(make_record(claude=options, env=env, key="outside")))
    try:
        ask_proxy(root, {"stop": True})
        words = [
            sys.executable,
            "-X",
            "importtime",
            "-m",
            "cc_bridge.cli.claude",
            "--instance",
            instance.name,
            "--",
            "-p",
        ]
        done = await anyio.run_process(words)
        assert b" anyio\n" not in done.stderr
        assert done.stdout.startswith(b"http://127.0.0.1:")
        assert done.stdout != b"http://127.0.0.1:9\n"
        status = (ask_proxy(root, {"status": True}) or {})["status"]
        assert [found["name"] for found in status["instances"]] == [instance.name]
    finally:
        await instance.cleanup()
        ask_proxy(root, {"stop": True})


@pytest.mark.parametrize("where", ["local", pytest.param("docker", marks=pytest.mark.docker)])
async def test_the_agent_sdk_takes_it_for_claude(
    where: str, request: pytest.FixtureRequest, make_record: Any, scripted_model: ScriptedModel, tmp_path: Path
) -> None:
    if where == "docker":
        images = request.getfixturevalue("images")
        fields = {"image": images.claude, "network": "host", "env": scripted_model.claude_env()}
        made: Any = DockerContainer(make_record(kind="docker", **fields))
    else:
        request.getfixturevalue("claude")
        home = tmp_path / "claude-home"
        home.mkdir()
        made = LocalProcess(make_record(env=scripted_model.claude_env(home)))
    program = tmp_path / "claude"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cc_bridge.cli.claude "$@"\n')
    program.chmod(0o755)
    session = await made.beside.run(["--version"], {})
    await session.aclose()
    options = ClaudeAgentOptions(cli_path=program, cwd=made.record.workspace, env={"CC_BRIDGE_INSTANCE": made.name})
    with anyio.fail_after(90):
        messages = [message async for message in query(prompt="hello", options=options)]
        printed = await claude("-p", "[[say printed]]", cwd=made.record.workspace)
    await made.cleanup()
    assert any("You said: hello" in str(message) for message in messages if isinstance(message, AssistantMessage))
    assert isinstance(messages[-1], ResultMessage)
    assert (printed.returncode, printed.stdout.strip()) == (0, b"printed")
