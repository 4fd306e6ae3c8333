"""What is said on the command line of instances of a swarm. covers: B11, G2"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, InvalidInput
from cc_bridge.cli.display import Display
from cc_bridge.cli.record_options import On, Options

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC_BRIDGE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CC_BRIDGE_CONFIG", "")


async def record_of(**words: Any) -> ClaudeInstance:
    return await Options(**words).record("work", Display(), ephemeral=False)


async def test_where_it_is_to_be_placed() -> None:
    record = await record_of(
        swarm=True,
        constraint=["node.labels.disk==ssd"],
        spread=["node.labels.rack"],
        reserve_memory="512m",
        reserve_cpus=0.5,
        volume_driver="nfs",
        volume_option=["share=10.0.0.1:/x", "empty="],
        memory="1g",
    )
    assert (record.kind, record.image, record.workspace) == ("swarm", "auto", None)
    assert (record.constraints, record.spread) == (("node.labels.disk==ssd",), ("node.labels.rack",))
    assert (record.reserve_memory, record.reserve_cpus, record.memory) == (512 * 1024**2, 0.5, 1024**3)
    assert record.volume_options == {"share": "10.0.0.1:/x", "empty": ""}


async def test_a_directory_is_its_workspace_only_where_that_was_said(tmp_path: Path) -> None:
    """Its nodes have another current directory, if any."""
    assert (await record_of(on=On.swarm)).workspace is None
    assert (await record_of(on=On.swarm, workspace=tmp_path)).workspace == tmp_path
    assert (await record_of(on=On.swarm, workspace_volume="v")).workspace_volume == "v"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"swarm": True, "docker": True}, "which"),
        ({"swarm": True, "on": On.local}, "which"),
        ({"swarm": True, "publish": ["80"]}, "--publish: only with --on docker"),
        ({"constraint": ["node.role==worker"]}, "--constraint: only with --on swarm"),
        ({"swarm": True, "constraint": ["somewhere nice"]}, "node.labels.NAME==VALUE"),
        ({"swarm": True, "volume_option": ["x"]}, "NAME=VALUE"),
        ({"swarm": True, "volume_option": ["a=b"]}, "volume_driver"),
        ({"swarm": True, "workspace": Path("/srv"), "workspace_volume": "v"}, "which of the two"),
    ],
)
async def test_what_cannot_be(words: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        await record_of(**words)
