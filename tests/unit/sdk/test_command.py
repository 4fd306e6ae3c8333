"""What would be started at an instance is what the installed Agent SDK would have started here. covers: B6"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKError, HookMatcher, InMemorySessionStore, query
from claude_agent_sdk._internal.transport import subprocess_cli

from cc_bridge import InvalidInput
from cc_bridge.sdk_command import Command, command_of

#: A program in Claude Code's place, which notes how it was started.
PROGRAM = f"""#!{sys.executable}
import json, os, sys
with open(os.path.join(os.path.dirname(__file__), "started"), "w") as file:
    json.dump([sys.argv[1:], dict(os.environ), os.getcwd()], file)
sys.exit(1)
"""


async def decide(name: str, given: dict[str, Any], context: Any) -> Any:
    raise NotImplementedError


async def hook(given: Any, tool_use_id: str | None, context: Any) -> Any:
    return {}


SERVER = claude_agent_sdk.create_sdk_mcp_server("mine", tools=[])

OPTIONS = {
    "nothing": ClaudeAgentOptions(),
    "callbacks": ClaudeAgentOptions(can_use_tool=decide, hooks={"Stop": [HookMatcher(hooks=[hook])]}),
    "a store": ClaudeAgentOptions(session_store=InMemorySessionStore()),
    "words": ClaudeAgentOptions(
        system_prompt={"type": "preset", "preset": "claude_code", "append": "Be brief."},
        tools=["Bash", "Read"],
        allowed_tools=["Bash"],
        disallowed_tools=["Write"],
        max_turns=3,
        model="sonnet",
        fallback_model="haiku",
        permission_mode="plan",
        resume="r",
        fork_session=True,
        mcp_servers={"mine": SERVER, "other": {"command": "x", "args": ["y"]}},
        include_partial_messages=True,
        setting_sources=["project"],
        extra_args={"debug-to-stderr": None, "some": "-thing"},
        thinking={"type": "enabled", "budget_tokens": 2000},
        effort="high",
        output_format={"type": "json_schema", "schema": {"type": "object"}},
        skills="all",
        sandbox={"enabled": True},
        enable_file_checkpointing=True,
        env={"MINE": "1", "CLAUDE_CODE_ENTRYPOINT": "mine", "CLAUDE_AGENT_SDK_VERSION": "0"},
    ),
    "its own wish": ClaudeAgentOptions(env={"claude_code_sdk_reads_session_state": "0"}),
}


def anywhere(path: str) -> str:
    return path


@pytest.mark.anyio
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("with_directory", [False, True])
async def test_it_is_what_the_sdk_starts(
    name: str, with_directory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("CLAUDECODE", "1")
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    options = replace(OPTIONS[name], cwd=tmp_path if with_directory else None)
    before = dict(os.environ)

    async def prompts() -> Any:
        yield {"type": "user", "message": {"role": "user", "content": "x"}}

    with pytest.raises(ClaudeSDKError):
        async for _ in query(prompt=prompts(), options=replace(options, cli_path=program)):
            pass
    words, env, cwd = json.loads((tmp_path / "started").read_text())
    env = {key: value for key, value in env.items() if before.get(key) != value and key != "LC_CTYPE"}
    made = command_of(options, anywhere, "demo")
    assert list(made.args) == words
    assert made.env == env
    assert made.cwd == (cwd if with_directory else "")


def in_workspace(path: str) -> str | None:
    return "/workspace" + path.removeprefix("/home/me/project") if path.startswith("/home/me/project") else None


def made(**options: Any) -> Command:
    return command_of(ClaudeAgentOptions(**options), in_workspace, "demo")


def test_paths_are_the_instances() -> None:
    command = made(
        cwd="/home/me/project/src",
        add_dirs=["/home/me/project/a", "beside"],
        settings="/home/me/project/settings.json",
        mcp_servers="/home/me/project/mcp.json",
        plugins=[{"type": "local", "path": "/home/me/project/plugin"}],
        system_prompt={"type": "file", "path": "/home/me/project/prompt"},
        extra_args={"append-system-prompt-file": "/home/me/project/more", "other": "/not/a/path/of/ours"},
    )
    words = list(command.args)
    assert (command.cwd, command.env["PWD"]) == ("/workspace/src", "/workspace/src")
    for flag, value in {
        "--settings": "/workspace/settings.json",
        "--mcp-config": "/workspace/mcp.json",
        "--plugin-dir": "/workspace/plugin",
        "--system-prompt-file": "/workspace/prompt",
        "--append-system-prompt-file": "/workspace/more",
        "--other": "/not/a/path/of/ours",
    }.items():
        assert words[words.index(flag) + 1] == value
    assert [words[at + 1] for at, word in enumerate(words) if word == "--add-dir"] == ["/workspace/a", "beside"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cwd", {"cwd": "/etc"}),
        ("add_dirs", {"add_dirs": ["/etc"]}),
        ("settings", {"settings": "/etc/settings.json"}),
        ("mcp_servers", {"mcp_servers": Path("/etc/mcp.json")}),
        ("plugins", {"plugins": [{"type": "local", "path": "/etc"}]}),
        ("system_prompt", {"system_prompt": {"type": "file", "path": "/etc/x"}}),
        ("extra_args", {"extra_args": {"settings": "/etc/x"}}),
        ("cli_path", {"cli_path": "/usr/bin/claude"}),
        ("user", {"user": "me"}),
    ],
)
def test_what_is_not_there_is_refused_by_name(name: str, options: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"demo: .*{name}"):
        made(**options)


def test_what_is_no_path_stays() -> None:
    words = made(settings='{"model": "x"}', mcp_servers='{"mcpServers": {}}').args
    assert '{"model": "x"}' in words
    assert '{"mcpServers": {}}' in words


def test_settings_with_a_sandbox_are_read_here(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"model": "x"}')
    options = ClaudeAgentOptions(settings="settings.json", sandbox={"enabled": True}, cwd=tmp_path)
    words = command_of(options, anywhere, "demo").args
    assert json.loads(words[words.index("--settings") + 1]) == {"model": "x", "sandbox": {"enabled": True}}


def test_two_ways_to_decide_are_refused_as_the_sdk_does() -> None:
    with pytest.raises(ValueError, match="can_use_tool"):
        made(can_use_tool=decide, permission_prompt_tool_name="x")


def test_a_release_that_does_not_say_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess_cli.SubprocessCLITransport, "_build_command")
    with pytest.raises(InvalidInput, match=r"does not say what it would start .*update cc-bridge"):
        made()
