"""Instances by name, of the class for their kind. covers: C2"""

from __future__ import annotations

from pathlib import Path

import pytest

import cc_bridge
from cc_bridge import ClaudeInstance, InstanceNotFound, InvalidInput, Registry, blocking

CLASSES = {"docker": "DockerContainer", "local": "LocalProcess", "tmux": "TmuxInstance", "swarm": "SwarmService"}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("CC_BRIDGE_HOME", str(tmp_path / "state"))
    return Registry()


def keep(registry: Registry, record: ClaudeInstance) -> ClaudeInstance:
    home = registry.home(record.name)
    home.prepare()
    home.save(record)
    return record


@pytest.mark.parametrize("kind", CLASSES)
def test_the_instance_of_a_name_has_its_class_and_its_record(registry: Registry, kind: str, tmp_path: Path) -> None:
    image = {"image": "i"} if kind in ("docker", "swarm") else {}
    record = keep(registry, ClaudeInstance.of(name="work", kind=kind, workspace=tmp_path, env={"A": "b"}, **image))
    for house in (cc_bridge, blocking):
        found = house.open("work", silence=5)
        assert type(found) is getattr(house, CLASSES[kind])
        assert found.record == record


def test_there_is_no_such_instance(registry: Registry) -> None:
    for house in (cc_bridge, blocking):
        with pytest.raises(InstanceNotFound, match="'work'"):
            house.open("work")


def test_one_that_cannot_be_read_is_listed_and_says_so(registry: Registry, tmp_path: Path) -> None:
    assert cc_bridge.instances() == []
    for name in ("b", "a"):
        keep(registry, ClaudeInstance.of(name=name, kind="local", workspace=tmp_path))
    (registry.home("b").path / "record.json").write_text("{}")
    assert cc_bridge.instances() == ["a", "b"]
    with pytest.raises(InvalidInput, match="b: its record cannot be read"):
        cc_bridge.open("b")


def test_a_registry_of_ones_own(registry: Registry, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other")
    keep(other, ClaudeInstance.of(name="work", kind="local", workspace=tmp_path))
    assert cc_bridge.open("work", registry=other).record.name == "work"
    assert blocking.open("work", registry=other).record.name == "work"
