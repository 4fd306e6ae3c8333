"""What `cc-bridge prune` removes, and what it leaves."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cc_bridge import ClaudeInstance
from cc_bridge.instances.proxy_files import before, forgotten, network_file, usage_file
from cc_bridge.instances.registry import Home, Registry
from cc_bridge.instances.sessions import SavedConversation
from tests.command import COMMAND, Terminal, cc

#: One that nobody answers at, and one that is no address.
NO_ENGINES = ["unix:///nonexistent", "nonsense"]


@pytest.fixture
def stale(make_record: Callable[..., ClaudeInstance], monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """The directory of an ephemeral instance whose host was killed; there is no engine."""
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINES[0])
    name = f"stale-{uuid.uuid4().hex[:8]}"
    home = Registry().home(name)
    home.prepare()
    home.save(make_record(name=name, ephemeral=True))
    os.close(home.hold())
    os.utime(home.path / "record.json", (0, 0))
    yield home
    home.remove()


def test_what_is_used_again_while_a_person_thinks_about_it_stays(stale: Home) -> None:
    with Terminal([*COMMAND, "prune"]) as person:
        person.wait_for("Remove ")
        held = stale.hold()
        person.type("y\n")
        person.wait_for(f"directory {stale.path.name} stays: it is used again")
        assert person.end() == 0
    assert stale.exists()
    os.close(held)


@pytest.mark.parametrize("address", NO_ENGINES)
def test_what_is_on_this_machine_is_removed_whatever_docker_says(
    stale: Home, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    done = cc("prune", "--force")
    assert done.returncode == 0, done.stderr
    assert "containers and what belongs to them stay: " in done.stderr
    assert not stale.path.exists()


def test_what_the_proxy_has_kept_goes_with_the_instance(
    stale: Home, make_record: Callable[..., ClaudeInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, gone, living = Registry().root, f"gone-{uuid.uuid4().hex[:8]}", f"lives-{uuid.uuid4().hex[:8]}.1"
    files = [
        path for name in (gone, living, stale.path.name) for path in (network_file(root, name), usage_file(root, name))
    ]
    for path in (*files, before(files[0])):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text("x")
    home = Registry().home(living)
    home.prepare()
    home.save(make_record(name=living, ephemeral=False))
    assert gone in forgotten(root, Registry().names())
    try:
        done = cc("prune", "--force")
        assert f"network log  {gone}" in done.stdout
        assert living not in done.stdout
        assert [path.exists() for path in files] == [False, False, True, True, False, False]
        assert not before(files[0]).exists()
    finally:
        home.remove()
    assert not any(path.exists() for path in files)


@pytest.mark.parametrize("lives", ["one name", "another", "other name", ""])
def test_a_conversation_that_an_instance_still_has_is_kept(
    make_record: Callable[..., ClaudeInstance], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lives: str
) -> None:
    """Several instances may have had it, one after the other; the last one's note must not hide the others'."""
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINES[0])
    sessions, session_id = Registry().sessions, str(uuid.uuid4())
    transcript = tmp_path / "config" / "projects" / "-ws" / f"{session_id}.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text("{}\n")
    names = {place: f"{letter}-{uuid.uuid4().hex[:8]}" for place, letter in (("one name", "a"), ("other name", "z"))}
    sessions.keep(session_id, io.BytesIO(b"{}\n"))
    for place, config in (("one name", ""), ("other name", str(tmp_path / "config"))):
        sessions.remember(names[place], SavedConversation(session_id, "local", "/ws", config))
    if lives:
        home = Registry().home(names.get(lives, f"m-{uuid.uuid4().hex[:8]}"))
        home.prepare()
        home.save(make_record(name=home.path.name, ephemeral=False))
        home.remember_session(session_id if lives == "another" else "")
    try:
        assert cc("prune", "--conversations", "--force").returncode == 0
        assert transcript.exists() == sessions.has(session_id) == bool(lives)
        assert [sessions.recall(name) is not None for name in names.values()] == [bool(lives)] * 2
    finally:
        if lives:
            home.remove()
        sessions.delete(session_id)
