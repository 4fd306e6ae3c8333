"""What of a record a program in Claude Code's place needs, by the same rules as its instance. covers: B19"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeOptions, InvalidInput
from cc_bridge.instances.outline import Outline, container_env, path_inside
from cc_bridge.instances.registry import Registry


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC_BRIDGE_HOME", str(tmp_path / "state"))


def keep(record: Any) -> Any:
    home = Registry().home(record.name)
    home.make()
    home.save(record)
    return record


def test_it_is_what_the_record_says(make_record: Any, tmp_path: Path) -> None:
    env = {"ANTHROPIC_API_KEY": "k"}
    mounts = [f"{tmp_path}:/m"]
    record = keep(make_record(kind="docker", image="i", env=env, mounts=mounts, claude=ClaudeOptions(program="/c")))
    outline = Outline.load(record.name)
    assert outline
    for field in ("name", "kind", "workspace", "mounts", "mount_at", "env", "network", "credentials", "in_pane"):
        assert getattr(outline, field) == getattr(record, field), field
    assert (outline.program, outline.container, outline.worktree) == ("/c", "", "")
    assert outline.claude_env({"A": "b"}) == container_env(record, {"A": "b"}, outline.directory)
    inside = str(record.workspace / "below")
    assert outline.inside(inside) == path_inside(record, inside) == "/workspace/below"
    assert outline.inside("/etc/passwd") is None


def test_one_of_this_machine_has_the_same_paths(make_record: Any) -> None:
    outline = Outline.load(keep(make_record()).name)
    assert outline
    assert outline.inside("/etc/passwd") == "/etc/passwd"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x"}', '{"name": "x", "kind": "local", "mounts": 3}'])
def test_what_cannot_be_read_is_none(make_record: Any, text: str) -> None:
    record = keep(make_record())
    (Registry().home(record.name).path / "record.json").write_text(text)
    assert Outline.load(record.name) is None
    assert list(Outline.all()) == []
    assert Outline.load("../x") is None


def test_the_deepest_workspace_has_a_directory(make_record: Any, tmp_path: Path) -> None:
    for directory in ("a", "a/b", "c"):
        (tmp_path / directory).mkdir()
    for name, directory in (("up", "a"), ("down", "a/b"), ("one", "c"), ("two", "c")):
        keep(make_record(name=name, workspace=tmp_path / directory))
    found = [Outline.nearest(str(tmp_path / directory)) for directory in ("a", "a/b/below", "")]
    assert [outline and outline.name for outline in found] == ["up", "down", None]
    with pytest.raises(InvalidInput, match=r"several instances have .*: one, two"):
        Outline.nearest(str(tmp_path / "c"))
