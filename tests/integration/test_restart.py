"""A program that is killed in the middle of an answer, and started again: examples/resume.py. covers: B1, B7"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel

EXAMPLE = Path(__file__).parents[2] / "examples" / "resume.py"


@pytest.mark.long
def test_killed_in_a_long_answer_and_started_again(
    scripted_model: ScriptedModel, claude: str, workspace: Path, state_root: Path
) -> None:
    """The answer takes thirty seconds; the program is killed twice in it."""
    (workspace / "home").mkdir()
    env = {**os.environ, **scripted_model.claude_env(workspace / "home"), "CC_BRIDGE_CLAUDE": claude}
    words = [f"w{number} " for number in range(100)]
    prompt = "[[pace 0.3]]" + "".join(f"[[say {word}]]" for word in words)
    argv = [sys.executable, str(EXAMPLE), "resumed", prompt]
    try:
        for awaited in (b"w10 ", b"w30 "):
            with subprocess.Popen(argv, env=env, cwd=workspace, stdout=subprocess.PIPE) as process:
                assert process.stdout
                said = b""
                while awaited not in said:
                    said += (piece := process.stdout.read1())
                    assert piece, f"it ended by itself, after {said!r}"
                process.kill()
            assert "".join(words).startswith(said.decode())
        done = subprocess.run(argv, env=env, cwd=workspace, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "".join(words) + "\n"
        assert scripted_model.prompts[prompt] == 1, "the command has run more than once"
    finally:
        command = "from cc_bridge.cli.main import run; run()"
        subprocess.run([sys.executable, "-c", command, "rm", "--force", "--conversation", "resumed"], check=True)
    assert "resumed" not in Registry().names()
