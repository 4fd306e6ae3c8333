"""A pane that a program and a person share: the real tmux and the interactive Claude Code. covers: C1, C17, B4, B9"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import (
    Allow,
    ClaudeOptions,
    DockerContainer,
    InvalidInput,
    PermissionRequest,
    PersonTurn,
    TextDelta,
    TmuxInstance,
    ToolResult,
    TurnResult,
    Verdict,
)
from cc_bridge.testing import ScriptedModel
from cc_bridge.testing.instance_contract import run_out_of_time
from cc_bridge.testing.scripted_model import seed_claude_home
from tests.command import COMMAND, Terminal, cc

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("tmux")]

_LIMIT = 60.0

#: What the screen shows while Claude Code works; the second where the API takes long.
_WORKS = "esc to interrupt|Waiting for API response"

#: Of any characters and sizes, which are entered one after the other.
_TEXTS = 60 if os.environ.get("CC_BRIDGE_THOROUGH") else 20
_TOUCH = json.dumps({"command": "touch made-by-a-tool", "description": "make a file"})

#: The dialog ignores keys for a moment, so that nobody answers it by accident while typing.
_DIALOG_GUARD = 1.2


@dataclass
class Person:
    """Somebody at the terminal: types, presses keys, looks at the screen."""

    instance: TmuxInstance

    def tmux(self, *words: str) -> str:
        argv = ["tmux", "-S", self.instance._place.socket, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-t", self.instance.name, "-l", text)

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", self.instance.name, *keys)

    async def say(self, text: str) -> None:
        self.type(text)
        await self.sees(re.escape(text[-6:]))  # Enter is not heard before
        self.press("Enter")

    async def interrupts(self) -> None:
        """Escape, again where it was not heard: right before a key of the program's it is taken for Alt.

        Not before it is sure that it was not: a second one that is heard late interrupts what comes next.
        """
        for _ in range(3):
            self.press("Escape")
            with suppress(TimeoutError):
                await self.sees(_WORKS, absent=True, limit=15)
                return

    @contextmanager
    def shown_if_late(self, limit: float = _LIMIT) -> Iterator[None]:
        """What is on the screen is what tells why nothing happens."""
        try:
            with anyio.fail_after(limit):
                yield
        except TimeoutError:
            pytest.fail(f"nothing happens, and the screen shows:\n{self.screen()}")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", self.instance.name)

    async def sees(self, pattern: str, absent: bool = False, limit: float = 20) -> None:
        """Look until it is there, as a person does."""
        with anyio.fail_after(limit):
            while bool(re.search(pattern, self.screen())) == absent:
                await anyio.sleep(0.05)


Make = Callable[..., Any]


@pytest.fixture
async def make(scripted_model: ScriptedModel, make_record: Make, claude: str) -> AsyncIterator[Make]:
    made: list[TmuxInstance] = []

    async def make_one(env: dict[str, str] | None = None, again: Any = None, **fields: Any) -> TmuxInstance:
        options = {name: fields.pop(name) for name in ("on_permission", "silence") if name in fields}
        env = {**scripted_model.claude_env(None), **(env or {})}
        record = again.record if again else make_record(kind="tmux", env=env, **fields)
        made.append(TmuxInstance(record, **options))
        return made[-1]

    yield make_one
    for instance in made:
        with anyio.fail_after(60):  # one that hangs must not hold up the run
            await instance.cleanup()


@pytest.fixture
async def pane(make: Make) -> tuple[TmuxInstance, Person]:
    instance = await make()
    await instance.start()
    assert await instance.send_command_and_wait("[[say ready]]", _LIMIT) == (True, "ready")
    return instance, Person(instance)


Pane = tuple[TmuxInstance, Person]


# Texts


def _random_text(random: random.Random, number: int) -> str:
    alphabet = "abc XYZ 0189 .,;:!?'\"`$\\&|<>(){}[]#@*~^%=+-_/\n\n\t\u00e9\u00df\u6f22\u5b57\U0001f642\u20ac"
    size = random.choice([1, 5, 50, 500, 5_000, 100_000 if number % 20 == 0 else 20_000])
    return f"{number}:" + "".join(random.choices(alphabet, k=size))


@pytest.mark.long
async def test_many_texts_give_as_many_answers(
    pane: Pane, scripted_model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, _ = pane
    chance = random.Random(5)
    for number in range(_TEXTS):
        text = _random_text(chance, number).replace("[[", "[ [")
        ok, answer = await instance.send_command_and_wait(text, _LIMIT)
        assert ok, answer
        # On a busy machine the editor may be opened again on a long text, which becomes a paste (docs/claude-code.md).
        got, wanted = (re.sub(r"\s+|</?pasted_content[^>]*>", "", said) for said in (answer, f"You said: {text}"))
        at = next((at for at, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
        assert at is None, f"text {number}, {len(text)} characters: {got[at:][:40]!r}, not {wanted[at:][:40]!r}"
        assert len(got) == len(wanted)
    assert len(scripted_model.requests) == 1 + _TEXTS


@pytest.mark.parametrize(
    "text", ["!echo no command", "# no memory", "/ no command", "@nobody", "ends with \\", "- x\n\n"]
)
async def test_what_begins_or_ends_like_a_command_arrives_as_text(pane: Pane, text: str) -> None:
    instance, _ = pane
    ok, answer = await instance.send_command_and_wait(text, _LIMIT)
    assert ok
    assert answer.split() == ["You", "said:", *text.split()]


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x03", "\x7f", "\x08"])
async def test_what_would_be_a_key_is_refused(make: Make, scripted_model: ScriptedModel, character: str) -> None:
    instance = await make()
    with pytest.raises(InvalidInput, match=r"control character .* at position 2"):
        await instance.send_command_and_wait(f"ab{character}", _LIMIT)
    assert scripted_model.requests == []


# A person and a program


async def test_a_command_waits_for_a_persons_turn(pane: Pane, scripted_model: ScriptedModel) -> None:
    instance, person = pane
    await person.say("[[say theirs]] [[delay 1.5]] [[say done]]")
    await person.sees("esc to interrupt")
    async with aclosing(instance.stream("[[say mine]]")) as stream:
        events = [event async for event in stream]
    typed = [event.prompt for event in events if isinstance(event, PersonTurn)]
    assert typed == ["[[say theirs]] [[delay 1.5]] [[say done]]"]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["mine"]
    assert [request.prompt[:10] for request in scripted_model.requests[1:]] == ["[[say thei", "[[say mine"]


async def test_what_a_person_queues_has_a_turn_of_its_own(pane: Pane, scripted_model: ScriptedModel) -> None:
    instance, person = pane
    answers = {}

    async def ask(name: str, text: str) -> None:
        answers[name] = await instance.send_command_and_wait(text, _LIMIT)

    async with anyio.create_task_group() as group:
        group.start_soon(ask, "first", "[[say a]] [[delay 2.5]] [[say b]]")
        with anyio.fail_after(_LIMIT):
            while len(scripted_model.requests) < 2:
                await anyio.sleep(0.02)
        group.start_soon(ask, "second", "[[say c]]")
        await person.say("[[say theirs]] [[delay 0.3]]")
    assert answers == {"first": (True, "ab"), "second": (True, "c")}
    assert [request.prompt[:8] for request in scripted_model.requests[1:]] == ["[[say a]", "[[say th", "[[say c]"]


async def test_a_draft_is_neither_lost_nor_sent(pane: Pane, scripted_model: ScriptedModel) -> None:
    instance, person = pane
    person.type("a draft of mine")
    await person.sees("a draft of mine")
    for text in ("one", "two"):
        assert await instance.send_command_and_wait(f"[[say {text}]]", _LIMIT) == (True, text)
        await person.sees("❯.a draft of mine")
    assert [request.prompt for request in scripted_model.requests[1:]] == ["[[say one]]", "[[say two]]"]


async def test_keys_that_are_heard_late_open_no_editor(make: Make, tmp_path: Path) -> None:
    """A Claude Code that hears nothing for seconds, and then all that was pressed meanwhile at once."""
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "from my editor" >"$1"\n')
    editor.chmod(0o700)
    instance = await make(env={"VISUAL": str(editor)})
    await instance.send_command_and_wait("[[say ready]]", _LIMIT)
    person, claude = Person(instance), _pid_of_claude(instance)
    given_up = Path(instance._place.socket).parent / "late"

    async def go_on() -> None:
        try:
            with anyio.fail_after(20):
                while len(list(given_up.iterdir())) < 3:
                    await anyio.sleep(0.05)
        finally:
            os.kill(claude, signal.SIGCONT)

    os.kill(claude, signal.SIGSTOP)
    async with anyio.create_task_group() as group:
        group.start_soon(go_on)
        assert await instance.send_command_and_wait("[[say one]]", _LIMIT) == (True, "one")
    assert await instance.send_command_and_wait("[[say two]]", _LIMIT) == (True, "two")
    assert "from my editor" not in person.screen()
    person.press("C-g")  # a person's own key is theirs again
    await person.sees("from my editor")


async def test_a_person_interrupts_the_programs_turn(pane: Pane) -> None:
    instance, person = pane
    async with await instance.submit("[[say so far]] [[hang]]") as turn:
        async for event in turn:
            if isinstance(event, TextDelta) and event.text == " far":
                person.press("Escape")
            if isinstance(event, TurnResult):
                assert (event.verdict, event.text) == (Verdict.INTERRUPTED, "so far")
    assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")


async def test_a_person_interrupts_their_own_turn_before_its_first_token(pane: Pane) -> None:
    instance, person = pane
    await person.say("[[delay 60]]")
    await person.sees("esc to interrupt")
    async with await instance.submit("[[say mine]]") as turn:
        with person.shown_if_late(2 * _LIMIT):  # a prompt of theirs that is sent once more takes its time
            async for event in turn:
                if isinstance(event, PersonTurn):
                    await person.interrupts()
                if isinstance(event, TurnResult):
                    assert event.text == "mine"
    await person.sees(r"❯.\[\[delay 60\]\]")  # back in the input line, and still there


async def test_an_interrupted_prompt_does_not_stay_in_the_input_line(pane: Pane) -> None:
    instance, person = pane
    assert await instance.send_command_and_wait("[[delay 60]] never mind", 1.5) == (False, "")
    await person.sees(r"❯.*never mind", absent=True)
    assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")


# Permissions


async def test_a_person_may_answer_first(make: Make) -> None:
    asked = anyio.Event()

    async def decide(_: PermissionRequest) -> Allow:
        asked.set()
        await anyio.sleep_forever()
        return Allow()

    instance = await make(on_permission=decide)
    person = Person(instance)
    results = []

    async def run() -> None:
        async with aclosing(instance.stream(f"[[tool Bash {_TOUCH}]] [[say Done.]]")) as stream:
            results.extend([event async for event in stream])

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await asked.wait()
            await person.sees("Do you want to proceed")
            await anyio.sleep(_DIALOG_GUARD)
            person.press("1")
    assert [event.is_error for event in results if isinstance(event, ToolResult)] == [False]
    assert results[-1].text == "Done."


async def test_allowed_for_good(make: Make) -> None:
    asked = []

    async def decide(request: PermissionRequest) -> Allow:
        asked.append(request.tool_name)
        return Allow(updates=request.suggestions)

    instance = await make(on_permission=decide)
    for _ in range(2):
        assert await instance.send_command_and_wait(f"[[tool Bash {_TOUCH}]] [[say Done.]]", _LIMIT) == (True, "Done.")
    assert asked == ["Bash"]


async def test_a_changed_input(make: Make, workspace: Path) -> None:
    async def decide(request: PermissionRequest) -> Allow:
        return Allow({**request.input, "command": "touch changed"})

    instance = await make(on_permission=decide)
    assert await instance.send_command_and_wait(f"[[tool Bash {_TOUCH}]] [[say Done.]]", _LIMIT) == (True, "Done.")
    assert (workspace / "changed").exists()


async def test_a_persons_own_permissions_are_theirs(make: Make) -> None:
    async def decide(_: PermissionRequest) -> Allow:
        raise AssertionError("nobody asked the program")

    instance = await make(on_permission=decide)
    person = Person(instance)
    await instance.send_command_and_wait("[[say ready]]", _LIMIT)
    await person.say(f"[[tool Bash {_TOUCH}]] [[say theirs]]")
    await person.sees("Do you want to proceed")
    await anyio.sleep(_DIALOG_GUARD)
    person.press("1")
    await person.sees("● theirs")
    assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")


# Commands of Claude Code's own


@pytest.mark.long
async def test_slash_commands(pane: Pane) -> None:
    instance, _person = pane
    before = (await instance.get_info())["session_id"]
    ok, text = await instance.send_command_and_wait("/context", _LIMIT)
    assert ok
    assert "Context" in text
    assert "\x1b" not in text
    ok, text = await instance.send_command_and_wait("/nonsense", _LIMIT)
    assert "Unknown command" in text
    assert (await instance.send_command_and_wait("/clear", _LIMIT))[0]
    await instance.send_command_and_wait("[[say anew]]", _LIMIT)
    assert (await instance.get_info())["session_id"] != before
    ok, text = await instance.send_command_and_wait("/config", _LIMIT)
    assert (ok, text.split(".")[0]) == (False, "it opened a dialog")
    assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")


# Where scrapers fail


async def test_a_tiny_terminal_and_another_theme(make: Make, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / ".claude.json").write_text(json.dumps({"theme": "light-daltonized"}))
    instance = await make(env={"CLAUDE_CONFIG_DIR": str(config)})
    await instance.start()
    person = Person(instance)
    person.tmux("resize-window", "-t", instance.name, "-x", "20", "-y", "10")
    long = "a line of many words that breaks at every width; " * 20
    async with aclosing(instance.send_command(f"[[say {long}]]")) as answer:
        assert "".join([piece async for piece in answer]).split() == long.split()
    person.tmux("resize-window", "-t", instance.name, "-x", "300", "-y", "5")
    assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")
    settings = json.loads((config / ".claude.json").read_text())
    assert settings["theme"] == "light-daltonized"


@pytest.mark.long
async def test_hooks_alone(make: Make, scripted_model: ScriptedModel) -> None:
    """Where the API's stream cannot be read, finished lines come as they are shown."""
    instance = await make(relay=False)
    prompt = f"[[say Looking.]] [[tool Bash {json.dumps({'command': 'echo tool', 'description': 'x'})}]] [[say Done.]]"
    async with aclosing(instance.stream(prompt)) as stream:
        events = [event async for event in stream]
    assert [str(event.content) for event in events if isinstance(event, ToolResult)] == ["tool"]
    assert isinstance(events[-1], TurnResult)
    assert events[-1].text == "Looking.\n\nDone."
    async with aclosing(instance.send_command("[[say one.\n\n]] [[delay 2]] [[say two]]")) as answer:
        first = await anext(answer)
        assert "one." in first
        assert "two" not in first
        assert "two" in "".join([piece async for piece in answer])
    assert await instance.send_command_and_wait("[[say a]] [[hang]]", 3.0) == (False, "")
    assert await instance.send_command_and_wait("[[delay 60]]", 1.5) == (False, "")
    assert await instance.send_command_and_wait("[[error 529 x1]] [[say b]]", _LIMIT) == (True, "b")


