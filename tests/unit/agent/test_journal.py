"""The journal: nothing kept is lost, nothing torn is believed. covers: B1"""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_bridge_agent import journal as module
from cc_bridge_agent.journal import Journal

LIMIT = 1_000_000
SIZES = (module.SEGMENT, module.HISTORY, module.HISTORY_AGE)  # before a test makes them smaller


def ignore(seq: int, frame: bytes) -> None:
    pass


def filled(directory: Path, count: int, size: int = 50) -> Journal:
    made = Journal(str(directory), LIMIT, ignore)
    for number in range(made.last + 1, made.last + count + 1):
        made.append([frame(number, size)])
    return made


def frame(number: int, size: int = 50) -> bytes:
    return (b"%d " % number).ljust(size, b"x") + b"\n"


def numbers(journal: Journal, after: int = 0) -> list[int]:
    return [number for number, _ in journal.read(after)]


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 300)
    monkeypatch.setattr(module, "_MARK", 100)


def test_read_from_any_number(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    journal.append([frame(number) for number in range(21, 26)])
    for found in (journal, Journal(str(tmp_path), LIMIT, ignore)):
        for after in range(27):
            assert dict(found.read(after)) == {number: frame(number) for number in range(after + 1, 26)}


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    filled(tmp_path, 7).close()
    journal = filled(tmp_path, 3)
    assert (journal.first, journal.last) == (1, 10)
    assert numbers(journal) == list(range(1, 11))


def test_an_empty_one(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), LIMIT, ignore)
    assert (journal.first, journal.last, journal.size) == (1, 0, 0)
    assert numbers(journal) == []


@given(cut=st.integers(0, 10_000), count=st.integers(1, 20))
@settings(max_examples=100)
def test_a_torn_end_is_cut_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, cut: int, count: int) -> None:
    directory = tmp_path_factory.mktemp("journal")
    filled(directory, count).close()
    last = max(directory.glob("*.log"))
    size = last.stat().st_size
    cut %= size + 1
    os.truncate(last, size - cut)
    journal = Journal(str(directory), LIMIT, ignore)
    whole = numbers(journal)
    assert whole == list(range(1, len(whole) + 1))
    assert len(whole) >= count - 1 - cut // 60
    journal.append([b"after\n"])
    assert numbers(Journal(str(directory), LIMIT, ignore)) == [*whole, len(whole) + 1]


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(max_examples=100)
def test_a_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, position: int, byte: int) -> None:
    directory = tmp_path_factory.mktemp("journal")
    filled(directory, 20).close()
    path = sorted(directory.glob("*.log"))[1]
    data = bytearray(path.read_bytes())
    data[position % len(data)] = byte
    path.write_bytes(data)
    for number, kept in Journal(str(directory), LIMIT, ignore).read(0):
        assert kept == frame(number)


def test_a_hole_ends_what_is_believed(tmp_path: Path) -> None:
    filled(tmp_path, 20).close()
    sorted(tmp_path.glob("*.log"))[1].unlink()
    journal = Journal(str(tmp_path), LIMIT, ignore)
    assert numbers(journal) == list(range(1, journal.last + 1))
    assert len(list(tmp_path.glob("*.log"))) == 1


def test_what_is_acknowledged_goes_by_segments(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    before = journal.size
    journal.forget(9)
    assert journal.size < before
    assert 1 < journal.first <= 10
    assert numbers(journal, 9) == list(range(10, 21))
    journal.forget(20)
    assert journal.last == 20
    assert Journal(str(tmp_path), LIMIT, ignore).last == 20, "it must not begin again at one"


def test_full(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), 1000, ignore)
    for number in range(1, 30):
        journal.append([frame(number)])
    assert journal.full
    journal.forget(29)
    assert not journal.full


