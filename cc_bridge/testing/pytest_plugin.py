"""Fixtures for programs that use cc-bridge; pytest finds them by itself where cc-bridge is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .scripted_model import ScriptedModel

__all__ = ["claude_env", "scripted_model"]


@pytest.fixture
def scripted_model() -> Iterator[ScriptedModel]:
    """A scripted model, running: a Messages API on loopback that costs nothing."""
    from .scripted_model import ScriptedModel

    with ScriptedModel() as model:
        yield model


@pytest.fixture
def claude_env(scripted_model: ScriptedModel, tmp_path: Path) -> dict[str, str]:
    """Environment with which the real Claude Code talks to the scripted model, in a home of its own."""
    home = tmp_path / "claude-home"
    home.mkdir()
    return scripted_model.claude_env(home)
