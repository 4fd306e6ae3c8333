"""What ``doctor NAME`` finds, where that can be told without an instance. covers: G10"""

from __future__ import annotations

import os

import pytest

from cc_bridge.cli.instance_checks import _may_write


@pytest.mark.parametrize(
    ("user", "group", "mode", "expected"),
    [
        (1000, 5, 0o755, True),
        (1000, 5, 0o577, False),  # the owner's bits hold for the owner, whatever the others'
        (2000, 1000, 0o775, True),
        (2000, 1000, 0o757, False),
        (2000, 5, 0o775, False),
        (2000, 5, 0o757, True),
        (2000, 1000, 0o765, False),  # nothing is made in a directory that cannot be entered
        (0, 0, 0o755, False),  # root in a container has no capabilities
        (2000, None, 0o775, None),
        (2000, None, 0o777, True),
        (2000, None, 0o755, False),
    ],
)
def test_who_may_write_to_a_workspace(user: int, group: int | None, mode: int, expected: bool | None) -> None:
    found = os.stat_result((0o40000 | mode, 1, 1, 1, 1000, 1000, 0, 0, 0, 0))
    assert _may_write(found, user, group) is expected
