"""The command as a person or a script meets it: stdout, stderr, exit codes, signals. covers: G3, G4, G10, C15"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel
from tests.command import COMMAND, PROMPTED, Terminal, cc

#: An image of one pixel.
_PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgAAACAAAB4iG8MwAAAABJRU5ErkJggg==")


@pytest.fixture
def model_options(scripted_model: ScriptedModel, workspace: Path, claude: str) -> list[str]:
    """Options with which Claude Code talks to the scripted model, locally."""
    home = workspace / "home"
    home.mkdir()
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env(home).items()]
    return ["--on=local", f"--workspace={workspace}", *env]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = set(Registry().names())
    yield
    assert set(Registry().names()) == before


def test_run_prints_the_answer_and_nothing_else(model_options: list[str]) -> None:
    done = cc("run", "[[say Hello, you.]]", *model_options)
    assert (done.returncode, done.stdout) == (0, "Hello, you.\n")
    assert "starting" in done.stderr
    assert "\x1b" not in done.stderr, "colours in a file"


def test_run_reads_a_prompt_from_stdin(model_options: list[str]) -> None:
    assert cc("run", "-", *model_options, input="[[say from stdin]]").stdout == "from stdin\n"


def test_run_as_json(model_options: list[str]) -> None:
    done = cc("run", "[[say one two]]", "--json", *model_options)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events] == ["TurnStarted", "TextDelta", "TextDelta", "TurnResult"]
    assert (events[-1]["verdict"], events[-1]["text"]) == ("completed", "one two")


@pytest.mark.docker
def test_run_in_a_container(scripted_model: ScriptedModel, workspace: Path, images: Any) -> None:
    """covers: G3, M1, R4"""
    options = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    options += [f"--image={images.claude}", "--network=host", f"--workspace={workspace}"]
    first = cc("run", "[[say from a container]]", "--json", "--keep", *options)
    assert first.returncode == 0, first.stderr
    found = re.search(r"kept as (\S+):", first.stderr)
    assert found
    assert cc("rm", "--force", found[1]).returncode == 0
    result = json.loads(first.stdout.splitlines()[-1])
    assert result["text"] == "from a container"
    again = cc("run", "and again", f"--resume={result['session_id']}", *options)
    assert again.returncode == 0, again.stderr
    assert "from a container" in json.dumps(scripted_model.requests[-1].body["messages"])
    unknown = cc("run", "and again", "--resume=70239f12-b8a6-4331-8634-823542f95e3f", *options)
    assert unknown.returncode == 2
    assert "kept for 30 days" in unknown.stderr


@pytest.mark.docker
def test_the_default_image_is_used_unless_said(scripted_model: ScriptedModel, workspace: Path, images: Any) -> None:
    """covers: G1"""
    options = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    done = cc("--verbose", "run", "[[say hello]]", "--network=host", f"--workspace={workspace}", *options)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert f"image={images.claude}" in done.stderr


def test_run_resumes(model_options: list[str], scripted_model: ScriptedModel) -> None:
    first = cc("run", "remember this", "--json", "--keep", *model_options)
    session = json.loads(first.stdout.splitlines()[-1])["session_id"]
    found = re.search(r"kept as (\S+):", first.stderr)
    assert found
    assert cc("rm", "--force", found[1]).returncode == 0
    again = cc("run", "and now?", f"--resume={session}", *model_options)
    assert "remember this" in json.dumps(scripted_model.requests[-1].body["messages"]), again.stderr
    assert session in Registry().sessions.kept(), "it was there before, and is not run's to remove"
    Registry().sessions.delete(session)


def test_run_keeps_nothing(model_options: list[str], workspace: Path) -> None:
    """No conversation here, and no transcript where Claude Code keeps its own."""
    before = set(Registry().sessions.directory.rglob("*"))
    assert cc("run", "[[say a secret]]", *model_options).stdout == "a secret\n"
    assert set(Registry().sessions.directory.rglob("*")) == before
    files = [path for path in (workspace / "home" / ".claude").rglob("*") if path.is_file()]
    assert not [path for path in files if b"a secret" in path.read_bytes()]


def test_prune_removes_conversations_whose_instances_have_gone(model_options: list[str]) -> None:
    """When asked to, also without an engine; an instance's own stays."""
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    sessions = {}
    try:
        for name in ("gone", "stays"):
            done = cc("up", name, *model_options)
            assert done.returncode == 0, done.stderr
            cc("send", name, "the words")
            sessions[name] = Registry().home(name).session_id
            cc("rm", "--force", name)
        assert cc("up", "stays", *model_options).returncode == 0
        had = {sessions["gone"]: ("gone",), sessions["stays"]: ("stays",)}
        assert had.items() <= Registry().sessions.kept().items()
        assert sessions["gone"] not in cc("prune", "--dry-run", env=env).stdout
        said = cc("prune", "--dry-run", "--conversations", env=env)
        assert (sessions["gone"] in said.stdout, sessions["stays"] in said.stdout) == (True, False), said.stderr
        assert cc("prune", "--force", "--conversations", env=env).returncode == 0
        assert sessions["gone"] not in Registry().sessions.kept()
        assert Registry().sessions.recall("gone") is None
        assert sessions["stays"] in Registry().sessions.kept()
    finally:
        cc("rm", "--force", "--conversation", "stays")


