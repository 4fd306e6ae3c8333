"""What comes out of a container is unpacked without trust in it. covers: R5"""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cc_bridge import EngineError
from cc_bridge.engine.archives import Archives, PathInfo, tar_of, tar_of_bytes, tar_of_directory, tar_of_tree, unpack
from cc_bridge.errors import ContainerNotFound, InvalidInput


def tar(*members: tuple[str, bytes | None, str]) -> list[bytes]:
    """Name, content, and the kind: f file, d directory, l symbolic link, h hard link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, kind in members:
            header = tarfile.TarInfo(name)
            header.mode = 0o6777
            if kind == "f":
                header.size = len(content or b"")
                archive.addfile(header, io.BytesIO(content or b""))
                continue
            header.type = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}[kind]
            header.linkname = (content or b"").decode()
            archive.addfile(header)
    data = buffer.getvalue()
    return [data[at : at + 700] for at in range(0, len(data), 700)]


def test_a_tree(tmp_path: Path) -> None:
    left_out = unpack(
        tar(("top", None, "d"), ("top/file", b"x", "f"), ("top/link", b"/etc/passwd", "l")), tmp_path / "out"
    )
    assert (tmp_path / "out" / "file").read_bytes() == b"x"
    assert left_out == ["top/link"]
    assert (tmp_path / "out" / "file").stat().st_mode & 0o7777 == 0o755, "no set-user-ID, not writable by others"


@pytest.mark.parametrize(
    "members",
    [
        [("top", b"/tmp", "l"), ("top/file", b"x", "f")],
        [("top", None, "d"), ("top/../../evil", b"x", "f")],
        [("/etc/evil", b"x", "f")],
        [("..", None, "d"), ("../evil", b"x", "f")],
        [("top", None, "d"), ("top/a", b"..", "l"), ("top/a/evil", b"x", "f")],
    ],
)
def test_nothing_gets_out(tmp_path: Path, members: list[tuple[str, bytes | None, str]]) -> None:
    (tmp_path / "place").mkdir()
    unpack(tar(*members), tmp_path / "place" / "out")
    assert not list(tmp_path.glob("evil"))
    assert not list((tmp_path / "place").glob("evil"))
    assert not Path("/tmp/file").exists()


@pytest.mark.parametrize(
    "members", [[("top", b"x", "f"), ("top", b"y", "f")], [("top", b"x", "f"), ("top/b", b"y", "f")]]
)
def test_what_cannot_be(tmp_path: Path, members: list[tuple[str, bytes | None, str]]) -> None:
    with pytest.raises((EngineError, InvalidInput)):
        unpack(tar(*members), tmp_path / "out")
    assert not list(tmp_path.iterdir()), "nothing half-made"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.binary(max_size=600), max_size=5))
def test_garbage(tmp_path: Path, chunks: list[bytes]) -> None:
    target = tmp_path / "out"
    try:
        unpack(chunks, target)
    except EngineError:
        pass
    assert not target.exists()


def test_there_and_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("x")
    os.mkfifo(source / "pipe")
    with tar_of_tree(source, "named", 12, 34) as archive, tarfile.open(fileobj=archive) as found:
        assert {(member.name, member.uid, member.gid) for member in found} == {
            ("named", 12, 34),
            ("named/deep", 12, 34),
            ("named/deep/file", 12, 34),
        }
    with pytest.raises(InvalidInput, match="cannot be read"):
        tar_of_tree(tmp_path / "none", "x", 0, 0)


def members(archive: IO[bytes]) -> list[tuple[str, bool, int, int, int, bytes]]:
    """Name, whether it is a directory, mode, owner and content of each member."""
    with tarfile.open(fileobj=archive) as found:
        return [
            (member.name, member.isdir(), member.mode, member.uid, member.gid, found.extractfile(member).read())  # type: ignore[union-attr]
            if member.isreg()
            else (member.name, member.isdir(), member.mode, member.uid, member.gid, b"")
            for member in found
        ]


def test_a_file_and_the_directories_above_it_are_its_owner_s_alone() -> None:
    content = io.BytesIO(b"text")
    content.seek(2)
    with tar_of(PurePosixPath("a/b/c"), content, 12, 34) as archive:
        assert members(archive) == [
            ("a", True, 0o700, 12, 34, b""),
            ("a/b", True, 0o700, 12, 34, b""),
            ("a/b/c", False, 0o600, 12, 34, b"text"),
        ]


def test_files_by_name_are_readable_by_all() -> None:
    with tar_of_bytes({"a": b"x", "b": b""}, 12, 34) as archive:
        assert members(archive) == [("a", False, 0o644, 12, 34, b"x"), ("b", False, 0o644, 12, 34, b"")]
    with tar_of_bytes({"a": b"x"}) as archive:
        assert members(archive) == [("a", False, 0o644, 0, 0, b"x")]


def test_an_empty_directory() -> None:
    with tar_of_directory("a", 12, 34) as archive:
        assert members(archive) == [("a", True, 0o755, 12, 34, b"")]


def test_what_is_in_a_tree_arrives_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir(mode=0o750)
    (source / "file").write_bytes(b"text")
    (source / "file").chmod(0o640)
    (source / "link").symlink_to("/etc/passwd")
    with tar_of_tree(source, "named", 12, 34) as archive:
        found = {name: (mode, content) for name, _, mode, _, _, content in members(archive)}
    assert found["named/file"] == (0o640, b"text")
    assert set(found) == {"named", "named/file", "named/link"}
    with tar_of_tree(source / "file", "other", 0, 0) as archive:
        assert members(archive) == [("other", False, 0o640, 0, 0, b"text")]


def nested(directory: Path, depth: int) -> Path:
    made = directory / "top"
    made.joinpath(*["d"] * depth).mkdir(parents=True)
    return made


def test_as_deep_as_a_tree_may_be(tmp_path: Path) -> None:
    with tar_of_tree(nested(tmp_path / "a", 98), "x", 0, 0) as archive:
        assert len(members(archive)) == 99
    with pytest.raises(InvalidInput, match="too deeply"):
        tar_of_tree(nested(tmp_path / "b", 101), "x", 0, 0)


def test_one_file_alone_and_modes_without_more_than_is_safe(tmp_path: Path) -> None:
    assert unpack(tar(("name", b"text", "f")), tmp_path / "out") == []
    assert (tmp_path / "out").read_bytes() == b"text"
    unpack(tar(("top", None, "d"), ("top/a/b/file", b"x", "f")), tmp_path / "tree")
    assert (tmp_path / "tree" / "a" / "b" / "file").read_bytes() == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tree"], "nothing else is left"


def test_what_takes_many_chunks(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    unpack(tar(("name", data, "f")), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


def test_an_archive_of_nothing_makes_nothing(tmp_path: Path) -> None:
    assert unpack(tar(), tmp_path / "out") == []
    assert list(tmp_path.iterdir()) == []


class FakeEngine:
    """An engine whose archives are in memory; it is asked as the real one is."""

    def __init__(self) -> None:
        self.put: list[tuple[str, str, bytes]] = []
        self.archive: list[bytes] = []
        self.stat: Any = None
        self.limits: list[float | None] = []
        self.api = self
        self.timeout = 60

    async def client(self) -> Any:
        return self

    async def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        limit: float | None = None,
        shown: Any = (),
        repeat: bool = False,
    ) -> Any:
        self.limits.append(limit)
        return function(*args)

    def put_archive(self, container: str, directory: str, archive: IO[bytes]) -> None:
        self.put.append((container, directory, archive.read()))

    def get_archive(self, container: str, path: str) -> tuple[list[bytes], Any]:
        assert (container, path) == ("demo", "/path")
        return self.archive, {}

    def _url(self, pattern: str, name: str) -> str:
        return pattern.format(name)

    def head(self, url: str, params: dict[str, str], timeout: float) -> Any:
        assert (url, params) == ("/containers/demo/archive", {"path": "/path"})
        encoded = base64.b64encode(json.dumps(self.stat).encode())
        return type("Answer", (), {"headers": {"X-Docker-Container-Path-Stat": encoded}})()

    def _raise_for_status(self, answer: Any) -> None:
        if self.stat is None:
            raise ContainerNotFound("nothing is there")


@pytest.mark.anyio
class TestInAContainer:
    def made(self) -> tuple[FakeEngine, Archives]:
        engine: Any = FakeEngine()
        return engine, Archives(engine)

    async def test_files_are_put_with_their_owner(self) -> None:
        engine, archives = self.made()
        await archives.put_files("demo", "/dir", {"a": b"x"}, uid=12, gid=34)
        await archives.put_files("demo", "/dir", {"a": b"x"})
        assert [(container, directory) for container, directory, _ in engine.put] == [("demo", "/dir")] * 2
        owners = [members(io.BytesIO(data))[0][3:5] for _, _, data in engine.put]
        assert owners == [(12, 34), (0, 0)]
        assert engine.limits == [3600, 3600]

    async def test_a_tree_is_fetched(self, tmp_path: Path) -> None:
        engine, archives = self.made()
        engine.archive = tar(("top", None, "d"), ("top/file", b"x", "f"), ("top/link", b"x", "l"))
        assert await archives.get_files("demo", "/path", tmp_path / "out") == ["top/link"]
        assert (tmp_path / "out" / "file").read_bytes() == b"x"
        assert engine.limits == [3600]

    @pytest.mark.parametrize(
        ("stat", "info"),
        [
            (None, None),
            ({"name": "a", "size": 7, "mode": 0o644}, PathInfo("a", 7, is_directory=False)),
            ({"name": "a", "size": 7, "mode": (1 << 31) | 0o755}, PathInfo("a", 7, is_directory=True)),
            ({"mode": 1 << 30}, PathInfo("", 0, is_directory=False)),
            ({"name": "a", "size": None, "mode": None}, PathInfo("a", 0, is_directory=False)),
        ],
    )
    async def test_what_stands_at_a_path(self, stat: Any, info: PathInfo | None) -> None:
        engine, archives = self.made()
        engine.stat = stat
        assert await archives.stat("demo", "/path") == info

    async def test_one_file_is_fetched_up_to_a_size(self) -> None:
        engine, archives = self.made()
        engine.archive = tar(("name", b"text" * 1000, "f"))
        size = sum(map(len, engine.archive))
        with await archives.get_file("demo", "/path", size) as content:
            assert content.read() == b"text" * 1000
        with pytest.raises(EngineError, match=f"larger than {size - 1} bytes"):
            await archives.get_file("demo", "/path", size - 1)
        assert engine.limits == [300, 300]

    @pytest.mark.parametrize(
        "archive", [tar(("name", None, "d")), tar(("name", b"/etc/passwd", "l")), [], [b"x" * 600]]
    )
    async def test_what_is_no_file(self, archive: list[bytes]) -> None:
        engine, archives = self.made()
        engine.archive = archive
        with pytest.raises(EngineError):
            await archives.get_file("demo", "/path", 100_000)
