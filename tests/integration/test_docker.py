"""Recovery, isolation and many at once, with a real engine and the real Claude Code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from cc_bridge import ClaudeInstance, ClaudeOptions, DockerContainer, TextDelta, TurnInterrupted
from cc_bridge.channels.docker_exec import DockerExecChannel
from cc_bridge.errors import (
    AgentUnavailable,
    ClaudeNotFound,
    ContainerNotFound,
    ContainerStartError,
    EngineError,
    EngineUnavailable,
    ImageNotFound,
    InvalidInput,
)
from cc_bridge.instances.container_plan import ContainerPlan
from cc_bridge.instances.registry import Registry
from cc_bridge.state import Installation
from cc_bridge.testing import ScriptedModel
from cc_bridge.testing.instance_contract import run_out_of_time
from tests.command import cc
from tests.conftest import STUB

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

MakeDocker = Callable[..., Awaitable[DockerContainer]]


@pytest.fixture
async def make_docker(
    make_record: Callable[..., ClaudeInstance], scripted_model: ScriptedModel, images: Any
) -> AsyncIterator[MakeDocker]:
    made: list[DockerContainer] = []

    async def make(client: Any = None, options: dict[str, Any] | None = None, **fields: Any) -> DockerContainer:
        fields = {"image": images.claude, "network": "host", "ephemeral": False, **fields}
        record = make_record(kind="docker", **{"env": scripted_model.claude_env(), **fields})
        made.append(DockerContainer(record, client, **(options or {})))
        return made[-1]

    yield make
    for instance in made:
        await instance.remove()
        await instance.cleanup()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The names of what was logged."""
    with structlog.testing.capture_logs() as records:
        names: list[str] = []
        yield _Names(records)
        names.clear()


class _Names(list[str]):
    def __init__(self, records: Any) -> None:
        super().__init__()
        self.records = records

    def __contains__(self, name: object) -> bool:
        return any(record["event"] == name for record in self.records)

    def clear(self) -> None:
        self.records.clear()


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout


def inspect(instance: DockerContainer) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", instance.container))
    assert isinstance(found, dict)
    return found


def agent_pid(instance: DockerContainer) -> int:
    """The agent's process, as this machine numbers it."""
    lines = docker("top", instance.container, "-eo", "pid,args").splitlines()[1:]
    (pid,) = {int(line.split()[0]) for line in lines if "serve" in line and line.split()[1] == "python3"}
    return pid


async def answer(instance: DockerContainer, text: str = "[[say fine]]") -> str:
    ok, said = await instance.send_command_and_wait(text, 60)
    assert ok, said
    return said


async def channel(instance: DockerContainer) -> Any:
    return (await instance.get_info())["channel"]


# Recovery


@pytest.mark.parametrize("blow", ["kill agent", "stop", "kill", "pause", "rm"])
async def test_the_next_command_works(make_docker: MakeDocker, logged: _Names, blow: str) -> None:
    """covers: C11, C12, C18"""
    instance = await make_docker()
    await answer(instance)
    session = (await instance.get_info())["session_id"]
    logged.clear()
    match blow:
        case "kill agent":
            os.kill(agent_pid(instance), signal.SIGKILL)
        case "rm":
            docker("rm", "-f", instance.container)
        case _:
            docker(blow, instance.container)
    if blow == "pause":
        again = DockerContainer(instance.record)
        assert await answer(again) == "fine"
        await again.release()
        assert "container_paused" in logged
        return
    assert await answer(instance) == "fine"
    assert (await instance.get_info())["session_id"] == session, "the conversation was lost"
    assert await channel(instance) == "pipes"
    assert "connection_lost" in logged
    assert ("container_created" if blow == "rm" else "container_not_running") in logged
    assert "container_started" in logged


async def test_an_agent_killed_in_mid_turn_interrupts_it(make_docker: MakeDocker) -> None:
    instance = await make_docker()
    said: list[str] = []
    with pytest.raises(TurnInterrupted) as caught:
        async for piece in instance.send_command("[[say so far]] [[hang]]"):
            said.append(piece)
            if len(said) == 2:
                os.kill(agent_pid(instance), signal.SIGKILL)
    assert caught.value.text == "".join(said) == "so far"
    assert await answer(instance) == "fine"


