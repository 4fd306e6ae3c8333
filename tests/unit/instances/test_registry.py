"""Where instances are kept: private, whole or not at all. covers: C2, M1"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cc_bridge import ClaudeInstance, InvalidInput, beneath
from cc_bridge.beneath import opened
from cc_bridge.errors import InstanceBusy, InstanceNotFound
from cc_bridge.instances import registry as module
from cc_bridge.instances.kept_record import KeptRecord
from cc_bridge.instances.registry import Home, Registry, agent_archive, state_root
from cc_bridge.instances.steps import exclusive_if_free
from cc_bridge.state import make_private, shared_runtime_directory

SESSION = "70239f12-b8a6-4331-8634-823542f95e3f"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "state")


def record(name: str = "demo", **more: object) -> ClaudeInstance:
    return ClaudeInstance.of(name=name, kind="local", workspace=Path("/"), env={"MY_KEY": "hush"}, **more)


def test_kept_and_found_again(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    home.save(record())
    assert registry.names() == ["demo"]
    assert registry.load("demo") == replace(record(), created=registry.load("demo").created)
    home.remove()
    home.remove()
    assert registry.names() == []


def test_private(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    home.save(record())
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert (home.path / "record.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["nobody", "", ".", "..", "../../etc", "a/b", "x" * 300])
def test_unknown_instances(registry: Registry, name: str) -> None:
    with pytest.raises(InstanceNotFound):
        registry.load(name)


_HUGE = b'{"name": "demo", "kind": "docker", "image": "i", "workspace": "/", "cpus": 1' + b"0" * 400 + b"}"


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"name": "demo"}', b"not json", b'{"name": "\xff"}', _HUGE])
def test_a_broken_record(registry: Registry, text: bytes) -> None:
    home = registry.home("demo")
    home.prepare()
    (home.path / "record.json").write_bytes(text)
    with pytest.raises(InvalidInput, match=r"demo: its record cannot be read.*rm --force"):
        registry.load("demo")
    home.remove()


def test_a_record_that_is_no_file(registry: Registry) -> None:
    home = registry.home("demo")
    (home.path / "record.json").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="demo: its record cannot be read: Is a directory"):
        registry.load("demo")


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be used"):
        Registry(tmp_path / "file").home("demo").prepare()


def test_the_session_is_remembered(registry: Registry) -> None:
    home = registry.home("demo")
    assert home.session_id == ""
    home.remember_session("gone already")
    home.prepare()
    home.remember_session(SESSION)
    assert home.session_id == SESSION


def test_sweep_takes_old_ephemeral_ones_only(registry: Registry) -> None:
    long_ago = time.time() - 3600
    for name, ephemeral, old in (("old", True, True), ("new", True, False), ("kept", False, True)):
        home = registry.home(name)
        home.prepare()
        home.save(record(name, ephemeral=ephemeral))
        if old:
            os.utime(home.path / "record.json", (long_ago, long_ago))
    assert registry.sweep() == ["old"]
    assert registry.names() == ["kept", "new"]


def test_sweep_spares_who_has_an_agent(registry: Registry) -> None:
    home = registry.home("busy")
    home.prepare()
    home.save(record("busy", ephemeral=True))
    listening = os.open(home.pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    os.utime(home.path / "record.json", (0, 0))
    assert registry.sweep() == []
    os.close(listening)


def test_sweep_spares_an_ephemeral_instance_that_a_program_uses(registry: Registry) -> None:
    """Its image is built for the first time, say, or its engine is elsewhere: nobody listens on its pipes."""
    home = registry.home("used")
    home.prepare()
    held = home.hold()
    home.save(record("used", ephemeral=True))
    os.utime(home.path / "record.json", (0, 0))
    assert registry.stale() == registry.sweep() == []
    os.close(held)
    assert registry.sweep() == ["used"], "its program has gone"


def test_sweep_leaves_what_is_being_started_or_undone_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever undoes a failed start asks whether a program uses it, and a sweep must not look like one that does."""
    home = registry.home("demo")
    home.prepare()
    os.close(home.hold())
    home.save(record(ephemeral=True))
    os.utime(home.path / "record.json", (0, 0))
    locked: list[int] = []
    with exclusive_if_free(home.changing) as alone:
        assert alone
        monkeypatch.setattr(Home, "claimed", lambda home: locked.append(1))
        assert registry.stale() == registry.sweep() == []
        monkeypatch.undo()
    assert not locked
    assert registry.sweep() == ["demo"]


