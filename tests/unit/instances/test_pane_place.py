"""A tmux server of which a pane is asked. covers: C17"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cc_bridge.errors import AgentUnavailable
from cc_bridge.instances import pane_place
from cc_bridge.instances.pane_place import ask_tmux

pytestmark = pytest.mark.anyio


async def test_a_server_that_does_not_answer_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no thread waits for it, without which the program could not end."""
    tmux = tmp_path / "tmux"
    tmux.write_text("#!/bin/sh\nexec sleep 1000\n")
    tmux.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(pane_place, "_TMUX_LIMIT", 0.2)
    asked: list[str] = []
    with pytest.raises(AgentUnavailable, match="does not answer"):
        await ask_tmux("/no/socket", asked.append, "x")
    assert not asked


async def test_what_is_asked_is_answered() -> None:
    """Also where no server runs: it is for libtmux to say so."""
    assert await ask_tmux("/no/socket", lambda: "said") == "said"