async def test_out_of_memory_is_said(make_docker: MakeDocker, workspace: Path) -> None:
    """covers: M11"""
    shutil.copy(STUB, workspace / "stub.py")
    claude = ClaudeOptions(program="/workspace/stub.py")
    instance = await make_docker(memory=128 * 1024 * 1024, claude=claude)
    with pytest.raises(TurnInterrupted, match="out of memory") as caught:
        [piece async for piece in instance.send_command("eats")]
    assert (caught.value.out_of_memory, caught.value.exit_code, caught.value.text) == (True, -9, "Hungry")
    assert await answer(instance, "plain") == "Hello, you."


@pytest.mark.parametrize(
    ("blow", "cause", "exit_code"),
    [(["kill"], "ended by signal 9", 137), (["rm", "-f"], "the container was removed", None)],
    ids=["kill", "rm"],
)
async def test_what_became_of_the_container_is_said(
    make_docker: MakeDocker, blow: list[str], cause: str, exit_code: int | None
) -> None:
    instance = await make_docker()
    with pytest.raises(TurnInterrupted, match=cause) as caught:
        async for piece in instance.send_command("[[say so far]] [[hang]]"):
            if piece == "so":
                docker(*blow, instance.container)
    assert (caught.value.exit_code, caught.value.out_of_memory) == (exit_code, False)
    assert caught.value.session_id == (await instance.get_info())["session_id"]
    assert await answer(instance) == "fine"


async def test_pipes_that_were_unmounted(make_docker: MakeDocker, logged: _Names) -> None:
    """covers: C13"""
    instance = await make_docker()
    await answer(instance)
    pid = inspect(instance)["State"]["Pid"]
    unmount = "import ctypes; assert ctypes.CDLL(None).umount2(b'/run/cc-bridge', 2) == 0"  # MNT_DETACH
    subprocess.run(["nsenter", "-t", str(pid), "-m", "python3", "-c", unmount], check=True)
    assert await answer(instance) == "fine"
    await instance.release()
    assert await answer(instance) == "fine", "the agent holds the directory by its descriptor"
    os.kill(agent_pid(instance), signal.SIGKILL)
    assert await answer(instance) == "fine"


async def test_pipes_whose_directory_is_gone(make_docker: MakeDocker, logged: _Names) -> None:
    """covers: C13"""
    instance = await make_docker()
    await answer(instance)
    pipes = Registry().home(instance.name).pipes
    pipes.rename(pipes.with_name("gone"))
    await instance.release()
    assert await answer(instance) == "fine"
    assert await channel(instance) == "exec"
    assert "fallback" in logged


async def test_pipes_are_used_again_when_they_work_again(make_docker: MakeDocker, logged: _Names) -> None:
    """covers: C13"""
    instance = await make_docker()
    await answer(instance)
    pipes = Registry().home(instance.name).pipes
    pipes.rename(pipes.with_name("gone"))
    await instance.release()
    await answer(instance)
    assert await channel(instance) == "exec"
    for entry in pipes.iterdir():
        entry.unlink()
    pipes.rmdir()
    pipes.with_name("gone").rename(pipes)
    await answer(instance)
    assert await channel(instance) == "pipes"
    assert "pipes_usable_again" in logged


