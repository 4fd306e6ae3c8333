"""Links that a container has planted in its home, and what the host then does there. covers: T1, M3"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from cc_bridge.engine.archives import tar_of_tree, unpack
from cc_bridge.engine.images import BuildContext
from cc_bridge.errors import EngineError, InvalidInput
from cc_bridge.instances.docker_container import DockerContainer
from cc_bridge.instances.registry import Registry
from cc_bridge.manager.provisions import project_home
from cc_bridge.record import ClaudeInstance


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory of the host user's."""
    path = tmp_path / "ssh"
    path.mkdir(mode=0o700)
    (path / "id").write_text("the host's secret")
    return path


def untouched(secret: Path) -> bool:
    names = sorted(path.name for path in secret.iterdir())
    return secret.stat().st_mode & 0o777 == 0o700 and names == ["id"] and (secret / "id").stat().st_mode & 0o77 == 0o44


class NoEngine:
    """A client that is never asked anything."""


@pytest.mark.parametrize("link", [".claude", ".claude/.credentials.json"])
def test_a_project_s_home(tmp_path: Path, secret: Path, link: str) -> None:
    home = tmp_path / "state" / "projects" / "shop"
    (home / link).parent.mkdir(parents=True)
    (home / link).symlink_to(secret)
    if link == ".claude":
        with pytest.raises(InvalidInput, match=r"\.claude cannot be used.*remove it"):
            project_home(tmp_path / "state", "shop")
    else:
        project_home(tmp_path / "state", "shop")
    assert untouched(secret)


@pytest.mark.parametrize("link", [".claude", ".claude/.credentials.json"])
def test_an_instance_s_home_when_it_is_given_the_login(
    tmp_path: Path, secret: Path, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / ".credentials.json").touch()
    registry = Registry(tmp_path / "state")
    record = ClaudeInstance.of(name="demo", kind="docker", image="i", workspace=tmp_path, credentials=True)
    instance = DockerContainer(record, NoEngine(), registry=registry)  # type: ignore[arg-type]
    instance._prepare_home()
    home = registry.home("demo").claude_home
    (home / link).parent.mkdir(parents=True)
    (home / link).symlink_to(secret if link == ".claude" else secret / "new")
    if link == ".claude":
        with pytest.raises(InvalidInput, match=r"demo: .*\.claude cannot be used.*remove it"):
            instance._container.plan.spec("i", Path("agent.pyz"), "/agent.pyz")
    else:
        instance._container.plan.spec("i", Path("agent.pyz"), "/agent.pyz")
    assert untouched(secret)


def archive(*members: tuple[str, bytes, str | bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind, content in members:
            header = tarfile.TarInfo(name)
            header.type = kind
            if isinstance(content, str):
                header.linkname = content
                tar.addfile(header)
            else:
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return made.getvalue()


def test_what_is_copied_out_is_not_written_over_a_link(tmp_path: Path, secret: Path) -> None:
    hostile = archive(
        ("top", tarfile.DIRTYPE, b""),
        ("top/link", tarfile.SYMTYPE, str(secret)),
        ("top/link/id", tarfile.REGTYPE, b"overwritten"),
        ("top/../../../ssh/id", tarfile.REGTYPE, b"overwritten"),
        ("top/file", tarfile.REGTYPE, b"fine"),
        ("top/file", tarfile.REGTYPE, b"twice"),
    )
    with pytest.raises(EngineError, match="no proper archive"):
        unpack([hostile], tmp_path / "out")
    assert untouched(secret)
    assert not (tmp_path / "out").exists()


def test_what_is_copied_out_is_unpacked_into_the_directory_that_was_made_for_it(tmp_path: Path, secret: Path) -> None:
    """A link takes the directory's place while it is filled, as a container could do that writes to its parent."""

    def chunks() -> object:
        yield archive(("top", tarfile.DIRTYPE, b""), ("top/a", tarfile.REGTYPE, b"x"))[:1024]
        (scratch,) = tmp_path.glob(".out.*")
        (scratch / "content").rename(tmp_path / "moved")
        (scratch / "content").symlink_to(secret)
        yield archive(("top/a", tarfile.REGTYPE, b"x"))

    with pytest.raises((EngineError, InvalidInput)):
        unpack(chunks(), tmp_path / "out")  # type: ignore[arg-type]
    assert untouched(secret)


def test_a_path_without_end_is_left_out(tmp_path: Path) -> None:
    deep = "top/" + "d/" * 1100 + "file"
    left = unpack([archive(("top", tarfile.DIRTYPE, b""), (deep, tarfile.REGTYPE, b"x"))], tmp_path / "out")
    assert left == [deep]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_patterns_of_what_is_to_be_left_out_are_bounded(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("*.log\n# a ** b\n!**/keep/**\n")
    BuildContext.of("COPY . .", tmp_path)
    (tmp_path / ".dockerignore").write_text("*a*a*a*a*a*b\n")
    with pytest.raises(InvalidInput, match="more than 4 wildcards"):
        BuildContext.of("COPY . .", tmp_path)
    (tmp_path / ".dockerignore").unlink()
    (tmp_path / ".dockerignore").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="cannot be read"):
        BuildContext.of("COPY . .", tmp_path)


def test_what_is_copied_in_has_links_and_not_what_they_lead_to(tmp_path: Path, secret: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("fine")
    (source / "link").symlink_to(secret / "id")
    (source / "sub" / "up").symlink_to(secret)
    with tar_of_tree(source, "name", 1000, 1000) as made, tarfile.open(fileobj=made) as tar:
        found = {member.name: member for member in tar}
        made.seek(0)
        assert b"the host's secret" not in made.read()
    assert set(found) == {"name", "name/link", "name/sub", "name/sub/file", "name/sub/up"}
    assert found["name/link"].issym()
    assert found["name/sub/up"].issym()
    assert all((member.uid, member.gid) == (1000, 1000) for member in found.values())


def test_directories_without_end_are_said(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(120):
        deep = deep / "d"
        deep.mkdir()
    with pytest.raises(InvalidInput, match="nested too deeply"):
        tar_of_tree(tmp_path / "d", "d", 0, 0)


def test_a_build_s_context_has_links_and_not_what_they_lead_to(tmp_path: Path, secret: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "file").write_text("fine")
    (work / "link").symlink_to(secret / "id")
    (work / "directory").symlink_to(secret)
    context = BuildContext.of("FROM x\nCOPY . .\n", work)
    with context.archive() as made:
        content = made.read()
    assert b"the host's secret" not in content
    assert b"fine" in content
    before = context.digest({})
    (work / "link").unlink()
    (work / "link").symlink_to(secret / "other")
    assert BuildContext.of("FROM x\nCOPY . .\n", work).digest({}) != before, "a link's own content counts"
