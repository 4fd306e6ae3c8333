"""Ids that are remembered, and not without end."""

from __future__ import annotations

import pytest

from cc_bridge.protocol import remembered as module
from cc_bridge.protocol.remembered import drop_oldest, remember


def test_ids_are_remembered_once_in_their_order_and_nothing_else_is() -> None:
    ids: dict[str, None] = {}
    for new in ("b", "a", "b", "", "no id", "x" * 65):
        remember(ids, new)
    assert list(ids) == ["b", "a"]


def test_the_oldest_goes_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IDS", 2)
    ids: dict[str, None] = {}
    for new in "abca":
        remember(ids, new)
    assert list(ids) == ["c", "a"]
    many = dict.fromkeys("abcd", 1)
    drop_oldest(many)
    assert list(many) == ["c", "d"]
    drop_oldest(many)
    assert list(many) == ["c", "d"]
