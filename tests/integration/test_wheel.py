"""What users install: the wheel, built here, in an environment of its own. covers: C2"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent

#: A user's program. What `mypy --strict` has to complain of says so: the line, and with which error.
PROGRAM = """
import cc_bridge
from cc_bridge import (
    Allow, ClaudeInstance, ClaudeOptions, ContainerOptions, Decision, Deny, DockerContainer, InstanceInfo,
    LocalProcess, PermissionRequest, Silence, TextDelta, TmuxInstance, Turn, TurnFailed, TurnInfo, blocking,
)

record = ClaudeInstance.of(name="demo", kind="docker", image="i", workspace=".", env={"A": "b"}, mounts=["/a:/a"])
ClaudeInstance.of(nmae="demo", kind="local")  # error: call-arg
ClaudeInstance.of(name="demo")  # error: call-arg
ClaudeInstance.of(name="demo", kind="cloud")  # error: arg-type
ClaudeInstance.of(name="demo", kind="local", cpus="two")  # error: arg-type
ClaudeInstance.of(name="demo", kind="local", claude={"model": "m"})  # error: arg-type
record.memory = 3  # error: misc


async def decide(request: PermissionRequest) -> Decision:
    return Allow(updates=request.suggestions) if request.tool_name == "Read" else Deny("No.")


async def yes(request: PermissionRequest) -> bool:
    return True


def plain(request: PermissionRequest) -> Allow | Deny:
    return Allow()


container = DockerContainer(record, on_permission=decide, silence=10)
DockerContainer(record, on_permission=3)  # error: arg-type
DockerContainer(record, on_permission=yes)  # error: arg-type
DockerContainer(record, on_permission=plain)  # error: arg-type
DockerContainer(record, on_permision=decide)  # error: call-arg
LocalProcess(record, on_permission=3)  # error: arg-type
LocalProcess(record, on_progress=print)  # error: call-arg
TmuxInstance(record, permission_limit="5")  # error: arg-type
blocking.LocalProcess(record, on_permission=plain)
blocking.TmuxInstance(record, on_permission=decide)
blocking.DockerContainer(record, on_permission=3)  # error: arg-type
blocking.LocalProcess(record, on_permission=yes)  # error: arg-type


async def use() -> None:
    info: InstanceInfo = await container.get_info()
    status: str = info["status"]
    info["staus"]  # error: typeddict-item
    channel: str = info["channel"]  # error: assignment
    opened = cc_bridge.open(cc_bridge.name_for("Ёлка"), on_permission=decide)
    cc_bridge.open("demo", on_permission=3)  # error: arg-type
    path_of_log = opened.agent_log
    names: list[str] = cc_bridge.instances()
    turn: Turn = await opened.submit("hello")
    try:
        async for event in turn:
            if isinstance(event, TextDelta):
                print(event.text)
            elif isinstance(event, Silence):
                print(event.text)  # error: attr-defined
        turn.raise_for_result()
    except TurnFailed as error:
        print(error.text + error.session_id + path_of_log.name, status, channel, names)
    found: list[TurnInfo] = await opened.turns()
    async for piece in opened.send_command(3):  # error: arg-type
        print(piece + found[0].id)
    done, text = await opened.send_command_and_wait("hello", timeout=None)
    print(done + text)  # error: operator
    async for chunk in container.tools.logs(fellow=True):  # error: call-arg
        print(chunk.data)
    await cc_bridge.run_command(["ls"], ContainerOptions(), keep=True)  # error: call-arg


with blocking.open("demo", on_permission=plain) as instance:
    for word in instance.send_command("hello"):
        print(word.upper())
    print(instance.get_info()["session_id"])
    instance.get_info()["session"]  # error: typeddict-item
    instance.exec(["ls"])  # error: union-attr
print(ClaudeOptions(model="m", permission_mode=True))  # error: arg-type
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that has the wheel, and what this environment has besides the project."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    for name in ("cc_bridge", "agent", "docker"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheels = directory / "wheels"
    made = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(wheels), str(source)]
    done = subprocess.run(made, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory / "env")], check=True)
    python = directory / "env" / "bin" / "python"
    [wheel] = wheels.iterdir()
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    [site] = (directory / "env" / "lib").glob("python*/site-packages")
    # A directory that a .pth names comes last, and its own .pth files do not count: so not the editable project.
    (site / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_it_is_the_wheel_that_is_used(python: Path) -> None:
    code = "import cc_bridge, cc_bridge_agent.pane, cc_bridge.images as i; print(cc_bridge.__file__, *i.__path__)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    package, images = map(Path, done.stdout.split())
    assert package.is_relative_to(python.parent.parent)
    assert (package.parent / "py.typed").exists()
    assert (images / "Dockerfile").exists()


def test_the_installed_command_tells_its_verbs(python: Path) -> None:
    command = python.parent / "cc-bridge"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, cwd="/")
    assert {"run", "up", "send", "chat", "attach", "prune", "doctor"} <= set(done.stdout.split())
    done = subprocess.run([command, "ps", "--help"], capture_output=True, text=True, check=True, cwd="/")
    assert "--filter" in done.stdout


@pytest.mark.long
def test_a_type_checker_finds_the_mistakes_in_a_users_program(python: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    argv = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "--config-file="]
    done = subprocess.run(
        [*argv, "--cache-dir", str(tmp_path / "cache"), "program.py"], capture_output=True, text=True, cwd=tmp_path
    )
    found = set(re.findall(r"^program\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE))
    lines = enumerate(PROGRAM.splitlines(), 1)
    wanted = {(str(number), line.split("# error: ")[1]) for number, line in lines if "# error: " in line}
    assert found == wanted, done.stdout + done.stderr
    assert set(re.findall(r"^(.*?):\d+: error", done.stdout, re.MULTILINE)) == {"program.py"}