# Ends


async def test_claude_code_is_left_by_a_person_and_comes_back(pane: Pane, scripted_model: ScriptedModel) -> None:
    instance, person = pane
    await instance.send_command_and_wait("remember me", _LIMIT)
    pid = _child_of(instance._place._process.pid)
    await person.say("/exit")
    await _until_gone(pid)
    assert await instance.send_command_and_wait("[[say back]]", _LIMIT) == (True, "back")
    assert "remember me" in json.dumps(scripted_model.requests[-1].body["messages"])


@pytest.mark.parametrize("what", ["claude", "server"])
async def test_a_crash_ends_the_turn_and_the_next_resumes(pane: Pane, scripted_model: ScriptedModel, what: str) -> None:
    instance, person = pane
    await instance.send_command_and_wait("remember me", _LIMIT)
    async with await instance.submit("[[say a]] [[hang]]") as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                if what == "claude":
                    os.kill(_pid_of_claude(instance), signal.SIGKILL)
                else:
                    person.tmux("kill-server")
            if isinstance(event, TurnResult):
                assert (event.verdict, event.text) == (Verdict.INTERRUPTED, "a")
                assert ("signal 9" if what == "claude" else "tmux server has ended") in event.error
    assert await instance.send_command_and_wait("[[say back]]", _LIMIT) == (True, "back")
    assert "remember me" in json.dumps(scripted_model.requests[-1].body["messages"])


