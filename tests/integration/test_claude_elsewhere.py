"""What starts a `claude`, and gets one in a container: the Agent SDKs, and an editor's adapter. covers: B19"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

from cc_bridge import DockerContainer
from cc_bridge.testing import ScriptedModel
from tests.conftest import lacking

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.long, pytest.mark.thorough]

#: The adapter of editors that speak the Agent Client Protocol; it brings the Agent SDK for TypeScript.
_ADAPTER = "@agentclientprotocol/claude-agent-acp@0.101.0"

_DRIVER = Path(__file__).parent.parent / "typescript" / "agent-sdk.mjs"

#: A permission is asked for, and then something is said.
_PROMPT = '[[tool Bash {"command": "touch by-tool"}]] [[say done]]'


@pytest.fixture
async def workspace(make_record: Any, images: Any, scripted_model: ScriptedModel) -> AsyncIterator[Path]:
    """Of an instance in a container, whose agent runs."""
    record = make_record(kind="docker", image=images.claude, network="host", env=scripted_model.claude_env())
    instance = DockerContainer(record)
    session = await instance.beside.run(["--version"], {})
    await session.aclose()
    yield record.workspace
    await instance.cleanup()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A path for where a `claude` is wanted."""
    made = tmp_path / "claude"
    made.write_text(f'#!/bin/sh\nexec {sys.executable} -m cc_bridge.cli.claude "$@"\n')
    made.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the adapter and the SDK, and without the Claude Code that they would bring."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        lacking("npm", "npm is not installed")
    directory = tmp_path_factory.mktemp("packages")
    (directory / "package.json").write_text(json.dumps({"name": "editor", "private": True, "type": "module"}))
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", _ADAPTER]
    installed = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        lacking("npm", f"npm installs nothing: {installed.stderr.strip()[-300:]}")
    return directory


async def test_the_python_sdk(workspace: Path, program: Path) -> None:
    options = ClaudeAgentOptions(cli_path=program, cwd=workspace, permission_mode="bypassPermissions")
    with anyio.fail_after(120):
        async with ClaudeSDKClient(options) as client:
            results = []
            for prompt in ("[[say first]]", "[[say second]]"):
                await client.query(prompt)
                async with aclosing(client.receive_response()) as messages:
                    results += [message.result async for message in messages if isinstance(message, ResultMessage)]
    assert results == ["first", "second"]


async def test_the_typescript_sdk(workspace: Path, program: Path, packages: Path) -> None:
    shutil.copy(_DRIVER, packages)
    with anyio.fail_after(120):
        argv = ["node", _DRIVER.name, str(program), str(workspace)]
        done = await anyio.run_process(argv, cwd=packages, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {
        "texts": ["done", "second"],
        "asked": ["Bash"],
        "results": ["success", "success"],
    }
    assert (workspace / "by-tool").exists()


class Editor:
    """An editor's end of the Agent Client Protocol: a JSON object a line."""

    def __init__(self, process: Process) -> None:
        assert process.stdin
        assert process.stdout
        self._stdin, self._lines = process.stdin, BufferedByteReceiveStream(process.stdout)
        self._last_id = 0
        self.said = ""
        self.asked: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What is answered; what it asks meanwhile is allowed."""
        self._last_id += 1
        await self._say({"id": self._last_id, "method": method, "params": params})
        while True:
            message = json.loads(await self._lines.receive_until(b"\n", 2**24))
            if message.get("id") == self._last_id and "method" not in message:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            await self._hear(message)

    async def _hear(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "session/update" if params["update"]["sessionUpdate"] == "agent_message_chunk":
                self.said += params["update"]["content"]["text"]
            case "session/request_permission":
                self.asked.append(params["toolCall"]["title"])
                allow = next(option["optionId"] for option in params["options"] if option["kind"] == "allow_once")
                outcome = {"outcome": "selected", "optionId": allow}
                await self._say({"id": message["id"], "result": {"outcome": outcome}})

    async def _say(self, message: dict[str, Any]) -> None:
        await self._stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


async def test_an_editor(workspace: Path, program: Path, packages: Path) -> None:
    adapter = packages / "node_modules" / "@agentclientprotocol" / "claude-agent-acp" / "dist" / "index.js"
    env = {**os.environ, "CLAUDE_CODE_EXECUTABLE": str(program)}
    with anyio.fail_after(120):
        async with await anyio.open_process(["node", str(adapter)], env=env, cwd=workspace, stderr=None) as process:
            editor = Editor(process)
            await editor.call("initialize", protocolVersion=1, clientCapabilities={})
            session = await editor.call("session/new", cwd=str(workspace), mcpServers=[])
            session_id = session["sessionId"]
            await editor.call("session/set_mode", sessionId=session_id, modeId="default")
            prompt = [{"type": "text", "text": _PROMPT}]
            ended = await editor.call("session/prompt", sessionId=session_id, prompt=prompt)
            process.terminate()
    assert (ended["stopReason"], editor.said) == ("end_turn", "done")
    assert editor.asked == ["touch by-tool"]
    assert (workspace / "by-tool").exists()
