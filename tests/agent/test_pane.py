"""The pane's program by itself, once for each Python: stream-json in and out, and nothing left. covers: C17"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cc_bridge.testing import ScriptedModel

from .conftest import archive_for


def _argv(interpreter: str, directory: Path, *claude: str) -> list[str]:
    return [interpreter, "-IS", archive_for(interpreter), "pane", "--dir", str(directory), "--", *claude]


def _until_result(process: subprocess.Popen[str]) -> Iterator[dict[str, object]]:
    assert process.stdout
    for line in process.stdout:
        message = json.loads(line)
        yield message
        if message["type"] == "result":
            return


def test_a_conversation(
    interpreter: str, claude: str, tmux: None, scripted_model: ScriptedModel, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    env = {**os.environ, **scripted_model.claude_env(tmp_path / "home")}
    directory = Path("/tmp", f"cc-bridge-test-{uuid.uuid4().hex[:8]}")  # a socket's path must be short
    process = subprocess.Popen(
        _argv(interpreter, directory, claude),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
        cwd=tmp_path,
        text=True,
    )
    assert process.stdin
    try:
        for number in range(2):
            text = f"[[say turn {number}]]"
            message = {"type": "user", "message": {"role": "user", "content": text}, "uuid": f"turn-{number}"}
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            *_, result = _until_result(process)
            assert result["result"] == f"turn {number}"
            assert result["user_message_uuids"] == [f"turn-{number}"]
        process.stdin.close()
        assert process.wait(20) == 0
        assert not directory.exists()
    finally:
        process.kill()
        process.__exit__(None, None, None)
        Path(f"{directory}.lock").unlink(missing_ok=True)


def test_without_tmux(interpreter: str, tmp_path: Path) -> None:
    directory = tmp_path / "pane"
    done = subprocess.run(
        _argv(interpreter, directory, "claude"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "tmux is not installed here" in done.stderr
    assert not directory.exists()


@pytest.mark.parametrize("url", ["nonsense"])
def test_a_bad_address_of_the_api(interpreter: str, tmp_path: Path, url: str) -> None:
    done = subprocess.run(
        _argv(interpreter, tmp_path / "pane", "claude"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "k"},
        cwd=tmp_path,
        check=False,
        timeout=30,
    )
    assert (done.returncode, "not a URL" in done.stderr) == (1, True)
