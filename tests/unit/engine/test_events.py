"""How containers end, as the engine's messages tell it. covers: M11"""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge.engine.events import EventReader


def message(action: str, id: str = "abc", **attributes: str) -> dict[str, Any]:  # noqa: A002
    return {
        "Action": action,
        "Actor": {"ID": id, "Attributes": {"name": "box", "image": "i", "cc-bridge.install": "1", **attributes}},
        "timeNano": 1_500_000_000,
    }


@pytest.mark.parametrize(
    ("before", "code", "unexpected", "oom"),
    [
        ([], "0", False, False),
        ([], "1", True, False),
        (["oom"], "137", True, True),
        (["kill"], "137", False, False),
        (["kill", "kill"], "137", False, False),
        (["kill", "start"], "1", True, False),
        (["oom", "die", "start"], "1", True, False),
    ],
)
def test_an_end(before: list[str], code: str, unexpected: bool, oom: bool) -> None:
    reader = EventReader()
    for action in before:
        reader.read(message(action, exitCode="0"))
    event = reader.read(message("die", exitCode=code))
    assert (event.is_unexpected_exit, event.oom_killed, event.exit_code) == (unexpected, oom, int(code))
    assert (event.name, event.time, event.labels) == ("box", 1.5, {"cc-bridge.install": "1"})


def test_each_container_for_itself() -> None:
    reader = EventReader()
    reader.read(message("kill", "one"))
    assert reader.read(message("die", "two", exitCode="137")).is_unexpected_exit
    assert not reader.read(message("die", "one", exitCode="137")).is_unexpected_exit


def test_it_does_not_remember_for_ever() -> None:
    reader = EventReader()
    for number in range(5000):
        reader.read(message("kill", str(number)))
    assert len(reader._before) <= 1000


def test_podmans_words() -> None:
    raw = message("died", containerExitCode="3")
    event = EventReader().read(raw)
    assert (event.action, event.exit_code) == ("die", 3)