def test_files_go_with_a_command(model_options: list[str], scripted_model: ScriptedModel, tmp_path: Path) -> None:
    """covers: B9: what the model cannot read is refused before anything is sent."""
    image, notes, other = tmp_path / "a.png", tmp_path / "notes.txt", tmp_path / "other.bin"
    image.write_bytes(_PNG)
    notes.write_text("some text")
    other.write_bytes(b"\xff\xfe\x00")
    try:
        assert cc("up", "attached", *model_options).returncode == 0
        for path, complaint in ((other, "neither a PDF nor text"), (tmp_path / "none", "cannot be read")):
            done = cc("send", "attached", "[[say no]]", "--attach", str(path))
            assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr
        assert scripted_model.requests == []
        done = cc("send", "attached", "[[say seen]]", "--attach", str(image), "--attach", str(notes))
        assert (done.returncode, done.stdout) == (0, "seen\n"), done.stderr
        sent = json.dumps(scripted_model.requests[-1].body["messages"])
        assert all(word in sent for word in ('"image/png"', '"notes.txt"', '"some text"'))
        said = cc("history", "attached").stdout
        assert "[image]" in said
        assert "[document notes.txt]" in said
    finally:
        cc("rm", "--force", "--conversation", "attached")


@pytest.mark.long
def test_a_conversation_goes_from_instance_to_instance(
    model_options: list[str], scripted_model: ScriptedModel, tmp_path: Path
) -> None:
    """up, rm and up; --resume NAME --fork; export and import."""

    def heard() -> str:
        return json.dumps(scripted_model.requests[-1].body["messages"])

    file = str(tmp_path / "file")
    assert cc("up", "talk-one", *model_options).returncode == 0
    cc("send", "talk-one", "the first words")
    assert cc("rm", "--force", "talk-one").returncode == 0
    assert "goes on with the conversation" in cc("up", "talk-one", *model_options).stderr
    cc("send", "talk-one", "the second words")
    assert "the first words" in heard()
    forked = cc("up", "talk-two", "--resume=talk-one", "--fork", *model_options)
    assert forked.returncode == 0, forked.stderr
    cc("send", "talk-two", "words of the fork")
    assert "the second words" in heard()
    exported = cc("export", "talk-two", file)
    assert (exported.returncode, exported.stdout) == (0, f"{file}\n"), exported.stderr
    assert cc("export", "talk-two", file).returncode == 2, "it was written over"
    assert cc("import", "talk-two", file, *model_options).returncode == 2
    cc("rm", "--force", "--conversation", "talk-one", "talk-two")
    imported = cc("import", "talk-three", file, *model_options)
    assert (imported.returncode, imported.stdout) == (0, "talk-three\n"), imported.stderr
    cc("send", "talk-three", "the last words")
    assert "words of the fork" in heard()
    piped = subprocess.run([*COMMAND, "export", "talk-three", "-"], capture_output=True, check=True).stdout
    assert cc("rm", "--force", "--conversation", "talk-three").returncode == 0
    again = subprocess.run(
        [*COMMAND, "import", "talk-three", "-", *model_options], input=piped, capture_output=True, check=False
    )
    assert (again.returncode, again.stdout) == (0, b"talk-three\n"), again.stderr
    cc("send", "talk-three", "after a pipe")
    assert "the last words" in heard()
    cc("rm", "--force", "--conversation", "talk-three")
    alone = cc("up", "talk-four", "--fork", *model_options)
    assert (alone.returncode, "--fork needs --resume" in alone.stderr) == (2, True)


