"""Requests that are seen and answered from the command line, whichever program attends to them. covers: B4 B21"""

from __future__ import annotations

import json
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
def name(scripted_model: ScriptedModel, workspace: Path, claude: str) -> Iterator[str]:
    """An instance that runs."""
    home = workspace / "home"
    home.mkdir()
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env(home).items()]
    chosen = f"asks-{uuid.uuid4().hex[:8]}"
    done = cc("up", chosen, "--on=local", f"--workspace={workspace}", *env)
    assert done.returncode == 0, done.stderr
    yield chosen
    cc("rm", "--force", "--conversation", *[name for name in [chosen] if name in Registry().names()])


@contextmanager
def asked(name: str) -> Iterator[Terminal]:
    """A person in another program who is asked, and says nothing."""
    with Terminal([*COMMAND, "chat", name]) as person:
        person.wait_for("Ctrl-D leaves")
        person.wait_for(PROMPTED)
        person.type(f"{TOOL}\r")
        person.wait_for("why not?")
        yield person
        person.wait_for("done")
        person.wait_for(PROMPTED)
        person.type("\x04")
        assert person.end() == 0


def listed(name: str) -> dict[str, Any]:
    (row,) = json.loads(cc("permissions", name, "--json").stdout)
    assert isinstance(row, dict)
    return row


def test_a_request_is_seen_and_allowed_from_elsewhere(name: str, workspace: Path) -> None:
    """The program that asks its own person asks no longer; a second answer is told that it was late."""
    assert cc("permissions", name).stdout == ""
    with asked(name):
        seen = listed(name)
        assert (seen["instance"], seen["tool"], seen["input"]["command"]) == (name, "Bash", "touch made")
        assert seen["waited"] >= 0
        table = cc("permissions").stdout
        assert seen["id"][:12] in table
        assert "touch made" in table
        (row,) = [row for row in json.loads(cc("ps", "--json").stdout) if row["name"] == name]
        assert (row["activity"], row["permissions"]) == ("permission", 1)
        done = cc("allow", seen["id"][:12])
        assert (done.returncode, done.stdout) == (0, f"{seen['id']}\n"), done.stderr
        assert f"allowed: {name} Bash" in done.stderr
    assert (workspace / "made").exists()
    late = cc("deny", seen["id"], "too late")
    assert late.returncode == 2
    assert "no open permission request" in late.stderr or "decided already" in late.stderr


def test_denied_with_a_reason(name: str, workspace: Path) -> None:
    with asked(name):
        assert cc("deny", listed(name)["id"], "Not on Fridays.").returncode == 0
    assert not (workspace / "made").exists()
    assert "Not on Fridays." in cc("history", name, "--json").stdout


def test_always_is_kept_in_the_record_and_has_to_cover_what_is_asked(name: str, workspace: Path) -> None:
    with asked(name):
        seen = listed(name)
        wrong = cc("allow", seen["id"], "--always", "Bash(git status)")
        assert (wrong.returncode, "does not cover" in wrong.stderr) == (2, True)
        done = cc("allow", seen["id"], "--always", "Bash(touch *)")
        assert done.returncode == 0, done.stderr
    assert Registry().load(name).rules.allow == ("Bash(touch *)",)
    assert (workspace / "made").exists()


def test_another_input(name: str, workspace: Path) -> None:
    with asked(name):
        assert cc("allow", listed(name)["id"], "--input", '{"command": "touch other"}').returncode == 0
    assert (workspace / "other").exists()
    assert not (workspace / "made").exists()


def test_following(name: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "permissions", name, "--follow", "--json"], stdout=subprocess.PIPE, text=True
    ) as all_:
        assert all_.stdout
        with asked(name):
            told = json.loads(all_.stdout.readline())
            assert (told["event"], told["tool"]) == ("asked", "Bash")
            assert cc("allow", told["id"], "--session", "Bash(touch *)").returncode == 0
            assert json.loads(all_.stdout.readline())["event"] == "decided"
        assert cc("stop", name).returncode == 0
        assert all_.stdout.read() == ""
        assert all_.wait(30) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["allow", "abc"], "too short"),
        (["allow", "abcdefgh"], "no open permission request"),
        (["deny", "abcdefgh", "why"], "no open permission request"),
        (["allow", "abcdefgh", "--session", "--always"], "which of the two"),
        (["allow", "abcdefgh", "Bash"], "is for --session or --always"),
        (["allow", "abcdefgh", "--input", "[]"], "no JSON object"),
        (["allow", "abcdefgh", "--always", "--input", "{}"], "for this once"),
        (["permissions", "nobody-is-called-so"], "there is no instance"),
    ],
    ids=str,
)
def test_bad_input(words: list[str], says: str) -> None:
    done = cc(*words)
    assert done.returncode == 2
    assert says in done.stderr
