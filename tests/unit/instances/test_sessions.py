"""Conversations apart from their instances: what a container or a stranger wrote is not believed. covers: R5"""

from __future__ import annotations

import io
import json
import os
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import InvalidInput
from cc_bridge.engine.archives import tar_of
from cc_bridge.instances import sessions as module
from cc_bridge.instances.sessions import SavedConversation, Sessions, export_session, open_session, session_path

SESSION = "70239f12-b8a6-4331-8634-823542f95e3f"


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "kept")


def write(home: Path, text: str = "{}\n") -> Path:
    project = home / ".claude" / "projects" / "-workspace"
    project.mkdir(parents=True)
    (project / f"{SESSION}.jsonl").write_text(text)
    return project


def read(sessions: Sessions) -> bytes:
    with sessions.open(SESSION) as content:
        return content.read()


def test_kept_without_an_unfinished_last_line(tmp_path: Path, sessions: Sessions) -> None:
    write(tmp_path / "home", 'a line\nanother\n{"torn')
    with open_session(tmp_path / "home" / ".claude", SESSION) as content:
        sessions.keep(SESSION, content)
    assert read(sessions) == b"a line\nanother\n"
    (file,) = sessions.directory.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_that_is_not_kept(sessions: Sessions) -> None:
    assert not sessions.has(SESSION)
    with pytest.raises(InvalidInput, match=SESSION):
        sessions.open(SESSION)


def test_one_that_is_too_large_leaves_nothing(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(InvalidInput, match="larger than 100 bytes"):
        sessions.keep(SESSION, io.BytesIO(b"x" * 101))
    assert list(sessions.directory.iterdir()) == []


@pytest.mark.parametrize("where", ["file", "project", "projects", ".claude"])
def test_links_are_not_followed(tmp_path: Path, where: str) -> None:
    home, secret = tmp_path / "home", tmp_path / "secret"
    project = write(tmp_path / "elsewhere", "a secret\n")
    secret.write_text("a secret\n")
    home.mkdir()
    match where:
        case "file":
            own = write(home)
            (own / f"{SESSION}.jsonl").unlink()
            (own / f"{SESSION}.jsonl").symlink_to(secret)
        case "project":
            (home / ".claude" / "projects").mkdir(parents=True)
            (home / ".claude" / "projects" / "-workspace").symlink_to(project)
        case "projects":
            (home / ".claude").mkdir()
            (home / ".claude" / "projects").symlink_to(project.parent)
        case ".claude":
            (home / ".claude").symlink_to(project.parent.parent)
    with pytest.raises(OSError), open_session(home / ".claude", SESSION):  # which one, is all the same
        pass


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    project = write(tmp_path / "home")
    (project / f"{SESSION}.jsonl").unlink()
    os.mkfifo(project / f"{SESSION}.jsonl")
    with pytest.raises(FileNotFoundError), open_session(tmp_path / "home" / ".claude", SESSION):
        pass


def test_names(sessions: Sessions) -> None:
    kept = SavedConversation(SESSION, "local", "/workspace")
    sessions.keep(SESSION, io.BytesIO(b"{}\n"))
    sessions.remember("demo", kept)
    assert sessions.recall("demo") == kept
    assert sessions.recall("another") is None
    sessions.forget("demo")
    sessions.forget("another")
    assert sessions.recall("demo") is None
    assert not sessions.has(SESSION)


@pytest.mark.parametrize("text", ["", "[]", '{"session_id": 1}', "\xff"])
def test_a_name_that_cannot_be_read_is_none(sessions: Sessions, text: str) -> None:
    (sessions.directory / "names").mkdir(parents=True)
    (sessions.directory / "names" / "demo.json").write_text(text, encoding="latin-1")
    assert sessions.recall("demo") is None


def test_old_ones_are_swept(sessions: Sessions) -> None:
    sessions.keep(SESSION, io.BytesIO(b"{}\n"))
    sessions.remember("old", SavedConversation(SESSION, "local", "/"))
    sessions.remember("new", SavedConversation(SESSION, "local", "/"))
    for path in (sessions.directory / f"{SESSION}.jsonl", sessions.directory / "names" / "old.json"):
        os.utime(path, (0, 0))
    sessions.sweep()
    assert not sessions.has(SESSION)
    assert sessions.recall("old") is None
    assert sessions.recall("new")


def test_exported_and_imported(tmp_path: Path, sessions: Sessions) -> None:
    target = tmp_path / "file.tar.gz"
    text = b'{"a": 1}\n' * 1000
    export_session(SESSION, io.BytesIO(text + b"torn"), {"instance": "demo"}, target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert sessions.import_file(target) == SESSION
    assert read(sessions) == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.tar.gz", "kept"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        export_session(SESSION, io.BytesIO(b""), {}, tmp_path / "nowhere" / "file")


def tar_with(*members: tuple[str, bytes] | tarfile.TarInfo) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tarfile.open(path, "w:gz") as tar:
            for member in members:
                if isinstance(member, tarfile.TarInfo):
                    tar.addfile(member)
                else:
                    header = tarfile.TarInfo(member[0])
                    header.size = len(member[1])
                    tar.addfile(header, io.BytesIO(member[1]))

    return write


def link(name: str, target: str) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = tarfile.SYMTYPE, target
    return header


ABOUT = ("conversation.json", json.dumps({"format": 1, "session_id": SESSION}).encode())


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"no archive"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        tar_with(),
        tar_with((f"{SESSION}.jsonl", b"{}\n")),
        tar_with(("conversation.json", b"[]"), (f"{SESSION}.jsonl", b"{}\n")),
        tar_with(("conversation.json", b'{"format": 2}'), (f"{SESSION}.jsonl", b"{}\n")),
        tar_with(("conversation.json", b'{"format": 1, "session_id": "../../x"}'), ("../../x.jsonl", b"{}\n")),
        tar_with(ABOUT),
        tar_with(ABOUT, ("another.jsonl", b"{}\n")),
        tar_with(ABOUT, (f"{SESSION}.jsonl", b"no JSON\n")),
        tar_with(ABOUT, link(f"{SESSION}.jsonl", "/etc/passwd")),
        tar_with(link("conversation.json", "/etc/passwd")),
    ],
    ids=range(13),
)
def test_a_file_that_is_no_conversation(tmp_path: Path, sessions: Sessions, make: Any) -> None:
    make(tmp_path / "file")
    with pytest.raises(InvalidInput, match="is no exported conversation"):
        sessions.import_file(tmp_path / "file")
    assert not sessions.directory.exists() or list(sessions.directory.iterdir()) == []


