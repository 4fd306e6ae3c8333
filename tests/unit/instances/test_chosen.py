"""What was chosen while an instance ran is in effect after a restart, until the record is changed. covers: B9"""

from __future__ import annotations

from pathlib import Path

import pytest

from cc_bridge import ClaudeOptions, InvalidInput
from cc_bridge.instances.chosen import Chosen
from cc_bridge.protocol.command_line import claude_argv

OPTIONS = ClaudeOptions(model="opus")


def test_nothing_was_chosen(tmp_path: Path) -> None:
    assert Chosen(tmp_path).applied(OPTIONS) == OPTIONS
    assert Chosen(tmp_path / "none").applied(OPTIONS) == OPTIONS


def test_a_choice_is_in_effect_for_whoever_starts_it_next(tmp_path: Path) -> None:
    Chosen(tmp_path).keep(OPTIONS, "model", "sonnet")
    Chosen(tmp_path).keep(OPTIONS, "permission_mode", "plan")
    assert Chosen(tmp_path).applied(OPTIONS) == ClaudeOptions(model="sonnet", permission_mode="plan")
    Chosen(tmp_path).keep(OPTIONS, "model", "")
    assert Chosen(tmp_path).applied(OPTIONS).model == "", "Claude Code's own default"


def test_what_is_changed_in_the_record_afterwards_comes_before_it(tmp_path: Path) -> None:
    chosen = Chosen(tmp_path)
    chosen.keep(OPTIONS, "model", "sonnet")
    chosen.keep(OPTIONS, "permission_mode", "plan")
    assert chosen.applied(ClaudeOptions(model="haiku")) == ClaudeOptions(model="haiku", permission_mode="plan")
    updated = ClaudeOptions(model="haiku", permission_mode="default", skip_permissions=True)
    assert chosen.applied(updated) == updated


def test_who_skips_permissions_may_go_back_to_that(tmp_path: Path) -> None:
    skips = ClaudeOptions(skip_permissions=True, extra=("--verbose",))
    chosen = Chosen(tmp_path)
    chosen.keep(skips, "permission_mode", "default")
    argv = claude_argv(chosen.applied(skips))
    assert "--dangerously-skip-permissions" not in argv
    assert argv[-4:] == ["--permission-mode", "default", "--verbose", "--allow-dangerously-skip-permissions"]
    for mode in ("bypassPermissions", ""):
        chosen.keep(skips, "permission_mode", mode)
        assert "--dangerously-skip-permissions" in claude_argv(chosen.applied(skips))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"model": 7}', '{"model": {"chosen": 7, "instead_of": "opus"}}', "[" * 100_000]
)
def test_what_is_torn_or_strange_is_no_choice(tmp_path: Path, text: str) -> None:
    (tmp_path / "chosen.json").write_text(text)
    assert Chosen(tmp_path).applied(OPTIONS) == OPTIONS
    Chosen(tmp_path).keep(OPTIONS, "model", "sonnet")
    assert Chosen(tmp_path).applied(OPTIONS).model == "sonnet"


def test_where_it_cannot_be_kept(tmp_path: Path) -> None:
    Chosen(tmp_path / "removed").keep(OPTIONS, "model", "sonnet")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput):
        Chosen(tmp_path / "file").keep(OPTIONS, "model", "sonnet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
