"""The journal: nothing kept is lost, nothing torn is believed. covers: B1"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_bridge_agent import journal as module
from cc_bridge_agent.journal import Journal

LIMIT = 1_000_000


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