def test_no_file(tmp_path: Path, sessions: Sessions) -> None:
    with pytest.raises(InvalidInput, match="there is no file"):
        sessions.import_file(tmp_path / "nowhere")


def test_owner_and_modes_in_the_archive() -> None:
    path = session_path(SESSION, "/a b/c")
    assert str(path) == f"projects/-a-b-c/{SESSION}.jsonl"
    with tar_of(path, io.BytesIO(b"text"), 1000, 1001) as archive, tarfile.open(fileobj=archive) as tar:
        found = [(member.name, oct(member.mode), member.uid, member.gid, member.isdir()) for member in tar]
    assert found == [
        ("projects", "0o700", 1000, 1001, True),
        ("projects/-a-b-c", "0o700", 1000, 1001, True),
        (str(path), "0o600", 1000, 1001, False),
    ]


def many_projects(home: Path, count: int) -> None:
    for number in range(count):
        (home / ".claude" / "projects" / f"-decoy-{number}").mkdir(parents=True)


def test_a_session_among_many_projects_takes_few_descriptors(tmp_path: Path) -> None:
    """covers: T4"""
    many_projects(tmp_path, 400)
    (tmp_path / ".claude" / "projects" / "-work").mkdir()
    (tmp_path / ".claude" / "projects" / "-work" / f"{SESSION}.jsonl").write_text("found\n")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, before[1]))
    try:
        with open_session(tmp_path / ".claude", SESSION) as content:
            assert content.read() == b"found\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_descriptors_left_is_not_no_session(tmp_path: Path) -> None:
    many_projects(tmp_path, 3)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, before[1]))
    held = []
    try:
        while True:
            try:
                held.append(os.open("/", os.O_RDONLY))
            except OSError:
                break
        for _ in range(4):
            os.close(held.pop())
        with pytest.raises(OSError, match="Too many open files"), open_session(tmp_path / ".claude", SESSION):
            pass
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_quarter_of_a_gibibyte_and_thirty_days() -> None:
    assert (module.LARGEST, module._KEPT) == (256 * 2**20, 30 * 86400)


