"""A record as it is kept, and as an object has it: permission rules that were added since. covers: B4, C2"""

from __future__ import annotations

from pathlib import Path

import pytest

from cc_bridge import ClaudeInstance, InstanceDiffers, PermissionRules
from cc_bridge.instances.kept_record import KeptRecord, change_image
from cc_bridge.instances.registry import Registry

GIVEN = PermissionRules(allow=("Bash(ls:*)",), deny=("Bash(rm:*)",))


def record(rules: PermissionRules = GIVEN) -> ClaudeInstance:
    return ClaudeInstance.of(name="demo", kind="local", workspace=Path("/"), rules=rules)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "state")
    kept = KeptRecord(registry.home("demo"))
    kept.take(record())
    kept.let_go()
    return registry


@pytest.mark.parametrize("given", [GIVEN, PermissionRules()])
def test_who_has_the_rules_that_it_was_made_with_gets_those_that_were_added(
    registry: Registry, given: PermissionRules
) -> None:
    added = GIVEN.allowing("Bash(git status)")
    registry.update("demo", rules=added)
    found = KeptRecord(registry.home("demo")).check(record(given))
    assert found is not None
    assert found.rules == added


def test_an_object_that_is_in_use_takes_over_what_was_changed(registry: Registry) -> None:
    kept = KeptRecord(registry.home("demo"))
    kept.check(record())
    registry.update("demo", rules=PermissionRules(), env={"A": "b"})
    found = kept.check(record())
    assert found is not None
    assert (found.rules, found.env) == (PermissionRules(), {"A": "b"})


def test_a_rule_that_the_kept_record_has_not_is_another_record(registry: Registry) -> None:
    with pytest.raises(InstanceDiffers, match="rules") as caught:
        KeptRecord(registry.home("demo")).check(record(GIVEN.allowing("Bash")))
    assert caught.value.differences == ("rules",)


def test_of_a_swarms_instance_the_image_may_have_become_another(tmp_path: Path) -> None:
    """What is used goes on with it; what is made with the old one is told."""
    home = Registry(tmp_path / "state").home("demo")
    kept, old = KeptRecord(home), ClaudeInstance.of(name="demo", kind="swarm", image="one")
    kept.take(old)
    change_image(home, "two")
    found = kept.check(old)
    assert found is not None
    assert found.image == "two"
    with pytest.raises(InstanceDiffers):
        KeptRecord(home).check(old)
    kept.let_go()
