"""Where instances are kept: private, whole or not at all. covers: C2, M1"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cc_bridge import ClaudeInstance, InvalidInput
from cc_bridge.errors import InstanceNotFound
from cc_bridge.instances.registry import Registry, agent_archive, state_root

SESSION = "70239f12-b8a6-4331-8634-823542f95e3f"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "state")


def record(name: str = "demo", **more: object) -> ClaudeInstance:
    return ClaudeInstance.of(name=name, kind="local", workspace=Path("/"), env={"MY_KEY": "hush"}, **more)


def test_kept_and_found_again(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    home.save(record())
    assert registry.names() == ["demo"]
    assert registry.load("demo") == record().model_copy(update={"created": registry.load("demo").created})
    home.remove()
    home.remove()
    assert registry.names() == []


def test_private(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    home.save(record())
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert (home.path / "record.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["nobody", "", ".", "..", "../../etc", "a/b"])
def test_unknown_instances(registry: Registry, name: str) -> None:
    with pytest.raises(InstanceNotFound):
        registry.load(name)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "demo"}', "not json"])
def test_a_broken_record(registry: Registry, text: str) -> None:
    home = registry.home("demo")
    home.prepare()
    (home.path / "record.json").write_text(text)
    with pytest.raises(InvalidInput, match="demo: its record cannot be read"):
        registry.load("demo")


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be used"):
        Registry(tmp_path / "file").home("demo").prepare()


def test_the_session_is_remembered(registry: Registry) -> None:
    home = registry.home("demo")
    assert home.session_id == ""
    home.remember_session("gone already")
    home.prepare()
    home.remember_session(SESSION)
    assert home.session_id == SESSION


def test_sweep_takes_old_ephemeral_ones_only(registry: Registry) -> None:
    long_ago = time.time() - 3600
    for name, ephemeral, old in (("old", True, True), ("new", True, False), ("kept", False, True)):
        home = registry.home(name)
        home.prepare()
        home.save(record(name, ephemeral=ephemeral))
        if old:
            os.utime(home.path, (long_ago, long_ago))
    assert registry.sweep() == ["old"]
    assert registry.names() == ["kept", "new"]


def test_sweep_spares_who_has_an_agent(registry: Registry) -> None:
    home = registry.home("busy")
    home.prepare()
    home.save(record("busy", ephemeral=True))
    listening = os.open(home.pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    os.utime(home.path, (0, 0))
    assert registry.sweep() == []
    os.close(listening)


def test_the_agent_runs_from_its_archive(tmp_path: Path) -> None:
    archive = agent_archive(tmp_path)
    assert agent_archive(tmp_path) == archive
    assert archive.stat().st_mode & 0o777 == 0o644
    done = subprocess.run([sys.executable, "-IS", archive, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "0.1.0\n"
    assert [path.name for path in tmp_path.iterdir()] == [archive.name], "scratch files are left"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CC_BRIDGE_HOME": "/a"}, "/a"),
        ({"XDG_STATE_HOME": "/b"}, "/b/cc-bridge"),
        ({"HOME": "/c"}, "/c/.local/state/cc-bridge"),
    ],
)
def test_the_state_root(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("CC_BRIDGE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(state_root()) == expected
