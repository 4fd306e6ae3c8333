"""What a container can write is reached without following a link. covers: T1"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cc_bridge.beneath import create_file, link_target, make_directory, open_beneath, opened, read_file


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory of the host user's, which nothing may touch."""
    path = tmp_path / "secret"
    path.mkdir(0o700)
    (path / "file").write_text("secret")
    return path


@pytest.fixture
def home(tmp_path: Path, secret: Path) -> Path:
    """A directory of a container's, with links planted in it."""
    path = tmp_path / "home"
    path.mkdir()
    (path / "link").symlink_to(secret)
    (path / "file-link").symlink_to(secret / "file")
    (path / "real").mkdir()
    (path / "real" / "file").write_text("x" * 10)
    return path


def test_a_link_in_place_of_a_directory_is_not_opened(home: Path) -> None:
    with pytest.raises(OSError), opened(home / "link"):  # ELOOP or ENOTDIR
        pass
    with opened(home) as root, pytest.raises(OSError):
        open_beneath(root, ["link", "file"])


def test_a_link_in_place_of_a_file_is_neither_read_nor_written(home: Path, secret: Path) -> None:
    with opened(home) as root:
        with pytest.raises(OSError, match="symbolic links"):
            read_file(root, ["file-link"])
        with pytest.raises(FileExistsError):
            create_file(root, "file-link", b"overwritten")
    assert (secret / "file").read_text() == "secret"


def test_a_directory_s_mode_is_changed_and_not_that_of_what_a_link_says(home: Path, secret: Path) -> None:
    with opened(home) as root:
        make_directory(root, "real", 0o777)
        make_directory(root, "new", 0o777)
        with pytest.raises(OSError):
            make_directory(root, "link", 0o777)
    assert (home / "real").stat().st_mode & 0o777 == (home / "new").stat().st_mode & 0o777 == 0o777
    assert secret.stat().st_mode & 0o777 == 0o700


def test_what_is_read_is_a_file_and_bounded(home: Path) -> None:
    os.mkfifo(home / "pipe")
    with opened(home) as root:
        assert read_file(root, ["real", "file"], 4) == b"xxxx"
        with pytest.raises(ValueError, match="not a file"):
            read_file(root, ["pipe"])
        with pytest.raises(IsADirectoryError):
            read_file(root, ["real"])


def test_a_link_says_where_it_goes(home: Path, secret: Path) -> None:
    with opened(home) as root:
        assert link_target(root, ["link"]) == str(secret)


def test_descriptors_are_given_back(home: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with opened(home) as root:
        read_file(root, ["real", "file"])
        for parts in (["link", "file"], ["nowhere", "file"], ["pipe"]):
            with pytest.raises(OSError):
                os.close(open_beneath(root, parts))
    assert len(os.listdir("/proc/self/fd")) == before