def test_who_takes_it_into_use_waits_for_nobody(registry: Registry) -> None:
    """It would wait on the event loop. Who removes an instance excludes it by other means."""
    home = registry.home("demo")
    home.prepare()
    os.close(home.hold())
    with home.claimed() as unused:
        assert unused
        with pytest.raises(InstanceBusy, match="demo: another program is removing it"):
            home.hold()
    os.close(home.hold())


def test_of_two_that_change_a_record_at_once_neither_loses_what_the_other_has_changed(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    home.save(record())
    others: list[threading.Thread] = []

    def add(name: str) -> None:
        registry.change("demo", lambda kept: {"env": {**kept.env, name: "1"}})

    def change(kept: ClaudeInstance) -> dict[str, object]:
        other = threading.Thread(target=add, args=["OTHER"])
        other.start()
        others.append(other)
        with opened(home.path) as directory, pytest.raises(BlockingIOError):
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return {"env": {**kept.env, "OURS": "1"}}

    registry.change("demo", change)
    others[0].join()
    assert registry.load("demo").env.keys() == {"MY_KEY", "OURS", "OTHER"}


def test_what_was_stale_is_looked_at_again_before_it_is_removed(registry: Registry) -> None:
    """Between the two a person is asked, and a program may take the name into use."""
    home = registry.home("demo")
    home.prepare()
    home.save(record(ephemeral=True))
    os.close(home.hold())
    os.utime(home.path / "record.json", (0, 0))
    assert registry.stale() == ["demo"]
    held = home.hold()
    assert not registry.remove_if_stale("demo")
    assert home.exists()
    os.close(held)
    assert registry.remove_if_stale("demo")
    assert not home.path.exists()
    assert not registry.remove_if_stale("demo"), "it has gone"


def test_an_instance_that_is_swept_meanwhile_is_held_anew(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    home = registry.home("demo")
    home.prepare()
    lock, times = fcntl.flock, []

    def lock_after_a_sweep(fd: int, how: int) -> None:
        if not times:
            home.remove()
        times.append(how)
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", lock_after_a_sweep)
    os.close(home.hold())
    assert len(times) == 2
    assert (home.path / "lock").exists(), "it is the lock of the directory that is there"


def test_the_agent_runs_from_its_archive(tmp_path: Path) -> None:
    archive = agent_archive(tmp_path)
    assert agent_archive(tmp_path) == archive
    assert archive.stat().st_mode & 0o777 == 0o644
    done = subprocess.run([sys.executable, "-IS", archive, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "0.1.0\n"
    assert [path.name for path in tmp_path.iterdir()] == [archive.name], "scratch files are left"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CC_BRIDGE_HOME": "/a"}, "/a"),
        ({"XDG_STATE_HOME": "/b"}, "/b/cc-bridge"),
        ({"HOME": "/c"}, "/c/.local/state/cc-bridge"),
    ],
)
def test_the_state_root(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("CC_BRIDGE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(state_root()) == expected


def test_where_everything_is(registry: Registry) -> None:
    """As the module's own drawing has it."""
    home = registry.home("demo")
    assert home.path == registry.root / "instances" / "demo"
    parts = {"pipes": home.pipes, "journal": home.journal, "home": home.claude_home, "config": home.config}
    assert {name: path.relative_to(home.path).as_posix() for name, path in parts.items()} == {
        name: name for name in parts
    }
    assert home.agent_log == home.path / "agent.log"
    assert registry.sessions.directory == registry.root / "sessions"


def test_sockets_are_elsewhere_and_of_one_instance_and_user(registry: Registry, tmp_path: Path) -> None:
    home = registry.home("x" * 100)
    assert len(home.tmux_socket) <= 107, "unix(7)"
    assert len({home.socket, home.pane, home.tmux_socket, registry.home("demo").socket}) == 4
    assert Path(home.tmux_socket).parent == Path(home.pane)
    assert Path(home.pane).suffix == ".pane"
    assert Path(home.socket).suffix == ".sock"
    assert Path(home.socket).stem == Path(home.pane).stem
    assert home.socket == Registry(registry.root).home("x" * 100).socket
    assert home.socket != Registry(tmp_path / "other").home("x" * 100).socket


def test_a_record_that_cannot_be_written_leaves_no_directory(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would list it, or remove it."""
    home = registry.home("demo")

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Home, "save", full)
    with pytest.raises(InvalidInput, match="No space left"):
        KeptRecord(home).take(record())
    assert not home.path.exists()
    home.prepare()
    held = home.hold()
    with pytest.raises(InvalidInput, match="No space left"):
        KeptRecord(home).take(record())
    os.close(held)
    assert home.path.exists(), "another program begins to use it"


def test_without_a_state_directory_there_are_no_instances(registry: Registry) -> None:
    assert registry.names() == []
    assert registry.sweep() == []


def test_an_instance_exists_with_its_record(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    assert not home.exists()
    assert registry.names() == []
    home.save(record())
    assert home.exists()
    assert sorted(path.name for path in home.path.iterdir()) == ["installation", "pipes", "record.json"], (
        "no scratch file is left"
    )


def test_names_that_are_paths_are_not_looked_for(registry: Registry) -> None:
    """Also where something is there."""
    (registry.root / "instances" / "a" / "b").mkdir(parents=True)
    home = registry.home("a/b")
    home.save(record())
    for name in ("a/b", "a/../a/b"):
        with pytest.raises(InstanceNotFound, match="there is no instance"):
            registry.load(name)


def test_a_session_that_cannot_be_read_is_named(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    (home.path / "session").mkdir()
    with pytest.raises(InvalidInput, match="cannot be used"):
        home.session_id  # noqa: B018  it is read


def test_an_instance_is_removed_with_its_lock_and_its_pane(registry: Registry) -> None:
    home = registry.home("demo")
    home.prepare()
    Path(home.pane).mkdir(parents=True)
    Path(home.socket + ".lock").write_text("")
    home.remove()
    assert not any(Path(path).exists() for path in (home.path, home.pane, home.socket + ".lock"))


def test_what_could_not_be_removed_is_told_and_nobody_inherits_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = registry.home("demo")
    home.prepare()
    home.save(record(ephemeral=True))
    (home.claude_home / "cache").mkdir(parents=True)
    remove = beneath.os.rmdir

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "home":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        remove(name, dir_fd=dir_fd)

    monkeypatch.setattr(beneath.os, "rmdir", refuse)
    with pytest.raises(InvalidInput, match=r"demo could not be removed: home: Operation not permitted\. Delete"):
        home.remove()
    assert registry.names() == ["demo"], "it can be removed again"
    os.utime(home.path / "record.json", (0, 0))
    assert registry.sweep() == [], "and others can start meanwhile"
    monkeypatch.undo()
    home.remove()
    assert not home.path.exists()


def test_no_lock_of_what_0_1_0_has_started_stays(registry: Registry) -> None:
    """Its sockets are in a directory of all installations, which it is told by only as long as it runs."""
    home = registry.home("demo")
    home.prepare()
    shared = shared_runtime_directory()
    make_private(shared)
    name = Path(home.socket).stem
    locks = [Path(home.pane + ".lock"), shared / f"{name}.pane.lock", shared / f"{name}.sock.lock"]
    for lock in locks:
        lock.touch()
    home.remove()
    assert not [lock for lock in locks if lock.exists()]


@pytest.mark.parametrize(("age", "swept"), [(100, []), (140, ["demo"])])
def test_ephemeral_ones_are_stale_after_two_minutes(registry: Registry, age: float, swept: list[str]) -> None:
    assert module._STALE == 120
    home = registry.home("demo")
    home.prepare()
    home.save(record(ephemeral=True))
    written = time.time() - age
    os.utime(home.path / "record.json", (written, written))
    assert registry.stale() == swept
    assert registry.names() == ["demo"], "only looked at"


def test_what_cannot_be_told_is_left_alone(registry: Registry) -> None:
    for name in ("broken", "strange", "pipeless"):
        home = registry.home(name)
        home.prepare()
        home.save(record(name, ephemeral=True))
        os.utime(home.path / "record.json", (0, 0))
    (registry.home("broken").path / "record.json").write_text("{}")
    listen = registry.home("strange").pipes / "listen"
    listen.unlink()
    listen.write_text("")
    (registry.home("pipeless").pipes / "listen").unlink()
    for name in ("broken", "strange", "pipeless"):
        os.utime(registry.home(name).path / "record.json", (0, 0))
    assert registry.sweep() == ["pipeless"], "nobody can listen on a pipe that is not there"


def test_old_conversations_are_swept_with_them(registry: Registry) -> None:
    kept = registry.root / "sessions" / f"{SESSION}.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    os.utime(kept, (0, 0))
    registry.sweep()
    assert not kept.exists()


def test_whoever_comes_while_a_directory_is_removed_has_another(tmp_path: Path) -> None:
    """What they lock there is not deleted under them."""
    home = Registry(tmp_path / "state").home("demo")
    home.prepare()
    removing = os.open(home.path, os.O_RDONLY | os.O_DIRECTORY)
    before = os.fstat(removing)
    home.remove()
    home.prepare()
    assert not os.path.samestat(before, os.stat(home.path))
    assert sorted(os.listdir(home.path.parent)) == ["demo"]
    assert os.fstat(removing).st_nlink == 0
    os.close(removing)
