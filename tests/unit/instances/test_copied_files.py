"""The copy of a session's files on this machine: what the agent gives, and what a hostile container would."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.instances import copied_files
from cc_bridge.instances.copied_files import TRANSCRIPT, CopiedFiles, FileCopy, Index
from cc_bridge_agent import conversation

SESSION = "0b0a6d04-6f0e-4d0e-8a40-d1b6ed2b1f0c"
OTHER = "1b0a6d04-6f0e-4d0e-8a40-d1b6ed2b1f0c"


class Container:
    """Claude Code's configuration directory of a container, as the agent there sees it."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.transcript = config / "projects" / "-workspace" / f"{SESSION}.jsonl"
        self.transcript.parent.mkdir(parents=True)

    def request(self, **fields: Any) -> dict[str, Any]:
        return {"session": SESSION, "project": "-workspace", "config": str(self.config), **fields}

    def give(self, copy: CopiedFiles, most: int = 1 << 30) -> bytes:
        said = io.BytesIO()
        conversation.give(self.request(have=copy.have(SESSION), most=most, mark=copy.next_mark()), said)
        return said.getvalue()


def content(copy: CopiedFiles, name: str = TRANSCRIPT) -> bytes:
    file = copy.index().files[name]
    return b"".join(copy.read(file, file.size))


def header(name: str, size: int, start: int = 0) -> bytes:
    return json.dumps({"name": name, "from": start, "size": size}).encode() + b"\n"


END = b'{"end": true}\n'


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path / "config")


@pytest.fixture
def copy(tmp_path: Path) -> CopiedFiles:
    return CopiedFiles(tmp_path / "copy")


def test_only_what_is_new_is_copied(container: Container, copy: CopiedFiles) -> None:
    container.transcript.write_bytes(b"one\n" * 5000)
    assert copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy))) == 20_000
    with container.transcript.open("ab") as file:
        file.write(b"two\nhal")
    given_now = container.give(copy)
    assert copy.keep(SESSION, copy.next_mark(), io.BytesIO(given_now)) == 7
    assert len(given_now) < 200
    assert content(copy) == b"one\n" * 5000 + b"two\n", "a line that is not whole does not count"
    with container.transcript.open("ab") as file:
        file.write(b"f\n")
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    assert content(copy) == container.transcript.read_bytes()


def test_a_file_that_was_written_anew_is_copied_as_a_whole(container: Container, copy: CopiedFiles) -> None:
    container.transcript.write_bytes(b"one\ntwo\n")
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    container.transcript.write_bytes(b"one\nTWO\nthree\n")
    assert copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy))) == 14
    assert content(copy) == b"one\nTWO\nthree\n"
    container.transcript.write_bytes(b"")
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    assert content(copy) == b""
    assert len(os.listdir(copy.directory)) == 3, "the index, the lock, and one file"


def test_what_belongs_to_the_session_comes_with_it(container: Container, copy: CopiedFiles) -> None:
    container.transcript.write_bytes(b"{}\n")
    files = {
        container.transcript.with_suffix("") / "subagents" / "agent-1.jsonl": b"sub\npart",
        container.transcript.with_suffix("") / "tool-results" / "r.txt": b"much",
        container.config / "tasks" / SESSION / "1.json": b"{}",
        container.config / "file-history" / SESSION / "a1@v2": b"before",
        container.config / "tasks" / SESSION / ".lock": b"",
        container.config / "tasks" / OTHER / "1.json": b"another's",
    }
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (container.config / "tasks" / SESSION / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(container.config / "tasks" / SESSION / "fifo")
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    names = ["transcript", "session/subagents/agent-1.jsonl", "session/tool-results/r.txt", "tasks/1.json"]
    assert [*copy.index().files] == [*names, "file-history/a1@v2"]
    assert content(copy, "session/subagents/agent-1.jsonl") == b"sub\n"
    assert content(copy, "file-history/a1@v2") == b"before"
    (container.config / "tasks" / SESSION / "1.json").unlink()
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    assert "tasks/1.json" not in copy.index().files


def test_the_agent_leaves_out_what_is_too_large(container: Container, copy: CopiedFiles) -> None:
    container.transcript.write_bytes(b"{}\n")
    (container.config / "tasks" / SESSION).mkdir(parents=True)
    (container.config / "tasks" / SESSION / "1.json").write_bytes(b"x" * 100)
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy, most=50)))
    assert [*copy.index().files] == [TRANSCRIPT]


