"""A workspace is copied while a container may change it. covers: T1"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cc_bridge.errors import InvalidInput
from cc_bridge.service import forks
from cc_bridge.service.forks import copy_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "a" / "b").mkdir(parents=True)
    (path / "a" / "b" / "file").write_text("content")
    (path / "a" / "script").write_text("#!/bin/sh")
    (path / "a" / "script").chmod(0o755)
    (path / "link").symlink_to("/etc/passwd")
    os.mkfifo(path / "pipe")
    path.chmod(0o770)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def test_files_links_and_modes_are_copied_and_nothing_else(source: Path, target: Path) -> None:
    copy_tree(source, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        "a",
        "a/b",
        "a/b/file",
        "a/script",
        "link",
    ]
    assert (target / "a" / "b" / "file").read_text() == "content"
    assert (target / "a" / "script").stat().st_mode & 0o777 == 0o755
    assert os.readlink(target / "link") == "/etc/passwd"
    assert target.stat().st_mode & 0o777 == 0o770


def test_owners_are_kept(as_root: None, source: Path, target: Path) -> None:
    os.chown(source / "a" / "b" / "file", 1234, 1235)
    os.chown(source / "a", 77, 78)
    copy_tree(source, target)
    assert ((target / "a" / "b" / "file").stat().st_uid, (target / "a").stat().st_gid) == (1234, 78)


@pytest.mark.parametrize(("limit", "value"), [("_LARGEST", 10), ("_MOST", 3), ("_DEEPEST", 1)])
def test_what_is_too_much_is_refused(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(forks, limit, value)
    with pytest.raises(InvalidInput, match="cannot be copied"):
        copy_tree(source, target)


def test_a_workspace_that_is_a_link_is_not_followed(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(source)
    with pytest.raises(InvalidInput):
        copy_tree(tmp_path / "way", target)
    assert not list(target.iterdir())
