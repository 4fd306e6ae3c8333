"""One line an instance, whatever has become of the others. covers: G10"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cc_bridge.cli.ps import _rows, doing
from cc_bridge.instances import bridged
from cc_bridge.instances.activity import nothing
from cc_bridge.instances.registry import Registry
from cc_bridge.record import ClaudeInstance

pytestmark = pytest.mark.anyio


@pytest.fixture
def names(tmp_path: Path) -> Iterator[list[str]]:
    """Three records."""
    found = [f"ps-{uuid.uuid4().hex[:8]}" for _ in range(3)]
    for name in found:
        home = Registry().home(name)
        home.prepare()
        home.save(ClaudeInstance.of(name=name, kind="local", workspace=tmp_path), new=True)
    yield found
    for name in found:
        Registry().home(name).remove()


async def test_one_that_is_made_anew_meanwhile_hides_no_other(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading of its record and the look at it."""
    is_running = bridged.BridgedInstance.is_running

    async def meanwhile(self: bridged.BridgedInstance) -> bool:
        if self.name == names[0]:
            home = Registry().home(self.name)
            (home.path / "elsewhere").mkdir()
            home.save(ClaudeInstance.of(name=self.name, kind="local", workspace=home.path / "elsewhere"))
        return await is_running(self)

    monkeypatch.setattr(bridged.BridgedInstance, "is_running", meanwhile)
    changed, *others = await _rows(names, look=True)
    assert "differs in workspace" in changed["status"]
    assert [row["status"] for row in others] == ["stopped", "stopped"]


async def test_a_wrong_address_of_the_engine_hides_nothing(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Registry().home(names[0]).save(ClaudeInstance.of(name=names[0], kind="docker", image="x", workspace="/tmp"))
    monkeypatch.setenv("DOCKER_HOST", "bogus://x")
    boxed, *others = await _rows(names, look=True)
    assert "no address of an engine" in boxed["status"]
    assert [row["status"] for row in others] == ["stopped", "stopped"]


def test_what_nobody_can_say_is_called_unknown() -> None:
    assert doing({**nothing(), "channel": "pipes"}) == "unknown"
    assert doing(nothing()) == ""