def test_another_session_takes_its_place(container: Container, copy: CopiedFiles) -> None:
    container.transcript.write_bytes(b"{}\n")
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    assert not copy.have(OTHER)
    before = copy.index()
    copy.keep(OTHER, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 2) + b"a\n" + END))
    now = copy.index()
    assert (now.session, now.copy, now.number) == (OTHER, before.copy, 2)
    assert content(copy) == b"a\n"
    assert not copy.have(SESSION)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        END,
        b"no JSON\n",
        b"[" * 4000 + b"\n",
        b"x" * 10_000,
        header(TRANSCRIPT, 5) + b"ab",
        header(TRANSCRIPT, 2) + b"a\n",
        header(TRANSCRIPT, -1) + END,
        header(TRANSCRIPT, 10, 5) + b"12345" + END,
        header(TRANSCRIPT, 3, 4) + END,
        header(TRANSCRIPT, 1 << 60) + b"1" + END,
        header(TRANSCRIPT, 2) * 1 + b"a\n" + header(TRANSCRIPT, 2) + b"a\n" + END,
        header("tasks/1.json", 1) + b"1" + END,
        *[
            header(TRANSCRIPT, 2) + b"a\n" + header(name, 1) + b"1" + END
            for name in ("../x", "tasks/../../x", "/etc/x", "tasks//x", "tasks/.x", "tasks", "tasks/" + "a/" * 9 + "a")
        ],
        header(TRANSCRIPT, 2) + b"a\n" + header("tasks/" + "a" * 5000, 1) + b"1" + END,
        header(TRANSCRIPT, 2) + b"a\n" + b"".join(header(f"tasks/{n}", 0) for n in range(3000)) + END,
    ],
    ids=range(22),
)
def test_what_is_no_session_changes_nothing(copy: CopiedFiles, tmp_path: Path, sent: bytes) -> None:
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 2) + b"1\n" + END))
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ValueError, RecursionError)):
        copy.keep(SESSION, copy.next_mark(), io.BytesIO(sent))
    assert content(copy) == b"1\n"
    assert sorted(tmp_path.iterdir()) == before


def room_of(copy: CopiedFiles) -> dict[str, int]:
    """Sizes of what is in the directory."""
    return {path.name: path.stat().st_size for path in copy.directory.iterdir()}


@pytest.mark.parametrize("start", [0, 2], ids=["anew", "behind what counts"])
def test_what_ends_wrongly_leaves_nothing_on_the_disk(copy: CopiedFiles, start: int) -> None:
    """However often it comes: it would fill it."""
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 2) + b"1\n" + END))
    before = room_of(copy)
    more = b"x" * (3999 - start) + b"\n"
    sent = header(TRANSCRIPT, 4000, start) + more + header("tasks/1", 4) + b"1234" + b"no end\n"
    with pytest.raises(ValueError, match=r"Expecting value|header"):
        copy.keep(SESSION, copy.next_mark(), io.BytesIO(sent))
    assert room_of(copy) == before
    assert content(copy) == b"1\n"


def test_the_first_that_ends_wrongly_leaves_nothing(copy: CopiedFiles) -> None:
    with pytest.raises(ValueError, match="missing"):
        copy.keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 4) + b"1\n"))
    assert [*room_of(copy)] == ["lock"]


def lose(copy: CopiedFiles, name: str, how: str) -> None:
    """Something of this machine's takes a file away, or a part of it."""
    path = copy.directory / copy.index().files[name].blob
    if how == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_a_file_that_was_lost_here_is_copied_anew(container: Container, copy: CopiedFiles, how: str) -> None:
    container.transcript.write_bytes(b"{}\n")
    (container.config / "tasks" / SESSION).mkdir(parents=True)
    (container.config / "tasks" / SESSION / "1.json").write_bytes(b"{}")
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    lose(copy, "tasks/1.json", how)
    assert [*copy.index().files] == [*copy.have(SESSION)] == [TRANSCRIPT]
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    assert content(copy, "tasks/1.json") == b"{}"

    before = copy.index()
    lose(copy, TRANSCRIPT, how)
    assert (copy.index().session, copy.index().files) == ("", {}), "without its transcript it is none"
    assert copy.next_mark() == (before.copy, before.number + 1), "what is there is of before all the same"
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(container.give(copy)))
    assert content(copy) == b"{}\n"
    assert len(room_of(copy)) == 4


def test_who_reads_while_another_program_sweeps_finds_the_new_copy(
    copy: CopiedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 2) + b"1\n" + END))
    named = copied_files._named

    def named_long_ago(root: int) -> Index:
        monkeypatch.setattr(copied_files, "_named", named)
        found = named(root)
        CopiedFiles(copy.directory).keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 2) + b"2\n" + END))
        return found

    monkeypatch.setattr(copied_files, "_named", named_long_ago)
    assert content(copy) == b"2\n"


