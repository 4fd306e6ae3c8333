"""What tests with a proxy of their own share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cc_bridge.errors import BridgeError
from cc_bridge.instances.way_out import ask_proxy


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A state directory with a proxy of its own, which is ended with the test."""
    path = tmp_path / "state"
    monkeypatch.setenv("CC_BRIDGE_HOME", str(path))
    yield path
    with suppress(BridgeError):
        ask_proxy(path, {"stop": True})
