"""What control messages are called."""

from __future__ import annotations

import pytest

from cc_bridge.protocol.commands import control_id, name_in, safe_name


@pytest.mark.parametrize(
    ("name", "safe"), [("r-1_A", "r-1_A"), ("a/b c\né", "abc"), ("", ""), ("x" * 50, "x" * 48), ("é" * 48 + "x", "")]
)
def test_what_of_a_requests_id_is_in_a_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert name_in(control_id(12, name)) == safe


def test_a_name_has_no_more_characters_than_the_agent_takes() -> None:
    assert control_id(7, "r") == "c-7-r"
    assert len(control_id(10**20, "x" * 48)) == 64