async def test_another_program_goes_on_with_the_same_pane(make: Make) -> None:
    instance = await make()
    turn = await instance.submit("[[say a]] [[delay 1]] [[say b]]")
    async for event in turn:
        if isinstance(event, TextDelta):
            break
    other = await make(again=instance)
    assert (await (await other.turn(turn.id)).result()).text == "ab"
    assert await other.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")
    await turn.result()


# Servers and panes of the user's


@pytest.fixture
def users_server(tmp_path: Path) -> Any:
    socket = str(tmp_path / "users-tmux")
    env = {name: value for name, value in os.environ.items() if name != "TMUX"}

    def tmux(*words: str) -> str:
        argv = ["tmux", "-S", socket, "-f", "/dev/null", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10, env=env).stdout

    tmux("new-session", "-d", "-s", "mine", "-x", "120", "-y", "40")
    tmux.socket = socket
    yield tmux
    tmux("kill-server")


async def test_in_the_users_own_server(make: Make, users_server: Any) -> None:
    instance = await make(tmux_socket=users_server.socket)
    assert await instance.send_command_and_wait("[[say hello]]", _LIMIT) == (True, "hello")
    assert instance.name in users_server("list-sessions")
    info = await instance.get_info()
    assert "hello" in "\n".join(info["screen"])
    await instance.stop()
    assert users_server("list-sessions", "-F", "#{session_name}").split() == ["mine"]


