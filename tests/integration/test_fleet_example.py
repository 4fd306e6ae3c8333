"""A chat backend on stdin: examples/fleet.py. covers: B4, B21"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from cc_bridge import name_for
from cc_bridge.fleet import Fleet
from cc_bridge.testing import ScriptedModel

EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet.py"

_TOUCH = '[[tool Bash {"command": "touch made-by-a-tool"}]]'


async def remove(*names: str) -> None:
    async with Fleet() as fleet:
        for name in set(names) & set(fleet.names()):
            await fleet.remove(name, conversation=True)


@pytest.mark.long
def test_two_who_chat_and_a_permission_at_the_desk(
    scripted_model: ScriptedModel, claude: str, workspace: Path, state_root: Path
) -> None:
    (workspace / "home").mkdir()
    env = {**os.environ, **scripted_model.claude_env(workspace / "home"), "CC_BRIDGE_CLAUDE": claude}
    argv, pipe = [sys.executable, str(EXAMPLE)], subprocess.PIPE
    ann, bob = name_for("chat-Ann"), name_for("chat-bob")
    try:
        with subprocess.Popen(argv, env=env, cwd=workspace, stdin=pipe, stdout=pipe) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"Ann: [[say Hello, Ann.]]\nbob: {_TOUCH} [[say It is made.]]\n".encode())
            process.stdin.flush()
            said = b""
            while b"(allow 1, deny 1)" not in said:
                said += (piece := process.stdout.read1())
                assert piece, f"it ended by itself, after {said!r}"
            rest, _ = process.communicate(b"allow 7\nallow 1\n", timeout=60)
        text = (said + rest).decode()
        assert "Ann: Hello, Ann." in text
        assert f"desk: {bob} wants Bash" in text
        assert "error: say `NAME: TEXT`" in text
        assert "bob: It is made." in text
        assert (workspace / "chats" / bob / "made-by-a-tool").exists()
        again = subprocess.run(
            argv, env=env, cwd=workspace, input="Ann: and again", capture_output=True, text=True, timeout=60, check=True
        )
        assert "Ann: You said: and again" in again.stdout
        assert "Hello, Ann." in json.dumps(scripted_model.requests[-1].body["messages"])
    finally:
        anyio.run(remove, ann, bob)
