"""The record: what is refused, and which field is named. covers: C2, M3"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, ClaudeOptions, InvalidInput
from cc_bridge.mounts import parse_mount

GOOD: dict[str, Any] = {"name": "demo", "kind": "docker", "image": "i", "workspace": Path("/")}


def test_a_good_one() -> None:
    record = ClaudeInstance.of(**GOOD)
    assert ClaudeInstance.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "Upper"}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": None}, "name"),
        ({"kind": "cloud"}, "kind"),
        ({"image": ""}, "image"),
        ({"workspace": None}, "workspace"),
        ({"env": {"A B": "x"}}, "env"),
        ({"env": {"A": "x\0y"}}, "env"),
        ({"mounts": ("/:x",)}, "must be absolute"),
        ({"mounts": ("/:/x:rx",)}, "'rx'"),
        ({"memory": "much"}, "memory"),
        ({"colour": "red"}, "colour"),
        ({"kind": "local", "claude": ClaudeOptions(skip_permissions=True)}, "skip_permissions"),
    ],
)
def test_bad_ones(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        ClaudeInstance.of(**{**GOOD, **change})


@pytest.mark.parametrize("missing", ["name", "kind", "image", "workspace"])
def test_without_a_field_that_is_needed(missing: str) -> None:
    with pytest.raises(InvalidInput, match=missing):
        ClaudeInstance.of(**{key: value for key, value in GOOD.items() if key != missing})


def test_an_existing_container_needs_neither_image_nor_workspace() -> None:
    assert ClaudeInstance.of(name="demo", kind="docker", container="theirs").image == ""


def test_environment_is_not_shown() -> None:
    assert "hush" not in repr(ClaudeInstance.of(**GOOD, env={"MY_TOKEN": "hush"}))


def test_a_relative_workspace_is_where_the_record_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ClaudeInstance.of(**{**GOOD, "workspace": "."}).workspace == tmp_path


def test_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_mount(f"{tmp_path}:/x") == (str(tmp_path), "/x", False)
    assert parse_mount(f"{tmp_path}:/x:ro") == (str(tmp_path), "/x", True)
    monkeypatch.chdir(tmp_path)
    assert parse_mount(".:/x:rw") == (str(tmp_path), "/x", False)


def test_a_record_whose_mount_has_gone_is_a_record(tmp_path: Path) -> None:
    """Or its instance could not even be stopped; it cannot be started, which is said then."""
    record = ClaudeInstance.of(**{**GOOD, "mounts": (f"{tmp_path}/gone:/x",)})
    assert ClaudeInstance.model_validate_json(record.model_dump_json()) == record
    with pytest.raises(InvalidInput, match=f"{tmp_path}/gone does not exist on this machine"):
        record.check_mounts()
    (tmp_path / "gone").mkdir()
    record.check_mounts()


@pytest.mark.parametrize(
    ("change", "times"),
    [
        ({}, (600, 86_400)),
        ({"sleep_after": 5}, (5, 86_400)),
        ({"sleep_after": 0, "stop_after": 0}, (0, 0)),
        ({"tmux": True}, (0, 0)),
        ({"tmux": True, "sleep_after": 0}, (0, 0)),
    ],
)
def test_when_it_sleeps(change: dict[str, Any], times: tuple[float, float]) -> None:
    """covers: B7"""
    record = ClaudeInstance.of(**{**GOOD, **change})
    assert record.sleep_times == times
    assert ClaudeInstance.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("field", ["sleep_after", "stop_after"])
@pytest.mark.parametrize("value", [-1, float("nan"), 1e10])
def test_no_times_to_sleep(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{field}: seconds, 0 for never"):
        ClaudeInstance.of(**{**GOOD, field: value})
    with pytest.raises(InvalidInput, match=f"{field}: a person may look at a pane"):
        ClaudeInstance.of(**{**GOOD, "tmux": True, field: 5})
