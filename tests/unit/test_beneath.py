"""What a container can write is reached without following a link. covers: T1"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cc_bridge import beneath
from cc_bridge.beneath import create_file, link_target, make_directory, open_beneath, opened, read_file, remove_tree


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


def test_a_tree_is_removed_and_no_link_in_it_is_followed(home: Path, secret: Path) -> None:
    (home / "real" / "link").symlink_to(secret)
    os.mkfifo(home / "real" / "fifo")
    with opened(home.parent) as parent:
        assert remove_tree(parent, home.name) == []
        assert remove_tree(parent, home.name) == [], "harmless when repeated"
    assert not home.exists()
    assert (secret / "file").read_text() == "secret"


def test_a_link_in_the_place_of_a_tree_is_removed_and_not_followed(home: Path, secret: Path) -> None:
    with opened(home) as parent:
        assert remove_tree(parent, "link") == []
    assert not (home / "link").is_symlink()
    assert (secret / "file").exists()


def test_a_tree_that_is_deeper_than_descriptors_and_paths_can_be_is_removed(tmp_path: Path) -> None:
    depth = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8 + 5000
    (tmp_path / "deep").mkdir()
    step = os.open(tmp_path / "deep", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("x", dir_fd=step)
        below = os.open("x", os.O_RDONLY, dir_fd=step)
        os.close(step)
        step = below
    os.close(step)
    with opened(tmp_path) as parent:
        assert remove_tree(parent, "deep") == []
    assert not (tmp_path / "deep").exists()


def test_what_is_left_of_a_deep_tree_is_told_in_few_words() -> None:
    """A directory knows the one that it is in; all of its path for each would be as much as the depth squared."""
    step = beneath._Step(None, "top")
    assert str(beneath._Step(step, "file")) == "top/file"
    for _ in range(10_000):
        step = beneath._Step(step, "x" * 255)
    told = str(beneath._Step(step, "file"))
    assert told.startswith("…/xxx")
    assert told.endswith("x/file")
    assert len(told) < 5000


AS_NOBODY = """
import os, sys
from cc_bridge.beneath import opened, remove_tree
from pathlib import Path

place = Path(sys.argv[1])
place.chmod(0o777)
(place / "tree" / "theirs").mkdir(parents=True)
(place / "tree" / "theirs" / "file").touch()
(place / "mounted/home/sub/point").mkdir(parents=True)
(place / "mounted/home/locked/in/deeper").mkdir(parents=True)
(place / "mounted/home/locked/in/deeper/file").touch()
for path in ("mounted", "mounted/home", "mounted/home/sub", "mounted/home/locked/in/deeper"):
    (place / path).chmod(0o777)
if os.getuid() == 0:
    (place / "tree").chmod(0o777)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
cache = place / "tree" / "cache"
with opened(place / "mounted") as mounted:
    print(remove_tree(mounted, "home"), os.listdir(mounted))
(cache / "module" / "hidden").mkdir(parents=True)
(cache / "module" / "hidden" / "file").touch()
(cache / "module" / "file").touch()
for path, mode in ((cache / "module" / "hidden", 0), (cache / "module", 0o500), (cache, 0o555)):
    path.chmod(mode)
with opened(place / "tree") as tree:
    print(remove_tree(tree, "cache"), cache.exists())
with opened(place) as parent:
    print(remove_tree(parent, "tree"), (place / "tree").exists())
"""


@pytest.mark.usefixtures("as_root")
def test_what_is_read_only_is_removed_and_what_is_another_user_s_is_told() -> None:
    """A cache of Go's modules is read-only, and root would not notice. A mount's place is root's, and empty."""
    with tempfile.TemporaryDirectory() as place:
        argv = [sys.executable, "-c", AS_NOBODY, place]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "['home/locked/in/deeper: Permission denied'] ['home']",
        "[] False",
        "['tree/theirs/file: Permission denied'] True",
    ]
