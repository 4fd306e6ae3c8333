"""Claude Code's command line. covers: R8"""

from __future__ import annotations

import pytest

from cc_bridge import ClaudeOptions
from cc_bridge.protocol.command_line import claude_argv, interactive_argv, one_shot_argv, pane_argv


def words(**options: object) -> str:
    return " ".join(claude_argv(ClaudeOptions(**options)))


def test_stream_json_both_ways_with_pieces_echoes_and_permissions() -> None:
    assert words() == (
        "claude -p --input-format stream-json --output-format stream-json --verbose "
        "--include-partial-messages --replay-user-messages --permission-prompt-tool stdio"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"program": "/opt/claude"}, "/opt/claude -p"),
        ({"model": "m"}, "--model m"),
        ({"system_prompt": "s p"}, "--system-prompt s p"),
        ({"append_system_prompt": "a"}, "--append-system-prompt a"),
        ({"allowed_tools": ("Bash(ls:*)", "Read")}, "--allowedTools=Bash(ls:*),Read"),
        ({"disallowed_tools": ("Write",)}, "--disallowedTools=Write"),
        ({"permission_mode": "plan"}, "--permission-mode plan"),
        ({"skip_permissions": True}, "--dangerously-skip-permissions"),
        ({"extra": ("--debug",)}, "--debug"),
    ],
)
def test_options(options: dict[str, object], expected: str) -> None:
    assert expected in words(**options)
    assert expected not in words() or expected.startswith("claude")


def test_resume_and_fork() -> None:
    argv = claude_argv(ClaudeOptions(), resume="id", fork=True)
    assert argv[argv.index("--resume") + 1 :][:2] == ["id", "--fork-session"]
    assert "--fork-session" not in claude_argv(ClaudeOptions(), fork=True)


def test_the_interactive_one_asks_for_permission_unless_told_otherwise() -> None:
    assert interactive_argv(ClaudeOptions()) == ["claude", "--permission-mode", "default"]
    assert interactive_argv(ClaudeOptions(permission_mode="plan")) == ["claude", "--permission-mode", "plan"]
    skipping = interactive_argv(ClaudeOptions(skip_permissions=True), resume="id")
    assert skipping == ["claude", "--resume", "id", "--dangerously-skip-permissions"]


def test_a_pane_runs_it_behind_the_same_stdin_and_stdout() -> None:
    claude = ["claude", "--model", "m"]
    argv = pane_argv(["python3", "agent.pyz"], "/run/pane", claude, name="demo")
    assert argv == ["python3", "agent.pyz", "pane", "--dir", "/run/pane", "--name", "demo", "--", *claude]
    options = {"relay": False, "tmux_socket": "/tmp/s", "pane": "%3"}
    text = " ".join(pane_argv(["python3"], "/d", claude, name="demo", **options))
    assert text == "python3 pane --dir /d --name demo --tmux-socket /tmp/s --pane %3 --no-relay -- claude --model m"


def test_one_shot_reads_a_prompt_and_says_stream_json() -> None:
    argv = one_shot_argv(ClaudeOptions(model="m"), resume="id", fork=True)
    assert " ".join(argv) == (
        "claude -p --output-format stream-json --verbose --include-partial-messages "
        "--resume id --fork-session --model m"
    )
    assert "--fork-session" not in one_shot_argv(ClaudeOptions(), resume="id")


def test_nothing_is_said_that_was_not_chosen() -> None:
    assert ClaudeOptions() == ClaudeOptions("claude", "", "", "", (), (), "", False, ())
    for argv in (claude_argv(ClaudeOptions()), one_shot_argv(ClaudeOptions()), interactive_argv(ClaudeOptions())):
        assert not {"--resume", "--fork-session", "--model", "--dangerously-skip-permissions", ""} & set(argv)


def test_extra_words_come_last() -> None:
    options = ClaudeOptions(model="m", skip_permissions=True, extra=("--a", "--b"))
    for argv in (claude_argv(options), one_shot_argv(options), interactive_argv(options, resume="id")):
        assert argv[-2:] == ["--a", "--b"]


def test_the_interactive_one_resumes_and_forks() -> None:
    argv = interactive_argv(ClaudeOptions(permission_mode="plan"), resume="id", fork=True)
    assert argv == ["claude", "--resume", "id", "--fork-session", "--permission-mode", "plan"]
    assert "--fork-session" not in interactive_argv(ClaudeOptions(), resume="id")
