"""Sealed instances, end to end: no network, no key inside, and answers that outlive whoever asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import ApiLimits, DockerContainer, LocalProcess, TextDelta, TmuxInstance, ToolResult
from cc_bridge.channels.named_pipe import prepare_directory
from cc_bridge.errors import InvalidInput
from cc_bridge.instances.container_plan import ContainerPlan
from cc_bridge.instances.isolation import try_isolation
from cc_bridge.instances.way_out import ask_proxy, proxy_now
from cc_bridge.protocol.command_line import ClaudeOptions
from cc_bridge.testing import ScriptedModel

pytestmark = pytest.mark.anyio

KEY = "sk-ant-api03-the-real-one"


@pytest.fixture
async def make(root: Path, make_record: Any, scripted_model: ScriptedModel) -> AsyncIterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(cls: Any, **fields: Any) -> Any:
        env = {**scripted_model.claude_env(), "ANTHROPIC_API_KEY": KEY, **fields.pop("env", {})}
        made.append(cls(make_record(kind=cls.kind, **{"env": env, "ephemeral": False, **fields})))
        return made[-1]

    yield make
    for instance in made:
        await instance.remove()
        await instance.cleanup()


@pytest.fixture
def sealed(make: Callable[..., Any], images: Any) -> Callable[..., DockerContainer]:
    def made(**fields: Any) -> DockerContainer:
        claude = ClaudeOptions(allowed_tools=("Bash",))
        instance: DockerContainer = make(DockerContainer, image=images.claude, sealed=True, claude=claude, **fields)
        return instance

    return made


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both sides see pipes, and they are not the same: as where the engine has a kernel of its own."""
    elsewhere = str(tmp_path / "elsewhere")
    spec = ContainerPlan.spec

    def moved(plan: ContainerPlan, *args: Any, **options: Any) -> Any:
        prepare_directory(elsewhere)
        made = spec(plan, *args, **options)
        mounts = [m.replace(source=elsewhere) if m.target == "/run/cc-bridge" else m for m in made.mounts]
        return replace(made, mounts=mounts)

    monkeypatch.setattr(ContainerPlan, "spec", moved)


async def answer(instance: Any, text: str = "[[say fine]]") -> str:
    ok, said = await instance.send_command_and_wait(text, 60)
    assert ok, said
    return str(said)


def status(root: Path) -> dict[str, Any]:
    return dict((ask_proxy(root, {"status": True}) or {}).get("status", {}))


def attended(root: Path) -> list[str]:
    return [found["name"] for found in status(root).get("instances", [])]


def inside(instance: DockerContainer, script: str) -> str:
    done = subprocess.run(["docker", "exec", instance.container, "sh", "-c", script], capture_output=True, text=True)
    return done.stdout


@pytest.mark.docker
async def test_a_turn_without_a_network_and_without_a_key(
    sealed: Callable[..., DockerContainer], scripted_model: ScriptedModel
) -> None:
    """covers: B5, B22, T6"""
    instance = sealed()
    assert await answer(instance, '[[tool Bash {"command": "ls /sys/class/net"}]][[say done]]') == "done"
    assert scripted_model.keys == {KEY}, "the model was not asked with the real key"
    assert inside(instance, "ls /sys/class/net").split() == ["lo"]
    everything = "cat /proc/[0-9]*/environ; grep -rsa sk-ant- /home /tmp /run /var/lib/cc-bridge /workspace"
    assert KEY not in inside(instance, everything)
    assert "sk-ant-api03-" in inside(instance, everything), "it was not looked where the key would be"
    outcomes = [outcome async for outcome in try_isolation(instance.tools, instance.record)]
    assert [outcome.tries for outcome in outcomes if not outcome.held] == []
    assert KEY not in subprocess.check_output(["docker", "inspect", instance.container], text=True)


@pytest.mark.docker
@pytest.mark.usefixtures("as_root")
async def test_no_process_inside_has_the_key_in_its_memory(
    sealed: Callable[..., DockerContainer], scripted_model: ScriptedModel
) -> None:
    instance = sealed()
    assert await answer(instance, '[[tool Bash {"command": "true"}]][[say done]]') == "done"
    assert scripted_model.keys == {KEY}
    top = subprocess.check_output(["docker", "top", instance.container, "-eo", "pid,args"], text=True)
    found = {int(line.split()[0]): line for line in top.splitlines()[1:]}
    placeholder = b"sk-ant-api03-"
    with_placeholder = [line for pid, line in found.items() if holds(pid, placeholder)]
    assert any("claude" in line for line in with_placeholder), "it was not looked where the key would be"
    assert [line for pid, line in found.items() if holds(pid, KEY.encode())] == []


def holds(pid: int, word: bytes) -> bool:
    """Whether a process has it in its memory, as far as that is there at all (proc(5))."""
    proc = Path(f"/proc/{pid}")
    with (proc / "mem").open("rb", 0) as memory, (proc / "pagemap").open("rb", 0) as pages:
        lines = (proc / "maps").read_text().splitlines()
        return any(word in data for line in lines for data in resident(line, memory, pages))


