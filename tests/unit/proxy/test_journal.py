"""The proxy's files: bounded, and whole after a kill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cc_bridge.proxy.journal import Journal, network_file, records
from cc_bridge.proxy.notes import Notes


def test_the_files_are_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    journal = Journal(path, largest=1000)
    for number in range(200):
        journal.write({"number": number})
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2000
    numbers = [item["number"] for item in records(path)]
    assert numbers == list(range(numbers[0], 200))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"number": 1}\n{"num')
    Journal(path).write({"number": 2, "path": "/" * 100_000})
    assert [item["number"] for item in records(path)] == [1, 2]
    assert path.stat().st_size < 4000


def test_what_could_not_be_written_is_said_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "later" / "log")
    journal.write({"number": 1})
    (tmp_path / "later").mkdir()
    journal.write({"number": 2})
    assert [item.get("dropped") for item in records(tmp_path / "later" / "log")] == [1]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    Journal(tmp_path / "log").write({"number": 1})
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "a\n", "a" * 64])
def test_hostile_names_name_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no name"):
        network_file(tmp_path, name)


def test_a_write_that_was_cut_leaves_the_value_before() -> None:
    notes = Notes.make()
    assert notes.load() is None
    for number in range(5):
        notes.save({"number": number})
    assert Notes(notes.fd).load() == {"number": 4}
    os.pwrite(notes.fd, b"x", (1 << 26) + 24)  # in the slot of the one that was written last
    assert Notes(notes.fd).load() == {"number": 3}
    os.close(notes.fd)
