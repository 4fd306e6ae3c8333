"""Claude Code's command line. covers: R8"""

from __future__ import annotations

import pytest

from cc_bridge import ClaudeOptions
from cc_bridge.protocol.command_line import claude_argv, interactive_argv, pane_argv


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
