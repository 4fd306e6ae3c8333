"""`make serve-demo`: from a clone to a conversation over HTTP, and nothing left. covers: B13"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "serve-demo"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_answers_and_leaves_nothing(claude: str, tmp_path: Path, number: signal.Signals) -> None:
    pipe = subprocess.PIPE
    demo = subprocess.Popen([sys.executable, str(SCRIPT)], stdout=pipe, text=True, env=_env(tmp_path))
    try:
        assert demo.stdout
        said = ""
        while "Ctrl-C" not in said:
            line = demo.stdout.readline()
            assert line, "it has ended"
            said += line
        address, token = re.findall(r"(?:page|token) +(\S+)", said)
        headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=60"}
        with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
            sent = client.post("/v1/instances/welcome/commands", json={"prompt": "hello"})
            assert sent.json()["result"]["text"] == "You said: hello"
            assert client.get("/").status_code == 200
        assert list(tmp_path.iterdir())
        demo.send_signal(number)
        assert demo.wait(60) == 0
    finally:
        demo.kill()
        demo.wait()
        if demo.stdout:
            demo.stdout.close()
    assert not list(tmp_path.iterdir())
    assert not _processes_of(tmp_path)


def _env(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place)}


def _processes_of(place: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:
            continue
        if f"CC_BRIDGE_HOME={place}".encode() in environment:
            found.append(str(path))
    return found