def test_one_of_just_the_limit_is_kept(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100)
    sessions.keep(SESSION, io.BytesIO(b"x" * 99 + b"\n"))
    assert sessions.has(SESSION)
    assert len(read(sessions)) == 100


@pytest.mark.parametrize(("age", "kept"), [(30 * 86400 - 3600, True), (30 * 86400 + 3600, False)])
def test_they_are_kept_for_thirty_days(sessions: Sessions, age: float, kept: bool) -> None:
    sessions.keep(SESSION, io.BytesIO(b"{}\n"))
    written = time.time() - age
    os.utime(sessions.directory / f"{SESSION}.jsonl", (written, written))
    sessions.sweep()
    assert sessions.has(SESSION) is kept


def test_a_sweep_leaves_directories_and_follows_no_link(sessions: Sessions, tmp_path: Path) -> None:
    sessions.sweep()  # there is nothing yet
    sessions.keep(SESSION, io.BytesIO(b"{}\n"))
    (sessions.directory / "names").mkdir()
    os.utime(sessions.directory / "names", (0, 0))
    (tmp_path / "old").write_text("precious")
    os.utime(tmp_path / "old", (0, 0))
    (sessions.directory / "link").symlink_to(tmp_path / "old")
    sessions.sweep()
    assert (sessions.directory / "names").is_dir()
    assert (sessions.directory / "link").is_symlink(), "it is young itself"


def test_it_is_for_its_user_alone(sessions: Sessions) -> None:
    old = os.umask(0)
    try:
        sessions.keep(SESSION, io.BytesIO(b"{}\n"))
        sessions.remember("demo", SavedConversation(SESSION, "local", "/"))
    finally:
        os.umask(old)
    for directory in (sessions.directory, sessions.directory / "names"):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_keeping_again_takes_the_old_one_s_place(sessions: Sessions) -> None:
    for text in (b"one\n", b"two\n"):
        sessions.keep(SESSION, io.BytesIO(text))
    assert read(sessions) == b"two\n"


def test_an_export_that_fails_leaves_nothing_and_spares_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 10)
    target = tmp_path / "file"
    target.write_text("precious")
    with pytest.raises(InvalidInput, match="larger than 10 bytes"):
        export_session(SESSION, io.BytesIO(b"x" * 11), {}, target)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "precious"


def test_an_export_says_what_it_is(tmp_path: Path) -> None:
    export_session(SESSION, io.BytesIO(b"{}\n"), {"instance": "demo"}, tmp_path / "file")
    with tarfile.open(tmp_path / "file", "r:gz") as tar:
        about, session = tar.getmembers()
        content = tar.extractfile(about)
        assert content is not None
        assert json.loads(content.read()) == {"format": 1, "session_id": SESSION, "instance": "demo"}
    assert (about.name, about.mode, session.name, session.mode) == (
        "conversation.json",
        0o600,
        f"{SESSION}.jsonl",
        0o600,
    )
    assert abs(session.mtime - time.time()) < 86400


def test_forgetting_touches_only_what_an_id_names(sessions: Sessions) -> None:
    (sessions.directory / "names").mkdir(parents=True)
    (sessions.directory / "precious.jsonl").write_text("x")
    sessions.remember("demo", SavedConversation("precious", "local", "/"))
    sessions.forget("demo")
    assert (sessions.directory / "precious.jsonl").exists()
    assert sessions.recall("demo") is None
