"""What is shown of a permission request: all that "always" would keep. covers: B4"""

from __future__ import annotations

import pytest

from cc_bridge.cli import permissions
from cc_bridge.events import PermissionRequest
from cc_bridge.fleet.choices import MOST_KEPT
from cc_bridge.instances.open_requests import PendingRequest


def pending(*contents: str) -> PendingRequest:
    rules = [{"toolName": "Bash", "ruleContent": content} for content in contents]
    suggested = {"type": "addRules", "behavior": "allow", "rules": rules}
    return PendingRequest("abcdef0123456789", "demo", "t", PermissionRequest("r", "Bash", {}, (suggested,)))


def shown(item: PendingRequest, capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    permissions._show_rules(item)
    return permissions._row(item)[-1], capsys.readouterr().out.splitlines()


def test_a_rule_for_which_there_is_room_stands_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(pending("ls *"), capsys) == ("Bash(ls *)", [])
    assert shown(pending(), capsys) == ("", [])


def test_a_rule_that_is_longer_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    long = "echo " + "x" * 200 + "; rm -rf *"
    assert shown(pending(long), capsys) == ("1, below", [f"abcdef012345  --always would keep Bash({long})"])


def test_several_rules_are_shown_one_a_line_with_nothing_invisible(capsys: pytest.CaptureFixture[str]) -> None:
    cell, lines = shown(pending("ls *", "rm\u202e *"), capsys)
    assert cell == "2, below"
    assert [line.partition("keep ")[2] for line in lines] == ["Bash(ls *)", "Bash(rm\\u202e *)"]


def test_of_more_than_are_kept_it_is_said_that_one_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = shown(pending(*map(str, range(MOST_KEPT + 2))), capsys)
    assert len(lines) == MOST_KEPT + 1
    assert "and 2 more, so a rule has to be named" in lines[-1]
