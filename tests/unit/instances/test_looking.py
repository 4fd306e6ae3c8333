"""Who only looks starts nothing. covers: G10"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cc_bridge import ClaudeInstance, LocalProcess
from cc_bridge.errors import AgentUnavailable
from cc_bridge.instances.registry import Registry

pytestmark = pytest.mark.anyio


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[LocalProcess]:
    """One that exists, and does not run."""
    record = ClaudeInstance.of(name=f"look-{uuid.uuid4().hex[:8]}", kind="local", workspace=tmp_path)
    home = Registry().home(record.name)
    home.prepare()
    home.save(record, new=True)
    yield LocalProcess(record)
    home.remove()


async def test_a_follower_starts_neither_the_agent_nor_claude_code(instance: LocalProcess) -> None:
    """The agent was killed, and the follower connects again."""
    instance.only_looks = True
    with pytest.raises(AgentUnavailable, match="no agent listens"):
        await instance.connect(b"{}\n")
    with pytest.raises(AgentUnavailable, match="Claude Code does not run"):
        await instance.launch("")
    assert not instance.agent_log.exists()
