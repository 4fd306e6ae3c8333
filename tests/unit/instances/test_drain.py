"""Which instance is moved away from a node, and what is said of one that stays. covers: B11"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from cc_bridge import ClaudeInstance, Registry, SwarmService
from cc_bridge.engine.client import Engine
from cc_bridge.engine.services import ServiceInfo
from cc_bridge.instances.drain import _move, instance_of
from cc_bridge.instances.sleep import put_to_sleep


@pytest.fixture
def bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClaudeInstance:
    """This installation has a record of him."""
    monkeypatch.setenv("CC_BRIDGE_HOME", str(tmp_path / "here"))
    record = ClaudeInstance.of(name="bob", kind="swarm", image="mine")
    home = Registry().home("bob")
    home.prepare()
    home.save(record, new=True)
    return record


def seen(record: ClaudeInstance, registry: Registry) -> ServiceInfo:
    """The service that an installation has made of a record."""
    made = SwarmService(record, Engine(), registry=registry)
    labels = made._swarm.plan.spec("image", ("id", "agent"), no_new_privileges=True)["Labels"]
    return ServiceInfo("id", made.service, 1, 1, labels, "image", "", {})


def test_one_of_this_installation_is_as_it_is_kept_here(bob: ClaudeInstance, tmp_path: Path) -> None:
    service = seen(bob, Registry())
    found = instance_of(service, Engine(), Registry(tmp_path / "elsewhere"))
    assert (found.service, found.record.service) == (service.name, "")


def test_one_of_another_installation_is_not_ours_of_the_same_name(bob: ClaudeInstance, tmp_path: Path) -> None:
    theirs = ClaudeInstance.of(name="bob", kind="swarm", image="theirs")
    service = seen(theirs, Registry(tmp_path / "there"))
    found = instance_of(service, Engine(), Registry(tmp_path / "elsewhere"))
    assert (found.service, found.record.image) == (service.name, "theirs")
    assert found.service != SwarmService(bob, Engine()).service


@pytest.mark.anyio
@pytest.mark.parametrize("shared", ["", "shared"])
async def test_one_whose_copies_are_not_seen_here_is_not_stopped(
    bob: ClaudeInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    """No directory is shared, or its maker does not write to it. The swarm is not even asked: nothing would answer."""
    if shared:
        monkeypatch.setenv("CC_BRIDGE_CONVERSATIONS", str(tmp_path / shared))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    service = seen(bob, Registry(tmp_path / "there"))
    moved = await _move(Engine(), service, Registry(tmp_path / "elsewhere"), anyio.current_time())
    assert moved.name == "bob"
    assert moved.why.startswith("another installation has made it")
    assert "CC_BRIDGE_CONVERSATIONS" in moved.why


@pytest.mark.anyio
@pytest.mark.parametrize(("where", "advice"), [("here", ". `cc-bridge stop ann` ends it."), ("there", "")])
async def test_one_in_a_pane_stays_and_why_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, advice: str
) -> None:
    """What to do, too, but not by a command that another instance of the name would obey here."""

    async def ask_if_idle(self: SwarmService) -> None:
        await put_to_sleep(self._place)

    monkeypatch.setattr(SwarmService, "stop_if_idle", ask_if_idle)
    monkeypatch.setenv("CC_BRIDGE_HOME", str(tmp_path / "here"))
    ann = ClaudeInstance.of(name="ann", kind="swarm", image="mine", tmux=True)
    for home in (Registry(tmp_path / name).home("ann") for name in ("here", "there")):
        home.prepare()
        home.save(ann, new=True)
    service = seen(ann, Registry(tmp_path / where))
    moved = await _move(Engine(), service, Registry(tmp_path / "elsewhere"), anyio.current_time())
    assert moved == ("ann", f"a person may look at its pane, so it does not sleep{advice}")


@pytest.mark.anyio
async def test_the_session_of_another_machines_program_is_copied(
    bob: ClaudeInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has only found it knows the session by the copy that is there."""
    copied: list[str] = []

    class Copy:
        session_id = "of-the-copy"

        async def has(self, session_id: str, turn_id: str) -> bool:
            return False

        async def copy(self, execs: object, container: str, session_id: str, cwd: str) -> bool:
            copied.append(session_id)
            return True

    service = seen(bob, Registry(tmp_path / "there"))
    found = instance_of(service, Engine(), Registry(tmp_path / "elsewhere"))
    monkeypatch.setattr(found._swarm, "_copy", Copy())
    agent, task = SimpleNamespace(python_missing=False), SimpleNamespace(node="n")
    monkeypatch.setattr(found._swarm, "_task", SimpleNamespace(agent=agent, execs=None, id="c", task=task))
    assert await found._swarm.copy_conversation() == ""
    assert copied == ["of-the-copy"]
