"""An input that was withdrawn does not come back over a connection that broke. covers: C8, C13"""

from __future__ import annotations

import pytest

from cc_bridge_agent import withdrawn as module
from cc_bridge_agent.withdrawn import Withdrawn


def test_only_what_the_same_host_has_sent_before_is_late() -> None:
    withdrawn = Withdrawn()
    withdrawn.add("a", "a host", 3)
    assert withdrawn.is_late("a", "a host", 2)
    assert not withdrawn.is_late("a", "a host", 3), "sent again, after it was withdrawn"
    assert not withdrawn.is_late("a", "a host", 4)
    assert not withdrawn.is_late("a", "another", 2), "which has not withdrawn it"
    assert not withdrawn.is_late("b", "a host", 2)
    withdrawn.add("a", "a host", 5)
    assert withdrawn.is_late("a", "a host", 4)


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IDS", 2)
    withdrawn = Withdrawn()
    for name in ("a", "b", "a", "c"):
        withdrawn.add(name, "", 1)
    assert [withdrawn.is_late(name, "", 0) for name in "abc"] == [True, False, True]