def resident(line: str, memory: Any, pages: Any) -> Iterator[bytes]:
    """The parts of one mapping that are in memory."""
    span, rights, *_ = line.split()
    if rights[0] != "r" or "[v" in line:  # [vvar] cannot be read
        return
    size = os.sysconf("SC_PAGE_SIZE")
    start, end = (int(number, 16) for number in span.split("-"))
    pages.seek(start // size * 8)
    entries = array("Q", pages.read((end - start) // size * 8))
    for there, group in groupby(range(len(entries)), lambda index: bool(entries[index] >> 62)):
        run = list(group)
        if there:
            memory.seek(start + run[0] * size)
            yield memory.read(len(run) * size)


@pytest.mark.docker
@pytest.mark.long
@pytest.mark.thorough  # a hundred Claude Codes take 12 GB
async def test_a_hundred_sealed_containers_have_one_proxy(
    root: Path, sealed: Callable[..., DockerContainer], scripted_model: ScriptedModel
) -> None:
    instances = [sealed() for _ in range(100)]
    limiter = anyio.CapacityLimiter(8)

    async def begin(instance: DockerContainer) -> None:
        async with limiter:
            assert await answer(instance, "[[say first]]") == "first"

    async def go_on(instance: DockerContainer) -> None:
        assert await answer(instance, f"[[say {instance.name}]]") == instance.name

    for act in (begin, go_on):
        async with anyio.create_task_group() as group:
            for instance in instances:
                group.start_soon(act, instance)
    assert sorted(attended(root)) == sorted(instance.name for instance in instances)
    assert scripted_model.keys == {KEY}


HOST = """
import anyio, os, signal, sys
import cc_bridge

async def main():
    instance = cc_bridge.instances.factory.open(sys.argv[1])
    turn = await instance.submit(sys.argv[2], sys.argv[3])
    async for event in turn:
        if isinstance(event, cc_bridge.TextDelta):
            os.kill(os.getpid(), signal.SIGKILL)

import cc_bridge.instances.factory
anyio.run(main)
"""

LONG = "[[say one]][[delay 1]][[say two]]"
AGAIN = "[[say one]][[delay 1]][[say another two]]"
TURN_ID = "00000000-0000-4000-8000-000000000001"


async def kill_the_host(instance: DockerContainer, model: ScriptedModel) -> None:
    """In mid-answer; the answer is complete afterwards, and the model was asked once."""
    killed = await anyio.run_process([sys.executable, "-c", HOST, instance.name, LONG, TURN_ID], check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    said = ""
    async for event in await instance.turn(TURN_ID):
        said += event.text if isinstance(event, TextDelta) else ""
    assert said == "onetwo"
    assert model.prompts[LONG] == 1


async def kill_the_proxy(instance: DockerContainer, root: Path, model: ScriptedModel) -> None:
    """In mid-answer; Claude Code asks the model again by itself, and the turn is complete."""
    said, killed = "", False
    async for event in await instance.submit(AGAIN):
        if isinstance(event, TextDelta):
            said += event.text
            if not killed:
                os.kill(status(root)["pid"], signal.SIGKILL)
                killed = True
    assert killed
    assert said.endswith("two")
    assert model.prompts[AGAIN] == 2


@pytest.mark.docker
async def test_a_host_that_is_killed_in_mid_answer_loses_nothing(
    sealed: Callable[..., DockerContainer], scripted_model: ScriptedModel
) -> None:
    """covers: B22"""
    instance = sealed()
    await instance.start()
    await kill_the_host(instance, scripted_model)


@pytest.mark.docker
async def test_a_proxy_that_is_killed_in_mid_answer_is_back_and_the_turn_completes(
    sealed: Callable[..., DockerContainer], root: Path, scripted_model: ScriptedModel
) -> None:
    """covers: B22"""
    await kill_the_proxy(sealed(), root, scripted_model)


@pytest.mark.docker
@pytest.mark.usefixtures("apart")
async def test_pipes_that_never_meet(
    sealed: Callable[..., DockerContainer], root: Path, scripted_model: ScriptedModel
) -> None:
    """All of it over an attached exec. covers: B22, C13"""
    instance = sealed()
    said = []
    async for event in instance.stream('[[tool Bash {"command": "ls /sys/class/net"}]][[say one]][[hang]]'):
        said.append(event)
        if isinstance(event, TextDelta):
            break  # the model is not done, and its first token is here
    assert [event.content for event in said if isinstance(event, ToolResult)] == ["lo"]
    assert (await instance.get_info())["channel"] == "exec"
    assert '"channel": "exec"' in (root / "proxy/log").read_text()
    await instance.interrupt()
    await kill_the_host(instance, scripted_model)
    await kill_the_proxy(instance, root, scripted_model)
    assert scripted_model.keys == {KEY}


@pytest.mark.parametrize("cls", [LocalProcess, TmuxInstance])
async def test_a_key_outside_of_a_process(
    make: Callable[..., Any], cls: Any, claude: str, scripted_model: ScriptedModel, tmp_path: Path, root: Path
) -> None:
    """covers: B5"""
    (tmp_path / "home").mkdir()
    home = {} if cls is TmuxInstance else {"HOME": str(tmp_path / "home")}
    instance = make(cls, key="outside", env=home, api_limits=ApiLimits(at_once=4))
    assert await answer(instance) == "fine"
    assert scripted_model.keys == {KEY}
    assert attended(root) == [instance.name]
    ask_proxy(root, {"stop": True})
    while ask_proxy(root, {"status": True}) is not None:  # it answers until it ends
        await anyio.lowlevel.checkpoint()
    assert proxy_now(root) == 0, "nobody is at the socket, and who asked it is not told"
    assert await answer(instance) == "fine", "who is connected has the next one attend"
    await instance.stop()
    assert attended(root) == [], "the proxy still has its login"


async def test_a_login_of_another_provider_cannot_be_outside(make: Callable[..., Any]) -> None:
    instance = make(LocalProcess, key="outside", env={"CLAUDE_CODE_USE_BEDROCK": "1"})
    with pytest.raises(InvalidInput, match="CLAUDE_CODE_USE_BEDROCK"):
        await instance.start()


@pytest.mark.docker
async def test_an_image_without_python_cannot_be_sealed(make: Callable[..., Any], images: Any) -> None:
    instance = make(DockerContainer, image=images.bare, sealed=True)
    with pytest.raises(InvalidInput, match="no Python"):
        await instance.start()
