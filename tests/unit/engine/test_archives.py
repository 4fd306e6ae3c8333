"""What comes out of a container is unpacked without trust in it. covers: R5"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cc_bridge import EngineError
from cc_bridge.engine.archives import tar_of_tree, unpack
from cc_bridge.errors import InvalidInput


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