async def test_a_person_comes_to_a_pane_of_a_name_with_a_dot(make: Make, users_server: Any) -> None:
    """Which tmux calls otherwise, and reads as a window's and a pane's number."""
    instance = await make(name=f"dotted.{os.getpid()}", tmux_socket=users_server.socket)
    await instance.start()
    target = instance.attach_argv[-1]
    assert users_server("display-message", "-p", "-t", target, "#{session_name}") == f"dotted_{os.getpid()}\n"


async def test_a_killed_agent_leaves_a_pane_that_the_next_one_clears(make: Make, users_server: Any) -> None:
    instance = await make(tmux_socket=users_server.socket)
    await instance.send_command_and_wait("[[say hello]]", _LIMIT)
    os.kill(instance._place._process.pid, signal.SIGKILL)
    assert await instance.send_command_and_wait("[[say back]]", _LIMIT) == (True, "back")
    assert users_server("list-sessions", "-F", "#{session_name}").split() == ["mine", instance.name]


async def test_taking_over_a_pane(
    make: Make, users_server: Any, claude_env: dict[str, str], claude: str, workspace: Path, scripted_model: Any
) -> None:
    """A person has begun in a terminal of theirs; a program goes on there."""
    home = Path(claude_env["HOME"])
    seed_claude_home(home)
    config = json.loads((home / ".claude.json").read_text())
    config["projects"] = {str(workspace): {"hasTrustDialogAccepted": True}}
    (home / ".claude.json").write_text(json.dumps(config))
    words = ["env", *(f"{name}={value}" for name, value in claude_env.items()), claude]
    users_server("new-window", "-c", str(workspace), "-n", "work", *words)
    pane_id = users_server("list-panes", "-t", "mine:work", "-F", "#{pane_id}").strip()
    with anyio.fail_after(30):
        while "❯" not in users_server("capture-pane", "-p", "-t", pane_id):
            await anyio.sleep(0.1)
        users_server("send-keys", "-t", pane_id, "-l", "said by hand")
        while "You said" not in users_server("capture-pane", "-p", "-t", pane_id):
            users_server("send-keys", "-t", pane_id, "Enter")
            await anyio.sleep(0.5)
    (session,) = (home / ".claude/projects").glob("*/*.jsonl")
    fields = {"pane": pane_id, "tmux_socket": users_server.socket, "resume": session.stem, "env": claude_env}
    instance = await make(**fields)
    assert await instance.send_command_and_wait("[[say here]]", _LIMIT) == (True, "here")
    assert "said by hand" in json.dumps(scripted_model.requests[-1].body["messages"])
    assert "here" in users_server("capture-pane", "-p", "-t", pane_id)
    await instance.stop()
    assert pane_id in users_server("list-panes", "-a", "-F", "#{pane_id}").split()  # a shell is there again


