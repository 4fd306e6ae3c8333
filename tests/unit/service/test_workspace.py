"""Files of a workspace that others write to as well. covers: T1"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cc_bridge.errors import InvalidInput, NoSpaceLeft
from cc_bridge.service import workspace as module
from cc_bridge.service.problems import NotThere
from cc_bridge.service.workspace import HostWorkspace, parts_of

pytestmark = pytest.mark.anyio


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for item in data:
        yield item


@pytest.mark.parametrize(
    ("path", "parts"),
    [("", ()), (".", ()), ("a", ("a",)), ("./a//b/", ("a", "b")), ("..a/b..", ("..a", "b..")), ("a b/ä", ("a b", "ä"))],
)
def test_paths_begin_in_the_workspace(path: str, parts: tuple[str, ...]) -> None:
    assert parts_of(path) == parts


@pytest.mark.parametrize(
    "path", ["/", "/a", "..", "a/..", "a/../b", "a\0", "\ud800", "a/" * 101, "ä" * 128, "a" * 5000]
)
def test_no_path_leads_elsewhere(path: str) -> None:
    with pytest.raises(InvalidInput):
        parts_of(path)


async def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (2 * 1024 * 1024)
        assert [path.name for path in tmp_path.iterdir() if path.name != "a"]  # it is being written, beside
        raise ConnectionError

    (tmp_path / "a").write_text("before")
    workspace = HostWorkspace(tmp_path)
    with pytest.raises(ConnectionError):
        await workspace.write(("a",), broken())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"
    found, is_new = await workspace.write(("a",), chunks(b"af", b"ter"))
    assert (found.name, found.size, is_new) == ("a", 5, False)
    assert (tmp_path / "a").read_text() == "after"


async def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "in").mkdir(parents=True)

    async def swapped() -> AsyncIterator[bytes]:
        (root / "in").rename(root / "away")
        (root / "in").symlink_to(outside)
        yield b"data"

    await HostWorkspace(root).write(("in", "a"), swapped())
    assert not list(outside.iterdir())
    assert (root / "away" / "a").read_text() == "data"


@pytest.mark.parametrize("path", ["link", "way/secret", "way"])
async def test_nothing_is_read_over_a_link(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "way").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="link"):
        await HostWorkspace(root).open(parts_of(path))
    with pytest.raises(InvalidInput):
        await HostWorkspace(root).entries(parts_of(path))


async def test_names_that_are_no_text_and_times_that_are_none_are_listed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).touch()
    os.mkfifo(tmp_path / "pipe")
    found, more = await HostWorkspace(tmp_path).entries(())
    assert not more
    assert {item.kind for item in found} == {"file", "other"}
    assert module._found("old", os.stat_result((0o100644, 0, 0, 1, 0, 0, 3, 0, 2**60, 0))).modified is None


async def test_what_is_read_only_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="read-only"):
        await HostWorkspace(tmp_path, read_only=True).write(("a",), chunks(b""))
    assert not list(tmp_path.iterdir())


async def test_files_are_the_containers_users(as_root: None, tmp_path: Path) -> None:
    await HostWorkspace(tmp_path, (1234, 1235)).write(("in", "a"), chunks(b"x"))
    for path in (tmp_path / "in", tmp_path / "in" / "a"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
    os.chown(tmp_path / "in", 77, 78)
    await HostWorkspace(tmp_path).write(("in", "b"), chunks(b"x"))
    assert ((tmp_path / "in" / "b").stat().st_uid, (tmp_path / "in" / "b").stat().st_gid) == (77, 78)


async def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(NoSpaceLeft):
        await HostWorkspace(tmp_path).write(("a",), chunks(b"x"))
    assert not list(tmp_path.iterdir())


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for way in (HostWorkspace(tmp_path).open(("a",)), HostWorkspace(tmp_path).entries(("a",))):
        with pytest.raises(NotThere):
            await way
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="no directory"):
        await HostWorkspace(tmp_path).entries(("file",))
    with pytest.raises(InvalidInput, match="no file"):
        await HostWorkspace(tmp_path).open(())
