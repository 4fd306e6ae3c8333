"""What becomes of an instance whose record cannot be read, and of its conversation. covers: C2, L1"""

from __future__ import annotations

from pathlib import Path

import pytest

from cc_bridge.instances.broken import remove_broken
from cc_bridge.instances.registry import Home, Registry
from cc_bridge.instances.sessions import SavedConversation

pytestmark = pytest.mark.anyio

SESSION = "70239f12-b8a6-4331-8634-823542f95e3f"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "state")


def make(registry: Registry, config: str | None, session_id: str = SESSION) -> Home:
    """An instance with a conversation in this directory of its own, if in one of its own."""
    home = registry.home("demo")
    home.prepare()
    (home.path / "record.json").write_text("{}")
    home.remember_session(session_id)
    if config is not None:
        project = home.path / config / "projects" / "w"
        project.mkdir(parents=True)
        (project / f"{SESSION}.jsonl").write_text('{"type": "user"}\n')
    return home


@pytest.mark.parametrize("config", ["home/.claude", "config"])
async def test_its_conversation_is_kept(registry: Registry, config: str) -> None:
    home = make(registry, config)
    assert await remove_broken(registry, "demo", conversation=False) == SESSION
    assert not home.path.exists()
    with registry.sessions.open(SESSION) as kept:
        assert kept.read() == b'{"type": "user"}\n'


@pytest.mark.parametrize("config", ["home/.claude", "config"])
async def test_its_conversation_goes_where_that_is_wanted(registry: Registry, config: str) -> None:
    """And what an earlier instance of its name has left."""
    home = make(registry, config)
    home.remember_session(SESSION)
    registry.sessions.remember("demo", SavedConversation(SESSION, "docker", "/w"))
    (registry.sessions.directory / f"{SESSION}.jsonl").write_text("{}\n")
    assert await remove_broken(registry, "demo", conversation=True) == ""
    assert not home.path.exists()
    assert not registry.sessions.has(SESSION)
    assert registry.sessions.recall("demo") is None


async def test_one_in_claude_codes_own_directory_is_told(registry: Registry) -> None:
    """It may have been a person's before, so it is not looked for."""
    make(registry, None)
    assert await remove_broken(registry, "demo", conversation=True) == SESSION


async def test_what_is_no_session_is_not_looked_for(registry: Registry) -> None:
    home = make(registry, "config", "../../x")
    assert await remove_broken(registry, "demo", conversation=False) == ""
    assert not home.path.exists()
