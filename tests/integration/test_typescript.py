"""A client that is generated from the OpenAPI document, in TypeScript, has a conversation.

covers: B13
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cc_bridge.testing import ScriptedModel
from tests.conftest import lacking
from tests.served import Served

pytestmark = [pytest.mark.long, pytest.mark.thorough]

_PROGRAM = Path(__file__).parent.parent / "typescript" / "conversation.ts"

_PACKAGES = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9", "@types/node@20")

_COMPILER = {
    "compilerOptions": {
        "target": "es2022",
        "module": "nodenext",
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "outDir": "made",
        "types": ["node"],
    },
    "include": ["*.ts"],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with what a TypeScript program needs."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        lacking("npm", "npm is not installed")
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "package.json").write_text(json.dumps({"name": "conversation", "private": True, "type": "module"}))
    (directory / "tsconfig.json").write_text(json.dumps(_COMPILER))
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *_PACKAGES],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        lacking("npm", f"npm installs nothing: {installed.stderr.strip()[-300:]}")
    return directory


@pytest.fixture
def served(tmp_path: Path, scripted_model: ScriptedModel, claude: str) -> Iterator[Served]:
    import anyio

    (tmp_path / "home").mkdir()
    service = Served(tmp_path / "state", scripted_model.claude_env(tmp_path / "home"))
    try:
        yield service.start()
    finally:
        anyio.run(service.clean)


def run(project: Path, *argv: str) -> str:
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_client_drives_a_conversation(served: Served, project: Path) -> None:
    headers = {"Authorization": f"Bearer {served.token}"}
    document = httpx.get(f"{served.address}v1/openapi.json", headers=headers)
    (project / "openapi.json").write_bytes(document.content)
    generate = ["openapi-typescript", "openapi.json", "--output", "service.ts", "--default-non-nullable", "false"]
    run(project, "npx", "--no-install", *generate)
    shutil.copy(_PROGRAM, project)
    run(project, "npx", "--no-install", "tsc")
    found: dict[str, Any] = json.loads(run(project, "node", "made/conversation.js", served.address, served.token))
    kinds = found.pop("kinds")
    assert kinds[-1] == "turn_result"
    assert {"turn_started", "text_delta", "permission_request", "tool_result"} <= set(kinds)
    assert found == {
        "text": "hello",
        "files": ["made"],
        "messages": ["prompt", "answer", "prompt", "tool", "result", "answer"],
        "missing": "urn:cc-bridge:InstanceNotFound",
        "left": 0,
    }
