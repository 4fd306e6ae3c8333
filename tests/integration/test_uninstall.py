"""docs/how-to/uninstall.md, word by word: nothing is left. covers: M12"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.state import Installation
from cc_bridge.testing import ScriptedModel
from tests.command import cc

pytestmark = [pytest.mark.docker, pytest.mark.long]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "uninstall.md"

#: What other tests need: images, the directory of sockets for long paths, and cc-bridge itself.
SPARED = ("docker image", "/tmp/cc-bridge-", "pip uninstall")


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of this test's own."""
    with tempfile.TemporaryDirectory(prefix="cc-bridge-tests-", ignore_cleanup_errors=True) as place:
        monkeypatch.setenv("CC_BRIDGE_HOME", f"{place}/state")
        yield Path(place, "state")


def docker(*argv: str) -> list[str]:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout.split()


def test_uninstalling_leaves_nothing(
    state: Path, scripted_model: ScriptedModel, workspace: Path, images: Any, claude: str
) -> None:
    (workspace / "home").mkdir()
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env(workspace / "home").items()]
    local = ["--on=local", f"--workspace={workspace}", *env]
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    boxed = [f"--image={images.claude}", "--network=host", f"--workspace={workspace}", *env]
    for name, options in (("one", local), ("two", boxed), ("gone", local)):
        up = cc("up", name, *options)
        assert up.returncode == 0, up.stderr
        assert cc("send", name, "[[say a secret]]").returncode == 0
    assert cc("rm", "--force", "gone").returncode == 0
    assert cc("run", "[[say hello]]", *local).returncode == 0
    install = f"cc-bridge.install={Installation.at(state).id}"
    project = ["--label", install, "--label", "cc-bridge.project=shop"]
    name = f"cc-bridge-shop-{Installation.at(state).id}"
    docker("network", "create", *project, "--subnet", "172.29.98.0/24", name)
    docker("volume", "create", *project, name)
    docker("run", "-d", *project, "--network", name, "-v", f"{name}:/x", "--name", name, images.bare, "sleep", "999")
    read_only = state / "projects" / "shop" / "home" / "cache"
    read_only.mkdir(parents=True)
    read_only.chmod(0o500)

    page = re.search(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert page
    lines = [line.removeprefix("$ ") for line in page[1].splitlines()]
    script = "\n".join(line.replace(" --images", "") for line in lines if not any(word in line for word in SPARED))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu", "-c", script], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert not state.exists()
    for words in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        assert docker(*words, "--quiet", "--filter", f"label={install}") == [], words
    left = [path for path in (workspace / "home" / ".claude" / "projects").rglob("*") if path.is_file()]
    assert not [path for path in left if b"a secret" in path.read_bytes()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(state).encode() not in path.read_bytes(), path
        except OSError:
            continue  # it has ended