async def test_pipes_that_never_meet(make_docker: MakeDocker, logged: _Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine without a shared kernel: both sides see pipes, and they are not the same. covers: C13"""
    instance = await make_docker()
    container_side = Registry().home(instance.name).path / "another-kernel"
    spec = ContainerPlan.spec

    def elsewhere(plan: ContainerPlan, *args: Any, **options: Any) -> Any:
        from dataclasses import replace

        from cc_bridge.channels.named_pipe import prepare_directory

        prepare_directory(str(container_side))
        made = spec(plan, *args, **options)
        mounts = [
            mount.replace(source=str(container_side)) if mount.target == "/run/cc-bridge" else mount
            for mount in made.mounts
        ]
        return replace(made, mounts=mounts)

    monkeypatch.setattr(ContainerPlan, "spec", elsewhere)
    events = [event async for event in instance.stream("[[say one two]]")]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["one", " two"]
    assert await channel(instance) == "exec"
    assert "fallback" in logged


async def test_the_engine_says_that_its_kernel_is_another(
    make_docker: MakeDocker, logged: _Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await make_docker()

    async def no() -> bool:
        return False

    monkeypatch.setattr(instance._place.engine, "shares_kernel", no)
    assert await answer(instance) == "fine"
    assert await channel(instance) == "exec"
    assert "pipes_unusable" not in logged, "they were tried"


async def test_an_image_without_python(make_docker: MakeDocker, images: Any, logged: _Names) -> None:
    """covers: B10"""
    instance = await make_docker(image=images.bare)
    assert await answer(instance, "[[say one two]]") == "one two"
    assert await channel(instance) == "direct"
    assert await instance.is_running()
    with pytest.raises(InvalidInput, match="no Python for an agent, so it cannot sleep"):
        await instance.sleep()
    await instance.wake()  # harmless, and it asks nobody
    await run_out_of_time(instance, "[[say so far]] [[hang]]", "so far")
    assert await answer(instance) == "fine"
    session = (await instance.get_info())["session_id"]
    docker("kill", instance.container)
    assert await answer(instance) == "fine"
    assert (await instance.get_info())["session_id"] == session
    again = DockerContainer(instance.record)  # another host program, which has yet to learn that there is no Python
    assert await again.is_running()
    assert await answer(again) == "fine"
    await again.release()


async def test_an_existing_container(make_docker: MakeDocker, images: Any, logged: _Names) -> None:
    """It gets the agent put in, and is neither made nor removed. covers: B10, C11, C2"""
    name = f"cc-bridge-test-adopted-{os.getpid()}"
    docker("run", "-d", "--init", "--network", "host", "--name", name, "--entrypoint", "sleep", images.claude, "1000")
    try:
        instance = await make_docker(image="", container=name, workspace=None)
        assert await answer(instance) == "fine"
        assert await channel(instance) == "exec"
        assert "agent_not_running" in logged
        assert "agent_started" in logged
        (pid,) = (
            int(line.split()[0])
            for line in docker("top", name, "-eo", "pid,args").splitlines()
            if " serve " in line and "python3" in line
        )
        os.kill(pid, signal.SIGKILL)
        assert await answer(instance) == "fine"
        docker("stop", "-t", "1", name)
        assert await answer(instance) == "fine"
        await instance.remove()
        assert docker("inspect", "-f", "{{.State.Status}}", name).strip() == "running"
        assert "serve" not in docker("top", name, "-eo", "pid,args")
    finally:
        docker("rm", "-f", name)


async def test_in_an_existing_container_a_neighbour_s_archive_is_not_run(make_docker: MakeDocker, images: Any) -> None:
    """covers: T2: other users of the container can compute where the agent would lie."""
    name = f"cc-bridge-test-squatted-{os.getpid()}"
    docker("run", "-d", "--init", "--network", "host", "--name", name, "--entrypoint", "sleep", images.claude, "1000")
    try:
        instance = await make_docker(image="", container=name, workspace=None)
        uid = docker("exec", name, "id", "-u").strip()
        place, archive = f"/tmp/cc-bridge-{uid}", instance._place._maker.agent.name
        script = f'mkdir -m 777 {place}; echo \'open("/tmp/it-ran", "w")\' >{place}/{archive}; chmod 755 {place}/*'
        docker("exec", "-u", "65534", name, "sh", "-c", script)
        with pytest.raises(AgentUnavailable, match="belongs to somebody else"):
            await instance.start()
        assert docker("exec", name, "sh", "-c", "ls /tmp").split() == [f"cc-bridge-{uid}"]
    finally:
        docker("rm", "-f", name)


async def test_two_host_programs_at_one_instance(make_docker: MakeDocker) -> None:
    """covers: C16"""
    one = await make_docker()
    two = DockerContainer(one.record)
    answers: dict[str, str] = {}

    async def ask(instance: DockerContainer, text: str) -> None:
        answers[text] = await answer(instance, f"[[repeat 30 {text}]]")

    await one.start()
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(ask, one, f"one-{number},")
            group.start_soon(ask, two, f"two-{number},")
    await two.release()
    assert answers == {text: text * 30 for text in answers}
    assert len(answers) == 8


async def test_five_instances_side_by_side(make_docker: MakeDocker) -> None:
    answers: dict[int, str] = {}

    async def ask(number: int) -> None:
        instance = await make_docker()
        answers[number] = await answer(instance, f"[[repeat 200 {number},]]")

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(ask, number)
    assert answers == {number: f"{number}," * 200 for number in range(5)}


# Isolation


async def test_hardened(make_docker: MakeDocker) -> None:
    """covers: M2, B2"""
    instance = await make_docker()
    await answer(instance)
    found = inspect(instance)
    host = found["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"]
    assert host["Memory"] == host["MemorySwap"] == 2 * 1024**3
    assert host["PidsLimit"] == 512
    assert host["Init"]
    assert found["Config"]["User"] not in ("", "0", "0:0", "root")
    (pipes,) = (mount for mount in found["Mounts"] if mount["Destination"] == "/run/cc-bridge")
    assert pipes["RW"] is False


NAMES = ("DATABASE_URL", "PGPASS", "MYSQL_PWD", "GITHUB_PAT", "SENTRY_DSN", "COLOUR")


async def test_no_variable_of_the_user_s_is_in_a_listing_whatever_its_name(
    make_docker: MakeDocker, scripted_model: Any
) -> None:
    """covers: M4, T3: and Claude Code has them all."""
    env = {**scripted_model.claude_env(), **{name: f"sesame-{name}" for name in NAMES}}
    instance = await make_docker(env=env)
    await answer(instance)
    (pid,) = (
        int(line.split()[0])
        for line in docker("top", instance.container, "-eo", "pid,args").splitlines()
        if "stream-json" in line and "python" not in line
    )
    inside = Path(f"/proc/{pid}/environ").read_bytes().decode()
    assert all(f"{name}=sesame-{name}" in inside for name in NAMES)
    shown = docker("inspect", instance.container) + docker("top", instance.container, "-eo", "pid,args")
    shown += docker("logs", instance.container) + json.dumps(await instance.get_info())
    assert "sesame" not in shown
    assert instance.record.env["ANTHROPIC_API_KEY"] not in shown


async def test_an_address_on_this_machine_s_loopback_is_said_at_once(
    make_docker: MakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: T6: not after minutes of retries, and nothing is made."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    instance = await make_docker(env={}, network="bridge")
    with pytest.raises(InvalidInput, match=r"ANTHROPIC_BASE_URL.*loopback"):
        await instance.start()
    with pytest.raises(InvalidInput, match=r"ANTHROPIC_BASE_URL.*loopback"):
        await instance.send_command_and_wait("hello", 20)
    assert docker("ps", "-aq", "--filter", f"name={instance.container}") == ""


async def test_the_gateway_s_address_goes_with_its_token(
    make_docker: MakeDocker, scripted_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: T6"""
    for name, value in scripted_model.claude_env().items():
        monkeypatch.setenv(name, value)
    instance = await make_docker(env={"DISABLE_AUTOUPDATER": "1"})
    assert await answer(instance) == "fine"


@pytest.mark.parametrize(
    "attack",
    [
        "rm /run/cc-bridge/listen",
        "ln -sf /etc/passwd /run/cc-bridge/listen",
        "mv /tmp/file /run/cc-bridge/listen",
        "mkfifo /run/cc-bridge/mine",
        "touch /opt/cc-bridge/agent.pyz",
        "touch /usr/bin/anything",
    ],
)
async def test_what_a_container_cannot_do(make_docker: MakeDocker, attack: str) -> None:
    """covers: B2"""
    instance = await make_docker()
    await instance.start()
    done = await instance.exec(["sh", "-c", f"touch /tmp/file; {attack}"])
    assert done.exit_code != 0
    assert b"Read-only file system" in done.stderr or b"Permission denied" in done.stderr
    assert await answer(instance) == "fine"


async def test_the_image_s_own_health_check(make_docker: MakeDocker, images: Any) -> None:
    instance = await make_docker()
    await instance.start()
    (image,) = json.loads(docker("inspect", images.claude))
    kind, *argv = image["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = await instance.exec(argv)
    assert (done.exit_code, done.stdout) == (0, b"the agent answers, version 0.1.0\n")


async def test_exec_for_debugging(make_docker: MakeDocker) -> None:
    """covers: C14"""
    instance = await make_docker()
    await instance.start()
    done = await instance.exec(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


async def test_workspace_both_ways(make_docker: MakeDocker, workspace: Path) -> None:
    (workspace / "from-host").write_text("hello")
    instance = await make_docker(options={"on_permission": _allow})
    command = json.dumps({"command": "cat from-host > from-container", "description": "copy"})
    await answer(instance, f"[[tool Bash {command}]] [[say done]]")
    assert (workspace / "from-container").read_text() == "hello"


async def _allow(_: Any) -> Any:
    from cc_bridge import Allow

    return Allow()


# What cannot work


async def test_image_missing(make_docker: MakeDocker) -> None:
    """covers: C15"""
    instance = await make_docker(image="cc-bridge-test:no-such-image")
    with pytest.raises(ImageNotFound, match="no-such-image"):
        await instance.start()


async def test_claude_missing_from_the_image(make_docker: MakeDocker, images: Any) -> None:
    """covers: C15"""
    instance = await make_docker(image=os.environ["CC_BRIDGE_BASE_IMAGE"])
    with pytest.raises(ClaudeNotFound, match="--image cc-bridge"):
        await answer(instance)


async def test_claude_missing_where_there_is_no_python_either(make_docker: MakeDocker) -> None:
    instance = await make_docker(image="cc-bridge-debian:bare")
    with pytest.raises(ClaudeNotFound):
        await answer(instance)


async def test_container_missing(make_docker: MakeDocker) -> None:
    instance = await make_docker(image="", container="cc-bridge-test-no-such-container")
    with pytest.raises(ContainerNotFound, match="no-such-container"):
        await instance.start()


async def test_workspace_missing(make_docker: MakeDocker, tmp_path: Path) -> None:
    """covers: C15"""
    instance = await make_docker(workspace=tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="does not exist"):
        await instance.start()
    assert docker("ps", "-aq", "--filter", f"name={instance.container}") == ""


async def test_name_taken_by_a_stranger(make_docker: MakeDocker, images: Any) -> None:
    instance = await make_docker()
    docker("create", "--name", instance.container, images.claude)
    try:
        with pytest.raises(EngineError, match="not of this installation"):
            await instance.start()
    finally:
        docker("rm", "-f", instance.container)


async def test_container_that_ends_at_once(make_docker: MakeDocker) -> None:
    instance = await make_docker(mounts=("/dev/null:/bin/sh:ro",))
    with pytest.raises(ContainerStartError) as caught:
        await instance.start()
    assert "docker logs" not in str(caught.value), "its log has gone with it"
    assert docker("ps", "-aq", "--filter", f"name={instance.container}") == ""
    assert not Registry().home(instance.name).path.exists(), "its record can be corrected"


async def test_an_instance_whose_mount_has_gone_can_be_stopped_and_removed(
    make_docker: MakeDocker, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    instance = await make_docker(mounts=(f"{tmp_path}/gone:/x",))
    await instance.start()
    (tmp_path / "gone").rmdir()
    assert await instance.send_command_and_wait("[[say it runs]]", 60) == (True, "it runs")
    for verb in ("info", "stop", "rm"):
        done = cc(verb, instance.name)
        assert done.returncode == 0, done.stderr
    assert docker("ps", "-aq", "--filter", f"name={instance.container}") == ""
    with pytest.raises(InvalidInput, match="gone does not exist on this machine"):
        await instance.start()


async def test_engine_down(make_docker: MakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    """covers: C15"""
    instance = await make_docker(ephemeral=True)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(EngineUnavailable, match="Is Docker running"):
        await instance.start()
    await instance.cleanup()
    monkeypatch.undo()
    assert not Registry().home(instance.name).path.exists()


@pytest.mark.parametrize("is_late", [False, True])
async def test_agent_that_cannot_be_started(
    make_docker: MakeDocker, images: Any, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """covers: C11"""
    send = DockerExecChannel.send

    async def send_late(channel: DockerExecChannel, data: bytes) -> None:
        await send(channel, data[:100_000])
        if len(data) > 100_000:  # the archive, and the command has failed already
            raise anyio.BrokenResourceError

    if is_late:
        monkeypatch.setattr(DockerExecChannel, "send", send_late)
    name = f"cc-bridge-test-full-{os.getpid()}"
    argv = ["run", "-d", "--init", "--name", name, "--read-only", "--entrypoint", "sleep"]
    docker(*argv, images.claude, "1000")
    try:
        instance = await make_docker(image="", container=name, workspace=None)
        with pytest.raises(AgentUnavailable, match="cannot be put into"):
            await instance.start()
        await instance.remove()
    finally:
        docker("rm", "-f", name)


async def test_a_cancelled_start_leaves_nothing_after_cleanup(make_docker: MakeDocker) -> None:
    """covers: R4"""
    for limit in (0.02, 0.1, 0.2, 0.3):
        instance = await make_docker(ephemeral=True)
        with anyio.move_on_after(limit):
            async with instance:
                await anyio.sleep_forever()
        assert docker("ps", "-aq", "--filter", f"name={instance.container}") == ""
        assert not Registry().home(instance.name).path.exists()


async def test_an_ephemeral_instance_outlives_its_host_by_seconds_only(
    make_docker: MakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is killed: agent, Claude Code and container end by themselves. covers: M1, C8"""
    monkeypatch.setattr("cc_bridge.instances.container_plan.LINGER", 0.2)
    instance = await make_docker(ephemeral=True)
    await answer(instance)
    container = instance.container
    await instance._bridge._driver.uplink.disconnect()  # what a kill of the host does to the connection
    await anyio.run_process(["docker", "wait", container], check=False)
    with anyio.fail_after(10):
        while docker("ps", "-aq", "--filter", f"name={container}"):
            await anyio.sleep(0.05)


async def test_execs_by_a_client_of_the_caller(make_docker: MakeDocker) -> None:
    """covers: C3"""
    import docker as sdk

    client = sdk.from_env()
    try:
        instance = await make_docker(client=client)
        assert await answer(instance) == "fine"
        await instance.release()
        assert client.ping(), "the caller's client was closed"
    finally:
        client.close()


async def test_what_a_killed_program_has_made_and_not_started_is_swept(
    make_docker: MakeDocker, images: Any, logged: _Names, monkeypatch: pytest.MonkeyPatch, state_root: Path
) -> None:
    """covers: M12: by the next container that is made; but not what another program is making just now."""
    labels = {"install": Installation.at(state_root).id, "type": "ephemeral", "instance": "gone"}
    words = [word for key, value in labels.items() for word in ("--label", f"cc-bridge.{key}={value}")]
    orphan = docker("create", *words, images.bare, "true").strip()
    await answer(await make_docker())
    assert orphan in docker("ps", "-aq", "--no-trunc"), "too young to be an orphan"
    monkeypatch.setattr("cc_bridge.instances.container_maker._STALE", -5)
    await answer(await make_docker())
    assert orphan not in docker("ps", "-aq", "--no-trunc")
    assert "orphan_removed" in logged
