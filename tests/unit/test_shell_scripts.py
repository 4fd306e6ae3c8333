"""The lines of sh(1) that are run in containers, in the shells that images have. covers: B10, T2, T3"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cc_bridge.channels import direct
from cc_bridge.instances import container_agent as scripts
from cc_bridge.instances import container_sessions
from cc_bridge.manager import variables
from tests.conftest import lacking

NEIGHBOUR = 65534


@dataclass(frozen=True)
class Shell:
    """A shell, and the programs that an image with it has."""

    program: str
    path: str

    def run(self, script: str, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [self.program, "-c", script, "sh", *words]
        # A pipe, as the engine makes one: what is read too much of it is gone.
        return subprocess.run(argv, input=stdin, capture_output=True, env={"PATH": self.path}, check=False, timeout=30)


@pytest.fixture(params=["busybox", "dash", "bash"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    program = shutil.which(request.param)
    if program is None:
        lacking("busybox", f"{request.param} is not installed")
    assert program
    if request.param != "busybox":
        return Shell(program, os.environ["PATH"])
    applets = tmp_path / "applets"
    applets.mkdir()
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        (applets / name).symlink_to(program)
    return Shell(str(applets / "sh"), str(applets))


# Variables on stdin, and then the command's own


def test_variables_reach_the_command_and_it_gets_all_of_its_stdin(shell: Shell) -> None:
    given = {"COLOUR": "it's\n$(blue) `x` \\ \"", "EMPTY": "", "UMLAUT": "ü" * 3000}
    prompt = b"the prompt\n" * 10_000
    script = 'printf "%s|%s|%s|" "$COLOUR" "$EMPTY" "$UMLAUT"; cat'
    words, lines = variables.from_stdin(given, ["sh", "-c", script])
    done = shell.run(*words[2:3], *words[4:], stdin=lines + prompt)
    expected = "it's\n$(blue) `x` \\ \"||" + "ü" * 3000 + "|"
    assert done.stdout == expected.encode() + prompt
    assert done.stderr == b""


def test_no_variables_and_no_stdin(shell: Shell) -> None:
    words, _ = variables.from_stdin({}, ["sh", "-c", "cat; exit 7"])
    assert shell.run(*words[2:3], *words[4:]).returncode == 7


def test_variables_from_a_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "variables").write_bytes(variables.exports({"COLOUR": "it's blue"}))
    script = variables._FROM_FILE.replace(variables._INSIDE, str(tmp_path / "variables"))
    assert shell.run(script, "sh", "-c", 'printf %s "$COLOUR"').stdout == b"it's blue"


# The agent's archive in a container that others use, too


def put(shell: Shell, archive: Path, size: int = 11) -> subprocess.CompletedProcess[bytes]:
    return shell.run(scripts._MAKE_PRIVATE + scripts._INJECT, str(archive), str(size), stdin=b"the archive")


def may_be_run(shell: Shell, archive: Path) -> bool:
    return shell.run(scripts._IF_PRIVATE + "exit 0", str(archive)).returncode == 0


def test_the_archive_is_put_into_a_directory_of_this_users_alone(shell: Shell, tmp_path: Path) -> None:
    archive = tmp_path / "cc-bridge-0" / "agent.pyz"
    assert not may_be_run(shell, archive)
    assert put(shell, archive).returncode == 0
    assert put(shell, archive).returncode == 0
    assert put(shell, archive, size=12).returncode != 0, "a part of it came"
    assert archive.read_bytes() == b"the archive"
    assert archive.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in archive.parent.iterdir()] == ["agent.pyz"]
    assert may_be_run(shell, archive)


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("planted", ["a directory", "a link"])
def test_what_a_neighbour_has_put_there_is_neither_run_nor_written_to(
    shell: Shell, tmp_path: Path, planted: str
) -> None:
    place, theirs = tmp_path / "cc-bridge-0", tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NEIGHBOUR, NEIGHBOUR)
    (theirs / "agent.pyz").write_text("hostile")
    if planted == "a link":
        (tmp_path / "mine").mkdir()
        place.symlink_to(tmp_path / "mine")
    else:
        theirs.rename(place)
        theirs = place
    assert not may_be_run(shell, place / "agent.pyz")
    done = put(shell, place / "agent.pyz")
    assert done.returncode == 1
    assert b"belongs to somebody else" in done.stderr
    assert (theirs / "agent.pyz").read_text() == "hostile"


# What tells where there is no Python, and finds a session


def test_without_python_something_stays_and_says_so(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bare = replace(shell, path=str(tmp_path / "empty"))
    assert b'"event": "no_python"' in bare.run(scripts.MAIN, "agent.pyz").stderr
    for script in (scripts._ATTACH, scripts._FIND_PYTHON + scripts._IF_PRIVATE, scripts._SERVE):
        assert bare.run(script, "/dev/null", "agent.pyz").returncode == 127


def test_a_session_and_its_end_are_found(shell: Shell, tmp_path: Path) -> None:
    project = tmp_path / "config" / "projects" / "-work"
    project.mkdir(parents=True)
    (project / "id.jsonl").write_bytes(b"x" * 2_000_000 + b"end\n")
    config = f"CLAUDE_CONFIG_DIR={tmp_path}/config; "
    assert shell.run(config + container_sessions._SESSION, "id").stdout.decode().strip() == str(project / "id.jsonl")
    found = shell.run(config + container_sessions._TRANSCRIPT, "id").stdout
    assert len(found) == 1048576
    assert found.endswith(b"end\n")
    assert shell.run(config + container_sessions._SESSION, "other").returncode != 0


def test_claude_code_s_process_is_known_where_no_agent_is(shell: Shell) -> None:
    done = shell.run(direct._LAUNCHER, "sh", "-c", "echo $$")
    assert direct._PID.match(done.stderr)
    assert done.stderr.split()[-1] == done.stdout.strip()
    assert shell.run(direct._LAUNCHER, "no-such-program").returncode == 127
