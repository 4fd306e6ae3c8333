"""Who only looks starts nothing. covers: G10"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cc_bridge import ClaudeInstance, LocalProcess
from cc_bridge.channels.fifo import open_fifo
from cc_bridge.errors import AgentUnavailable
from cc_bridge.instances import activity
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
    assert not instance.exists(), "it does not try again and again: nobody starts it for one who looks"
    with pytest.raises(AgentUnavailable, match="Claude Code does not run"):
        await instance.launch("")
    assert not instance.agent_log.exists()


async def test_an_agent_that_does_not_answer_is_told_from_one_that_does_not_run(
    instance: LocalProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await instance.turns_without_starting() is None
    monkeypatch.setattr(activity, "_LIMIT", 0.01)
    pipes = instance._home.pipes
    with contextlib.closing(open_fifo(str(pipes), "listen", os.O_RDWR)):  # it listens, and says nothing
        with pytest.raises(AgentUnavailable, match="does not answer"):
            await instance.turns_without_starting()
        assert (await instance.get_activity())["channel"] is None
