"""Which instance is moved away from a node, and what is said of one that stays. covers: B11"""

from __future__ import annotations

from pathlib import Path

import pytest

from cc_bridge import ClaudeInstance, Registry, SwarmService
from cc_bridge.engine.client import Engine
from cc_bridge.engine.services import ServiceInfo
from cc_bridge.instances.drain import instance_of


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
