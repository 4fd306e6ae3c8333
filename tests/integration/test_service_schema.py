"""The service does what its OpenAPI document says, whatever is sent.

covers: B13
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cc_bridge.testing import ScriptedModel
from tests.served import Served, made

pytestmark = pytest.mark.long

#: Seconds that it tries things; it takes some more to begin and to end.
_LIMIT = 60 if os.environ.get("CC_BRIDGE_THOROUGH") else 12

#: One instance, which everything is tried with, and no other one.
_FLEET = "[fleet]\nmost_instances = 1\n"

#: What no schema says, and is refused all the same: data that is no image, names that no file can have.
_REFUSED = ("send_command", "change_turn", "list_files", "fetch_file", "put_file")
_CONFIG = "".join(
    f"""
[[operations]]
include-operation-id = "{name}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx", "5xx"]
"""
    for name in _REFUSED
)

_LEFT_OUT = (
    ("path-regex", "/events$"),  # streams, which do not end
    ("operation-id", "revoke_token"),  # its own token: nothing would be tried any more
    ("operation-id", "make_webhook"),  # the service would call whoever has the names that are made up
)


@pytest.fixture
def served(tmp_path: Path, claude: str) -> Iterator[Served]:
    (tmp_path / "cc-bridge.toml").write_text(_FLEET)
    with ScriptedModel() as model:
        env = {**model.claude_env(tmp_path), "CC_BRIDGE_CONFIG": str(tmp_path / "cc-bridge.toml")}
        service = Served(tmp_path / "state", env)
        try:
            service.start()
            anyio.run(prepare, service)
            yield service
        finally:
            anyio.run(service.clean)


async def prepare(service: Served) -> None:
    async with service.client() as client:
        await made(client, "work")


def test_nothing_is_found_that_the_document_does_not_say(served: Served, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(_CONFIG)
    argv = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(tmp_path / "schemathesis.toml")]
    argv += ["run", f"{served.address}v1/openapi.json", "--header", f"Authorization: Bearer {served.token}"]
    argv += ["--phases", "examples,coverage,fuzzing", "--max-time", str(_LIMIT), "--request-timeout", "30"]
    argv += ["--exclude-checks", "ignored_auth"]  # many wrong tokens are answered with 429; other tests see to them
    argv += ["--suppress-health-check", "all", "--no-color", "--seed", os.environ.get("CC_BRIDGE_SCHEMA_SEED", "1")]
    for kind, what in _LEFT_OUT:
        argv += [f"--exclude-{kind}", what]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert served.stop() == 0