def test_run_passes_model_and_system_prompt(model_options: list[str], scripted_model: ScriptedModel) -> None:
    cc("run", "hello", "--model=claude-haiku-4-5", "--system-prompt=Be brief.", *model_options)
    body = scripted_model.requests[-1].body
    assert body["model"].startswith("claude-haiku")
    assert "Be brief." in json.dumps(body["system"])


def test_run_out_of_time(model_options: list[str]) -> None:
    for limit in (3, 10, 40):  # as long as the machine needs to begin the answer
        done = cc("run", "[[say so far]] [[hang]]", f"--timeout={limit}", *model_options)
        assert done.returncode == 124
        assert f"interrupted after {limit} s" in done.stderr
        if done.stdout == "so far\n":
            break
    assert done.stdout == "so far\n"


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["run", ""], 2, "the prompt is empty"),
        (["run"], 2, "Missing argument"),
        (["run", "x", "--on=moon"], 2, "moon"),
        (["run", "x", "--on=local", "--workspace=/nowhere"], 2, "does not exist"),
        (["run", "x", "--on=local", "--env=NOT_SET_ANYWHERE"], 2, "it is not set here"),
        (["run", "x", "--on=local", "--skip-permissions"], 2, "only in a container"),
        (["run", "x", "--mount=/nowhere:/x"], 2, "does not exist"),
        (["send", "nobody", "x"], 2, "no instance 'nobody'"),
        (["info", "nobody"], 2, "no instance 'nobody'"),
        (["stop", "nobody"], 2, "no instance 'nobody'"),
        (["rm", "nobody"], 2, "no instance 'nobody'"),
        (["up", "Bad Name", "--on=local"], 2, "name"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_bad_input(words: list[str], code: int, complaint: str) -> None:
    done = cc(*words)
    assert done.returncode == code
    assert complaint in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_api_error(model_options: list[str]) -> None:
    done = cc("run", "[[error 400]]", *model_options)
    assert (done.returncode, done.stdout) == (1, "")
    assert "400" in done.stderr


def test_api_retries_are_told(model_options: list[str]) -> None:
    done = cc("run", "[[error 529 x1]] [[say at last]]", *model_options)
    assert (done.returncode, done.stdout) == (0, "at last\n")
    assert "API error 529; retry 1 of" in done.stderr


def test_not_logged_in(model_options: list[str]) -> None:
    options = [option for option in model_options if "ANTHROPIC_API_KEY" not in option]
    done = cc("run", "hello", *options)
    assert done.returncode == 4
    assert "ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN" in done.stderr


def test_no_claude(model_options: list[str]) -> None:
    env = {"PATH": "/nowhere", "HOME": "/nowhere", "CC_BRIDGE_HOME": os.environ["CC_BRIDGE_HOME"]}
    code = "import sys; sys.path = [p for p in sys.path]; from cc_bridge.instances import find_claude as l; "
    code += "l._bundled = lambda: None; from cc_bridge.cli.main import run; run()"
    words = [sys.executable, "-c", code, "run", "x", *model_options]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 4
    assert "Claude Code is not installed" in done.stderr


def test_a_claude_that_is_named_and_not_there(model_options: list[str]) -> None:
    """Another one is not taken in its place."""
    done = cc("run", "x", *model_options, env={**os.environ, "CC_BRIDGE_CLAUDE": "/nowhere/claude"})
    assert (done.returncode, "CC_BRIDGE_CLAUDE is '/nowhere/claude'" in done.stderr) == (4, True)


def test_no_engine() -> None:
    done = cc("run", "x", env={**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert done.returncode == 3
    assert "Is Docker running?" in done.stderr
    assert "--on local" in done.stderr


AS_NOBODY = """
import os, sys, anyio, anyio._backends._asyncio, docker, docker.context.config, docker.errors, requests.exceptions
import structlog.stdlib
from cc_bridge import EngineError
from cc_bridge.engine.client import Engine
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    anyio.run(Engine().client)
except EngineError as error:
    print(type(error).__name__, error)
"""


def test_an_engine_without_permission(tmp_path: Path) -> None:
    """covers: C15"""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)
        env = {**os.environ, "DOCKER_HOST": f"unix://{path}"}
        done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.startswith("EnginePermissionDenied")
    assert "group that owns the socket" in done.stdout


@pytest.mark.long
def test_an_instance_that_stays(model_options: list[str]) -> None:
    """covers: G5"""
    name = f"test-cli-{os.getpid()}"
    try:
        up = cc("up", name, *model_options)
        assert (up.returncode, up.stdout) == (0, f"{name}\n"), up.stderr
        assert cc("send", name, "[[say hello]]").stdout == "hello\n"
        listed = json.loads(cc("ps", "--json").stdout)
        assert [(row["name"], row["status"]) for row in listed if row["name"] == name] == [(name, "running")]
        assert name in cc("ps").stdout
        info = json.loads(cc("info", name, "--json").stdout)
        assert (info["running"], info["channel"], info["env"]["ANTHROPIC_API_KEY"]) == (True, "pipes", "***")
        again = cc("up", name, "--model=x")
        assert again.returncode == 2
        assert "--model given" in again.stderr
        refused = cc("rm", name)
        assert refused.returncode == 2
        assert "it is running" in refused.stderr
        assert cc("stop", name).stdout == f"{name}\n"
        assert json.loads(cc("info", name, "--json").stdout)["running"] is False
        assert cc("up", name).returncode == 0
        assert cc("send", name, "[[say again]]").stdout == "again\n"
    finally:
        assert cc("rm", "--force", name).returncode == 0


def test_keep(model_options: list[str]) -> None:
    done = cc("run", "[[say hello]]", "--keep", *model_options)
    found = re.search(r"kept as (\S+):", done.stderr)
    assert found
    assert cc("send", found[1], "[[say still here]]").stdout == "still here\n"
    assert cc("rm", "-f", found[1]).returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_interrupt_and_clean_up(model_options: list[str], number: int, code: int) -> None:
    """covers: C8"""
    argv = [*COMMAND, "run", "[[say so far]] [[hang]]", *model_options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.read(len("so far")) == "so far"
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stdout.read() == "\n"
        assert process.stderr
        assert "Traceback" not in process.stderr.read()


def test_a_reader_that_goes_away(model_options: list[str]) -> None:
    argv = [*COMMAND, "run", "[[pace 0.05]] [[repeat 100 word ]]", *model_options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.read(4)
        process.stdout.close()
        process.wait(30)
        assert process.stderr
        assert "Traceback" not in process.stderr.read()


def test_chat_from_a_pipe(model_options: list[str]) -> None:
    done = cc("chat", *model_options, input="[[say one]]\n\n[[error 400]]\n[[say two]]\n")
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n"), done.stderr
    assert "400" in done.stderr


def test_chat_on_a_terminal(model_options: list[str]) -> None:
    """covers: C8, B4"""
    with Terminal([*COMMAND, "chat", *model_options]) as terminal:
        terminal.wait_for("Ctrl-D leaves")
        terminal.wait_for(PROMPTED)
        terminal.type("[[repeat 3 xy]]\r")
        terminal.wait_for("xyxyxy\r\n")
        terminal.wait_for(PROMPTED)
        terminal.type("[[repeat 3 ab]] [[hang]]\r")
        terminal.wait_for("ababab")
        terminal.type("\x03")
        terminal.wait_for("interrupt")
        terminal.wait_for(PROMPTED)
        terminal.type('[[tool Bash {"command": "touch made", "description": "make"}]] [[repeat 3 uv]]\r')
        terminal.wait_for("why not?")
        terminal.type("y\r")
        terminal.wait_for("uvuvuv\r\n")
        terminal.wait_for(PROMPTED)
        terminal.type("\x04")
        assert terminal.end() == 0


def test_options_for_containers_are_not_passed_over(model_options: list[str]) -> None:
    """covers: G2"""
    done = cc("run", "x", *model_options, "--memory=1g", "--docker-socket")
    assert done.returncode == 2
    for option in ("--memory", "--docker-socket"):
        assert f"{option}: only with --on docker" in done.stderr
    for bad in ("--memory=much", "--memory=1k", "--restart=sometimes", "--mount=nothing"):
        assert cc("up", "bad-options", bad).returncode == 2, bad


def test_doctor(claude: str) -> None:
    assert cc("doctor", env={**os.environ, "ANTHROPIC_API_KEY": "sk-ant-x"}).returncode == 0
    done = cc("doctor")
    assert done.returncode == 1, "nobody is logged in"
    assert re.search(r"ok +claude +[\d.]+ \(Claude Code\)", done.stdout)
    checks = {check["name"]: check for check in json.loads(cc("doctor", "--json").stdout)}
    assert checks["state directory"]["state"] == "ok"
    assert checks["login"]["state"] == "fail"
    assert "ANTHROPIC_API_KEY" in checks["login"]["advice"]


def test_doctor_where_nothing_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {**os.environ, "CC_BRIDGE_HOME": str(tmp_path / "file"), "DOCKER_HOST": "unix:///nowhere"}
    done = cc("doctor", env=env)
    assert done.returncode == 1
    assert "Set CC_BRIDGE_HOME" in done.stdout


def test_version_and_help() -> None:
    assert cc("--version").stdout == "cc-bridge 0.1.0\n"
    text = cc("--help").stdout
    for verb in ("run", "up", "send", "chat", "ps", "info", "stop", "rm", "doctor"):
        assert re.search(rf"^  {verb} ", text, re.MULTILINE)
        assert cc(verb, "--help").returncode == 0


def test_verbose_says_what_happens_and_no_secret(model_options: list[str]) -> None:
    """covers: C18, M4"""
    done = cc("--verbose", "run", "[[say hello]] private words", *model_options)
    assert "claude started" in done.stderr
    assert "connected (channel=pipes" in done.stderr
    assert "private words" not in done.stderr
    assert "sk-ant" not in done.stderr


def test_claude_codes_own_options(model_options: list[str], scripted_model: ScriptedModel) -> None:
    options = ["--append-system-prompt=Be very brief.", "--disallowed-tools=Bash", '--mcp-config={"mcpServers": {}}']
    done = cc("run", "[[say hello]]", *options, *model_options, "--", "--effort", "low")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    body = scripted_model.requests[-1].body
    assert "Be very brief." in json.dumps(body["system"])
    assert "Bash" not in [tool["name"] for tool in body["tools"]]
    assert "Read" in [tool["name"] for tool in body["tools"]]
    refused = cc("run", "x", *model_options, "--", "--dangerously-skip-permissions")
    assert (refused.returncode, "Use --skip-permissions" in refused.stderr) == (2, True)
    unknown = cc("run", "x", *model_options, "--", "--no-such-option")
    assert (unknown.returncode, "no-such-option" in unknown.stderr) == (4, True)


def test_options_that_contradict_an_existing_container() -> None:
    done = cc("run", "x", "--container=c", "--memory=1g", "--publish=80")
    assert (done.returncode, "--memory, --publish: only for a container that is made" in done.stderr) == (2, True)


def test_verbose_anywhere(model_options: list[str]) -> None:
    for words in (["run", "-v", "[[say hello]]"], ["run", "[[say hello]]", "--verbose"]):
        assert "claude started" in cc(*words, *model_options).stderr
    assert cc("ps", "-v").returncode == 0
    assert cc("image", "list", "-v", "--help").returncode == 0


def test_help_lists_every_verb_with_its_whole_sentence() -> None:
    text = cc("--help", env={**os.environ, "COLUMNS": "60"}).stdout
    assert "..." not in text.partition("Talk:")[2]
    from cc_bridge.cli.verbs import SUBJECTS, VERBS

    assert sorted(verb for verbs in SUBJECTS.values() for verb in verbs) == sorted(VERBS)
    assert "[-- CLAUDE ARGS…]" in cc("up", "--help").stdout


def test_a_signal_ends_an_import_that_waits_for_its_stdin(workspace: Path) -> None:
    argv = [*COMMAND, "import", "never-made", "--on=local", f"--workspace={workspace}", "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(b"x" * 1024 * 1024)  # more than a pipe holds: it reads
        process.stdin.flush()
        process.terminate()
        assert process.wait(30) == 143