def test_all_files_together_are_bounded(copy: CopiedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied_files, "LARGEST", 10)
    with pytest.raises(ValueError, match="too large"):
        copy.keep(
            SESSION,
            copy.next_mark(),
            io.BytesIO(header(TRANSCRIPT, 6) + b"12345\n" + header("tasks/1", 6) + b"123456" + END),
        )


def test_a_link_in_the_directory_is_not_followed(copy: CopiedFiles, tmp_path: Path) -> None:
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 2) + b"1\n" + END))
    (tmp_path / "secret").write_bytes(b"secret")
    file = copy.index().files[TRANSCRIPT]
    blob = copy.directory / file.blob
    blob.unlink()
    blob.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        copy.open(file)
    with pytest.raises(ValueError, match="where nobody was"):
        copy.keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 4, 2) + b"2\n" + END))
    assert (tmp_path / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("index", ["", "{", "[]", '{"format": 2}', '{"format": 1, "files": {"../x": ["../y", 1]}}'])
def test_an_index_that_cannot_be_read_is_none(copy: CopiedFiles, index: str) -> None:
    copy.make()
    (copy.directory / "index.json").write_text(index)
    assert not copy.index().session
    copy.keep(SESSION, copy.next_mark(), io.BytesIO(header(TRANSCRIPT, 2) + b"1\n" + END))
    assert content(copy) == b"1\n"


def test_one_program_copies_at_a_time(copy: CopiedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sent(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            with pytest.raises(BlockingIOError):
                CopiedFiles(copy.directory).keep(SESSION, ("x", 1), io.BytesIO(END))
            return super().readline(size)

    copy.keep(SESSION, copy.next_mark(), Sent(header(TRANSCRIPT, 2) + b"1\n" + END))
    assert content(copy) == b"1\n"


class Killed(BaseException):
    """The program ends here."""


class UntilKilled(io.BytesIO):
    """Ends the program after so many reads."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        if not self.reads:
            raise Killed
        self.reads -= 1
        return super().read(size)


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "write anew", "cut"]), st.binary(max_size=40), st.integers(0, 3)),
        max_size=12,
    )
)
def test_whoever_is_killed_leaves_one_copy_or_the_other(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes, int]]
) -> None:
    """What is there is always what the transcript was at some time, up to its last whole line."""
    place = tmp_path_factory.mktemp("place")
    container, copy = Container(place / "config"), CopiedFiles(place / "copy")
    container.transcript.write_bytes(b"")
    kept: bytes | None = None
    for what, data, reads in steps:
        now = container.transcript.read_bytes()
        now = {"add": now + data, "write anew": data, "cut": now[: len(data)]}[what]
        container.transcript.write_bytes(now)
        (container.config / "tasks" / SESSION).mkdir(parents=True, exist_ok=True)
        (container.config / "tasks" / SESSION / "1.json").write_bytes(data)
        sent = UntilKilled(container.give(copy))
        sent.reads = reads
        try:
            copy.keep(SESSION, copy.next_mark(), sent)
            kept = now[: now.rfind(b"\n") + 1]
        except Killed:
            pass
        if kept is not None:
            assert content(copy) == kept


@given(
    st.lists(st.sampled_from([b"a", b"word", b"wor", b"\n", b"xx"]), max_size=40), st.integers(1, 9), st.integers(0, 3)
)
def test_the_lines_after_the_last_that_has_a_word(pieces: list[bytes], chunk: int, beyond: int) -> None:
    """Wherever the pieces end in which it is read, and whatever there is behind what counts."""
    whole = b"".join(pieces)
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(copied_files, "_CHUNK", chunk)
        copy = CopiedFiles(Path(made))
        (Path(made) / "blob").write_bytes(whole + b"word\n" * beyond)
        found = copy.lines_after(FileCopy("blob", len(whole)), b"word")
    at = whole.rfind(b"word")
    assert found == (None if at < 0 else [line.decode() for line in whole[at:].splitlines(keepends=True)][1:])


def test_a_word_is_not_searched_without_end(copy: CopiedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied_files, "_SEARCHED", 100)
    copy.make()
    for content, found in [
        (b"word\n" + b"x" * 90, True),
        (b"word\n" + b"x" * 100, False),
        (b"x" * 200 + b"word", True),
    ]:
        (copy.directory / "blob").write_bytes(content)
        assert (copy.lines_after(FileCopy("blob", len(content)), b"word") is not None) is found


def test_lines_that_are_too_long_to_be_decoded_are_left_out(copy: CopiedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied_files, "_LONGEST_LINE", 10)
    copy.make()
    content = b"a prompt that is long: word, and goes on\n" + b"short\n" + b"x" * 10 + b"\nlast\n"
    (copy.directory / "blob").write_bytes(content)
    assert copy.lines_after(FileCopy("blob", len(content)), b"word") == ["short\n", "last\n"]
