"""Where state is kept, and which containers are this installation's. covers: T2, T5, M12"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from cc_bridge.errors import InvalidInput
from cc_bridge.instances.registry import Registry
from cc_bridge.state import Installation, agent_archive, make_private, mark_instance, runtime_directory

NEIGHBOUR = 1234


def of_0_1_0(root: Path) -> str:
    """A state directory as 0.1.0 has left it, with an instance and a project; the id on its containers."""
    (root / "instances" / "old").mkdir(parents=True)
    (root / "instances" / "old" / "record.json").touch()
    (root / "projects" / "shop").mkdir(parents=True)
    return hashlib.sha256(str(root).encode()).hexdigest()[:8]


def test_two_machines_with_the_same_path_are_two_installations(tmp_path: Path) -> None:
    first = Installation.at(tmp_path / "state").id
    assert Installation.at(tmp_path / "state").id == first, "it is kept"
    (tmp_path / "state").rename(tmp_path / "other")
    assert Installation.at(tmp_path / "state").id != first


def test_all_programs_that_begin_at_once_have_one_id(tmp_path: Path) -> None:
    found: list[str] = []
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        found.append(Installation.at(tmp_path / "state").id)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["installation.json"], "scratch files are left"


def test_what_0_1_0_has_made_goes_on_under_its_id(tmp_path: Path) -> None:
    earlier = of_0_1_0(tmp_path)
    installation = Installation.at(tmp_path)
    assert installation.id_for("old") == earlier
    assert installation.id_for("new") == installation.id != earlier
    assert installation.owns(earlier, instance="old", project="elsewhere")
    assert installation.owns(earlier, project="shop")
    assert not installation.owns(earlier, instance="another machine's")
    assert not installation.owns(earlier, project="another machine's")
    assert not installation.owns(earlier)
    assert not installation.owns("")


def test_an_instance_that_is_made_anew_has_the_new_id(tmp_path: Path) -> None:
    of_0_1_0(tmp_path)
    assert Installation.at(tmp_path).id_for("old") != Installation.at(tmp_path).id
    (tmp_path / "instances" / "old" / "record.json").unlink()
    assert Installation.at(tmp_path).id_for("old") == Installation.at(tmp_path).id


def test_a_fresh_directory_owns_nothing_by_its_path(tmp_path: Path) -> None:
    installation = Installation.at(tmp_path / "state")
    assert not installation.owns(hashlib.sha256(str(tmp_path / "state").encode()).hexdigest()[:8], project="default")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "x"}'])
def test_a_damaged_id_is_an_error_and_not_a_new_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "installation.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"installation\.json is damaged"):
        Installation.at(tmp_path)


def test_an_id_cannot_be_read_by_others(tmp_path: Path) -> None:
    Installation.at(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert json.loads((tmp_path / "state" / "installation.json").read_text())["projects"] == []


def test_a_private_directory_is_this_users_alone(tmp_path: Path) -> None:
    (tmp_path / "lax").mkdir(mode=0o755)
    make_private(tmp_path / "lax")
    assert (tmp_path / "lax").stat().st_mode & 0o777 == 0o700


def test_a_directory_in_which_anybody_could_write_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public").chmod(0o777)
    for path in (tmp_path / "public", tmp_path / "public" / "state"):
        with pytest.raises(InvalidInput, match="public can be written by anybody"):
            make_private(path)


@pytest.mark.usefixtures("as_root")
def test_a_directory_that_a_neighbour_made_first_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "squatted").mkdir()
    os.chown(tmp_path / "squatted", NEIGHBOUR, NEIGHBOUR)
    with pytest.raises(InvalidInput, match=f"belongs to user {NEIGHBOUR}"):
        make_private(tmp_path / "squatted")
    assert (tmp_path / "squatted").stat().st_mode & 0o777 == 0o755, "its mode was changed"


def neighbours(path: Path) -> Path:
    os.chown(path, NEIGHBOUR, NEIGHBOUR, follow_symlinks=False)
    return path


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("sticky", [True, False], ids=["in a public directory", "in a directory of his own"])
def test_a_neighbour_s_link_is_not_followed(tmp_path: Path, sticky: bool) -> None:
    place, mine = tmp_path / "place", tmp_path / "mine"
    mine.mkdir(0o755)
    place.mkdir()
    (place / "state").symlink_to(mine)
    neighbours(place / "state")
    if sticky:
        place.chmod(0o1777)
    else:
        neighbours(place)
    for make in (make_private, Installation.at, agent_archive, Registry):
        with pytest.raises(InvalidInput, match=f"belongs to user {NEIGHBOUR}"):
            make(place / "state")
    assert mine.stat().st_mode & 0o777 == 0o755, "its mode was changed"
    assert not list(mine.iterdir())


def test_a_link_of_this_user_s_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").symlink_to("disk")
    assert Installation.at(tmp_path / "state").id
    assert (tmp_path / "disk" / "installation.json").exists()


@pytest.mark.usefixtures("as_root")
def test_nothing_that_a_neighbour_has_prepared_is_believed_or_run(tmp_path: Path) -> None:
    """He can compute the agent's name: it is the hash of a public package."""
    state = tmp_path / "state"
    archive = agent_archive(tmp_path / "other").name
    (state / "instances").mkdir(parents=True)
    (state / archive).write_text("hostile")
    (state / "installation.json").write_text('{"id": "deadbeef", "earlier": "", "projects": []}')
    neighbours(state)
    for use in (agent_archive, Installation.at, Registry):
        with pytest.raises(InvalidInput, match=f"belongs to user {NEIGHBOUR}"):
            use(state)


def test_what_0_1_0_makes_beside_us_is_its_own_too(tmp_path: Path) -> None:
    """A program of 0.1.0 may still run, and it marks nothing."""
    earlier = of_0_1_0(tmp_path)
    installation = Installation.at(tmp_path)
    (tmp_path / "instances" / "late").mkdir()
    (tmp_path / "instances" / "late" / "record.json").touch()
    assert installation.id_for("late") == earlier
    mark_instance(tmp_path / "instances" / "late")
    assert installation.id_for("late") == earlier, "it is there already"
    (tmp_path / "instances" / "ours").mkdir()
    mark_instance(tmp_path / "instances" / "ours")
    (tmp_path / "instances" / "ours" / "record.json").touch()
    assert installation.id_for("ours") == installation.id


def test_sockets_lie_in_the_private_directory_or_where_their_path_is_short_enough(tmp_path: Path) -> None:
    assert runtime_directory(Path("/home/me/.local/state/cc-bridge")) == Path("/home/me/.local/state/cc-bridge/run")
    long = runtime_directory(tmp_path / ("x" * 100))
    assert len(str(long)) < 60
    assert str(os.geteuid()) in str(long)


@pytest.mark.usefixtures("as_root")
def test_why_a_directory_is_refused_is_said(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with pytest.raises(InvalidInput, match=f"theirs belongs to user {NEIGHBOUR}"):
        Installation.at(neighbours(tmp_path / "theirs"))