def test_a_full_disk_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    """Played by a limit on the size of files."""
    journal = filled(tmp_path, 2)
    old, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size + 30, old[1]))
        with pytest.raises(OSError, match="too large"):
            journal.append([frame(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert numbers(journal) == [1, 2]
    journal.append([frame(3)])
    assert numbers(Journal(str(tmp_path), LIMIT, ignore)) == [1, 2, 3]


def test_history_goes_by_size_and_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path, 60)
    kept = journal.size
    journal.trim(50)
    assert journal.size == kept, "it is young, and there is not much of it"
    monkeypatch.setattr(module, "HISTORY", 2000)
    journal.trim(50)
    assert 1500 < journal.size <= 2000 + module.SEGMENT
    oldest = min(tmp_path.glob("*.log"))
    os.utime(oldest, (0, 0))
    journal.trim(50)
    assert not oldest.exists()
    for path in tmp_path.glob("*.log"):
        os.utime(path, (0, 0))
    journal.trim(50)
    assert journal.first <= 51, "what is still needed went with it"
    assert numbers(journal, 50) == list(range(51, 61))


def test_another_journal_has_another_id(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one", 1), filled(tmp_path / "two", 1)
    assert one.id != two.id
    assert filled(tmp_path / "one", 1).id == one.id


def test_what_was_recalled_is_told(tmp_path: Path) -> None:
    filled(tmp_path, 20).close()
    told: list[tuple[int, bytes]] = []
    Journal(str(tmp_path), LIMIT, lambda seq, kept: told.append((seq, kept)))
    assert told == [(number, frame(number)) for number in range(1, 21)]


def test_begun_anew_when_there_was_no_room(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    journal.restart(25)
    assert (journal.first, journal.last, journal.size, numbers(journal)) == (26, 25, 0, [])
    journal.append([frame(26)])
    assert numbers(Journal(str(tmp_path), LIMIT, ignore)) == [26]


def test_what_the_protocol_s_document_says_of_sizes() -> None:
    """docs/protocol.md: segments of 4 MiB; read turns go beyond 16 MiB or after a week."""
    assert SIZES == (4 * 2**20, 16 * 2**20, 7 * 86400)


def test_nothing_is_written_before_the_first_frame(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "sessions" / "main"), LIMIT, ignore)
    assert list(tmp_path.iterdir()) == []
    journal.append([frame(1)])
    assert numbers(journal) == [1]


def test_it_is_for_its_user_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        filled(tmp_path / "journal", 1)
    finally:
        os.umask(old)
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    (segment,) = (tmp_path / "journal").glob("*.log")
    assert segment.stat().st_mode & 0o777 == 0o600


def test_a_link_in_a_segment_s_place_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    journal = Journal(str(tmp_path / "journal"), LIMIT, ignore)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / f"{1:020}.log").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        journal.append([frame(1)])
    assert precious.read_text() == "precious"


def test_segments_begin_when_the_one_before_is_full(tmp_path: Path) -> None:
    """A record has 18 bytes of header and 51 of frame: five of them are beyond 300 bytes, four are not."""
    filled(tmp_path, 11)
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [f"{number:020}.log" for number in (1, 6, 11)]


def test_a_segment_of_just_the_limit_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 4 * 69)
    filled(tmp_path, 5)
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [f"{number:020}.log" for number in (1, 5)]


def test_its_size_is_that_of_its_files(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    journal.append([frame(21), frame(22)])
    for found in (journal, Journal(str(tmp_path), LIMIT, ignore)):
        assert found.size == sum(path.stat().st_size for path in tmp_path.glob("*.log"))
        assert (found.first, found.last) == (1, 22)
    journal.forget(10)
    assert journal.size == sum(path.stat().st_size for path in tmp_path.glob("*.log"))


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    journal = filled(tmp_path, 30)
    numbers(journal)
    assert len(os.listdir("/proc/self/fd")) == before + 1, "one for the newest segment"
    journal.close()
    journal.close()
    again = filled(tmp_path, 30)
    again.restart(60)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("after", [5, 9, 10])
def test_reading_touches_no_segment_that_lies_before(tmp_path: Path, after: int) -> None:
    """Segments begin at 1, 6, 11 and 16: reading on from the end of one opens only those that follow."""
    journal = filled(tmp_path, 20)
    for path in tmp_path.glob("*.log"):
        if int(path.stem) + 5 <= after + 1:
            path.unlink()
    assert numbers(journal, after) == list(range(after + 1, 21))


def test_reading_after_the_newest_touches_none(tmp_path: Path) -> None:
    journal = filled(tmp_path, 7)
    for path in tmp_path.glob("*.log"):
        path.unlink()
    assert numbers(journal, 7) == []


@given(st.lists(st.integers(1, 250), min_size=1, max_size=60), st.integers(1, 60))
def test_reading_begins_not_far_before_what_is_wanted(sizes: list[int], wanted: int) -> None:
    segment, offsets = module._Segment(1), []
    for number, size in enumerate(sizes, 1):
        offsets.append(segment.size)
        segment.grow(number, size)
    wanted = min(wanted, len(sizes))
    number, offset = segment.mark(wanted)
    assert number <= wanted
    assert offset == offsets[number - 1]
    assert offsets[wanted - 1] - offset < 100, "module._MARK"


def test_forgetting_ends_at_a_segment_s_edge(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    journal.forget(4)
    assert journal.first == 1, "frame 5 is in the same segment, and is still needed"
    journal.forget(5)
    assert journal.first == 6
    assert numbers(journal) == list(range(6, 21))
    again = Journal(str(tmp_path), LIMIT, ignore)
    assert (again.first, again.last) == (6, 20)


def test_trimming_ends_at_a_segment_s_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY", 0)
    journal = filled(tmp_path, 20)
    journal.trim(4)
    assert journal.first == 1
    journal.trim(5)
    assert journal.first == 6
    journal.trim(20)
    assert journal.first == 16, "the newest segment stays"


def test_history_of_just_the_size_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path, 20)
    monkeypatch.setattr(module, "HISTORY", journal.size)
    journal.trim(20)
    assert journal.first == 1
    monkeypatch.setattr(module, "HISTORY", journal.size - 1)
    journal.trim(20)
    assert journal.first == 6, "no more than what is too much"


@pytest.mark.parametrize(("age", "first"), [(7 * 86400 - 600, 1), (7 * 86400 + 600, 6)])
def test_history_is_kept_for_a_week(tmp_path: Path, age: float, first: int) -> None:
    journal = filled(tmp_path, 20)
    written = time.time() - age
    os.utime(min(tmp_path.glob("*.log")), (written, written))
    journal.trim(20)
    assert journal.first == first


def test_it_is_full_at_its_limit(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), 2 * 69, ignore)
    journal.append([frame(1)])
    assert not journal.full
    journal.append([frame(2)])
    assert journal.full


def test_what_is_torn_is_cut_from_the_file(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    (path,) = tmp_path.glob("*.log")
    os.truncate(path, 3 * 69 - 1)
    Journal(str(tmp_path), LIMIT, ignore)
    assert path.stat().st_size == 2 * 69


def test_numbers_go_on_after_a_segment_that_is_empty(tmp_path: Path) -> None:
    """The agent was killed when it had made the file and not written the record; what was before is forgotten."""
    journal = filled(tmp_path, 6)
    journal.forget(5)
    journal.close()
    os.truncate(tmp_path / f"{6:020}.log", 0)
    again = Journal(str(tmp_path), LIMIT, ignore)
    assert (again.first, again.last, again.id) == (6, 5, journal.id)
    again.append([frame(6)])
    assert numbers(again) == [6]


def test_what_follows_a_hole_is_removed(tmp_path: Path) -> None:
    """Or its numbers would be met again, with other frames, when the journal has grown so far."""
    filled(tmp_path, 20).close()
    (tmp_path / f"{6:020}.log").unlink()
    journal = filled(tmp_path, 15)
    assert dict(journal.read(0)) == {number: frame(number) for number in range(1, 21)}


def test_files_that_are_no_segments_are_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    (tmp_path / "notes.log").write_text("x")
    assert numbers(Journal(str(tmp_path), LIMIT, ignore)) == [1, 2, 3]
    assert (tmp_path / "notes.log").read_text() == "x"


@pytest.mark.parametrize("header", [b"00000000 00000000 ", b"7fffffff 00000000 ", b"ffffffff 00000000 ", b"0" * 18])
def test_a_length_that_no_frame_has_ends_what_is_believed(tmp_path: Path, header: bytes) -> None:
    filled(tmp_path, 2).close()
    (path,) = tmp_path.glob("*.log")
    with path.open("ab") as file:
        file.write(header + b"rest")
    journal = Journal(str(tmp_path), LIMIT, ignore)
    assert (journal.last, path.stat().st_size) == (2, 2 * 69)


def test_begun_anew_it_has_none_of_the_old_files(tmp_path: Path) -> None:
    journal = filled(tmp_path, 20)
    journal.restart(25)
    assert list(tmp_path.glob("*.log")) == []
    journal.append([frame(26)])
    again = Journal(str(tmp_path), LIMIT, ignore)
    assert (again.first, again.last, again.id) == (26, 26, journal.id)


def test_trimming_takes_no_more_than_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 1)
    journal = filled(tmp_path, 9)
    monkeypatch.setattr(module, "HISTORY", journal.size - 1)
    journal.trim(9)
    assert journal.first == 2
