"""What is read without typer is read as typer reads it. covers: P5"""

from __future__ import annotations

import shlex
import types
from typing import Any

import pytest
import typer

from cc_bridge.cli import app, quick, verbs


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command does to its process's log is not done to this one."""
    for module in (app, quick):
        monkeypatch.setattr(module, "set_verbose", lambda verbose: None)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which verbs were called. They do nothing."""
    calls: list[dict[str, Any]] = []

    def load(verb: verbs.Verb, name: str, real: Any = verbs.Verb.load) -> Any:
        function = real(verb, name)

        def noted(**given: Any) -> None:
            calls.append(given)

        if not isinstance(function, types.FunctionType):
            return function
        vars(noted).update(__wrapped__=function, __annotations__=function.__annotations__, __doc__=function.__doc__)
        return noted

    monkeypatch.setattr(verbs.Verb, "load", load)
    return calls


def by_typer(words: list[str]) -> int:
    command = typer.main.get_command(app.app)
    try:
        return int(command.main(words, prog_name="cc-bridge", standalone_mode=True) or 0)
    except SystemExit as error:
        return int(error.code or 0)


PLAIN = [
    "send name prompt",
    "send name -",
    "send name ''",
    "send name prompt --timeout 3",
    "send --timeout=3.5 name prompt --json",
    "send name --json prompt -v",
    "send --verbose name prompt",
    "ps",
    "ps -q",
    "ps --filter a=b --filter=c=d",
    "ps --format '{name}' -a --json",
    "stop one two three",
    "rm one --force",
    "info name --json",
    "turns name",
    "follow name",
    "interrupt name",
    "history name",
    "logs name",
    "stats",
    "stats name",
    "doctor",
    "doctor name",
    "run prompt",
    "run prompt --keep --image i --env A=b -e C --memory 512m --cpus 1.5 --pids 9 --mount /:/x --timeout 1",
]


@pytest.mark.parametrize("line", PLAIN)
def test_both_call_the_verb_with_the_same_arguments(line: str, called: list[dict[str, Any]]) -> None:
    words = shlex.split(line)
    verb = quick.read(words)
    assert verb is not None
    verb()
    assert by_typer(words) == 0
    quickly, slowly = called
    assert quickly == {name: value for name, value in slowly.items() if name != "verbose"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "--help",
        "-v send name prompt",
        "send",
        "send name",
        "send name prompt more",
        "send name -prompt",
        "send name prompt --help",
        "send name prompt -h",
        "send name prompt --jso",
        "send name prompt --json=yes",
        "send name prompt --timeout",
        "send name prompt --timeout --json",
        "send name prompt --timeout soon",
        "send name prompt --timeout 0",
        "send name prompt --timeout 1 --timeout 2",
        "send name -- prompt",
        "stop",
        "ps -qa",
        "ps more",
        "exec name ls",
        "image list",
        "run prompt --on local",
        "run prompt --workspace /",
        "run prompt --no-relay",
        "run prompt -- word",
        "up name",
        "update name --model m",
    ],
)
def test_whatever_else_is_left_to_typer(line: str) -> None:
    assert quick.read(shlex.split(line)) is None


def test_so_is_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CC_BRIDGE_COMPLETE", "complete_bash")
    assert quick.read(["send", "name", "prompt"]) is None
