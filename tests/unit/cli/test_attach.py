"""How a person comes to a pane. covers: G10"""

from __future__ import annotations

import pytest

from cc_bridge import InvalidInput
from cc_bridge.cli.attach import _from_inside

ATTACH = ["tmux", "-u", "-S", "/run/tmux", "attach-session", "-t", "x"]


def test_a_person_inside_the_same_server_does_not_become_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """There tmux would make their own client read-only, in all its sessions."""
    monkeypatch.setenv("TMUX", "/run/tmux,1,0")
    with pytest.raises(InvalidInput, match="--read-only"):
        _from_inside([*ATTACH, "-r"], True)
    monkeypatch.setenv("TMUX", "/run/tmux,1,0")
    assert "switch-client" in _from_inside(ATTACH, False)
    monkeypatch.setenv("TMUX", "/run/another,1,0")
    assert _from_inside([*ATTACH, "-r"], True) == [*ATTACH, "-r"]