async def test_a_pane_that_is_not_there(make: Make, users_server: Any) -> None:
    instance = await make(pane="%99", tmux_socket=users_server.socket)
    with pytest.raises(InvalidInput, match="no pane %99"):
        await instance.start()
    with pytest.raises(InvalidInput, match="a pane's id"):
        await make(pane="work")


async def test_the_users_configuration_stays_as_it_is(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "users-home"
    (home / ".claude").mkdir(parents=True)
    (home / ".claude/settings.json").write_text('{"outputStyle": "default"}')
    (home / ".claude.json").write_text("{}")
    monkeypatch.setenv("HOME", str(home))
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    instance = await make()
    await instance.send_command_and_wait("[[say hello]]", _LIMIT)
    await instance.stop()
    assert {path: path.read_bytes() for path in (home / ".claude").rglob("*") if path.is_file()} == {
        path: content for path, content in before.items() if ".claude/" in str(path)
    }
    assert (home / ".claude.json").read_text() == "{}"


# The command line


async def test_attach_shows_the_pane(pane: Pane) -> None:
    instance, _ = pane
    assert cc("attach", instance.name).returncode != 0  # no terminal
    with Terminal([*COMMAND, "attach", instance.name]) as terminal:
        terminal.wait_for("ready")
        terminal.type("\x02d")
        assert terminal.end() == 0
    with Terminal([*COMMAND, "attach", "--read-only", instance.name]) as terminal:
        terminal.wait_for("ready")
        argv = ["tmux", "-S", (await instance.get_info())["tmux_socket"], "list-clients", "-F", "#{client_readonly}"]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "1\n"
        terminal.type("\x02d")
        assert terminal.end() == 0


async def test_attach_after_exit(pane: Pane) -> None:
    """Who ends Claude Code in its pane leaves in order; who comes later is told. covers: C15"""
    instance, _ = pane
    with Terminal([*COMMAND, "attach", instance.name]) as terminal:
        terminal.wait_for("ready")
        terminal.type("/exit")
        terminal.wait_for("/exit")
        terminal.type("\r")
        terminal.wait_for("Claude Code has ended")
        assert terminal.end() == 0
    with Terminal([*COMMAND, "attach", instance.name]) as terminal:
        terminal.wait_for(f"`cc-bridge start {instance.name}` starts it")
        assert terminal.end() == 5
    assert cc("start", instance.name).returncode == 0
    with Terminal([*COMMAND, "attach", instance.name]) as terminal:
        terminal.wait_for("ready")
        terminal.type("\x02d")
        assert terminal.end() == 0


async def test_the_command_line_says_what_cannot_be(make_stubbed: Make, workspace: Path) -> None:
    local = await make_stubbed()
    await local.start()
    done = cc("attach", local.name)
    assert (done.returncode, "runs without a terminal" in done.stderr) == (2, True)
    done = cc("up", "x", "--on", "tmux", "--memory", "1g")
    assert (done.returncode, "--memory: only with --on docker" in done.stderr) == (2, True)
    done = cc("up", "x", "--on", "local", "--pane", "%1")
    assert (done.returncode, "--pane: only with --on tmux" in done.stderr) == (2, True)
    assert "tmux" in cc("doctor").stdout


# In a container


@pytest.mark.docker
async def test_a_pane_in_a_container(scripted_model: ScriptedModel, make_record: Make, images: Any) -> None:
    env = scripted_model.claude_env(None)
    record = make_record(kind="docker", image=images.claude, network="host", env=env, tmux=True, ephemeral=False)
    asked = []

    async def decide(request: PermissionRequest) -> Allow:
        asked.append(request.tool_name)
        return Allow()

    async with DockerContainer(record, on_permission=decide) as instance:
        try:
            async with aclosing(instance.send_command("[[say one two]]")) as answer:
                assert [piece async for piece in answer] == ["one", " two"]
            assert await instance.send_command_and_wait(f"[[tool Bash {_TOUCH}]] [[say Done.]]", _LIMIT) == (
                True,
                "Done.",
            )
            assert asked == ["Bash"]
            with Terminal([*COMMAND, "attach", instance.name]) as terminal:
                terminal.wait_for("Done.")
                terminal.type("\x02d")
                assert terminal.end() == 0
            await run_out_of_time(instance, "[[say a]] [[hang]]", "a")
            await instance.restart()
            assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")
            assert "[[say one two]]" in json.dumps(scripted_model.requests[-1].body["messages"])
        finally:
            await instance.remove()


@pytest.mark.docker
async def test_skipped_permissions_open_no_dialog(
    scripted_model: ScriptedModel, make_record: Make, images: Any, workspace: Path
) -> None:
    options = ClaudeOptions(skip_permissions=True)
    env = scripted_model.claude_env(None)
    record = make_record(kind="docker", image=images.claude, network="host", env=env, tmux=True, claude=options)
    async with DockerContainer(record) as instance:
        assert await instance.send_command_and_wait(f"[[tool Bash {_TOUCH}]] [[say Done.]]", _LIMIT) == (True, "Done.")
        assert (workspace / "made-by-a-tool").exists()


# Idle


@pytest.mark.long
async def test_an_idle_pane_wakes_nobody(pane: Pane) -> None:
    """Nor does another Claude Code, which puts its prompts for the editor into the same directory. covers: B3"""
    instance, _ = pane
    pid = _child_of(instance._place._process.pid)
    quiet = False
    for _ in range(6):  # Claude Code may have something to write into its own record
        before = _switches(pid)
        with tempfile.NamedTemporaryFile(dir=f"/tmp/claude-{os.getuid()}"):
            await anyio.sleep(3)
        quiet = quiet or _switches(pid) == before
        if quiet:
            break
    assert quiet


def _switches(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"voluntary_ctxt_switches:\s+(\d+)", status)[1])


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _pid_of_claude(instance: TmuxInstance) -> int:
    person = Person(instance)
    pid = int(person.tmux("list-panes", "-t", instance.name, "-F", "#{pane_pid}").strip())
    return _child_of(pid)


async def _until_gone(pid: int) -> None:
    with anyio.fail_after(20):
        while Path(f"/proc/{pid}").exists():
            await anyio.sleep(0.02)


def test_the_real_tmux_is_used(tmux: None) -> None:
    assert shutil.which("tmux")
