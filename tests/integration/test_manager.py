"""The manager and the engine room behind it, with a real engine."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge.engine.client import Engine
from cc_bridge.engine.container_spec import ContainerSpec
from cc_bridge.engine.events import ContainerEvent
from cc_bridge.engine.execs import Exit
from cc_bridge.engine.networks import NetworkSpec
from cc_bridge.engine.progress import Step
from cc_bridge.errors import (
    ContainerNotFound,
    ContainerNotRunning,
    ContainerStartError,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    ImageNotFound,
    InvalidInput,
    LimitReached,
    NameConflict,
    NetworkConflict,
    NoSpaceLeft,
)
from cc_bridge.manager.manager import ContainerManager
from cc_bridge.manager.options import ContainerOptions, PathMap, build_container_mounts
from cc_bridge.state import state_root
from tests.conftest import lacking
from tests.registry import registry

pytestmark = [pytest.mark.anyio, pytest.mark.docker]


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout.strip()


def inspect(name: str) -> Any:
    return json.loads(docker("inspect", name))[0]


@pytest.fixture
def project() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def manager(images: Any, project: str) -> AsyncIterator[ContainerManager]:
    async with ContainerManager() as manager:
        yield manager
        for item in await manager.list(project):
            await manager.remove(item.id, volumes=True)
        for network in await manager.networks.labelled({"cc-bridge.project": project}):
            await manager.networks.remove_unused(network.id)
        for volume in await manager.volumes.labelled({"cc-bridge.project": project}):
            await manager.volumes.remove_unused(volume.name)


@pytest.fixture
def options(images: Any, project: str, workspace: Path) -> Any:
    def make(**fields: Any) -> ContainerOptions:
        return ContainerOptions(**{"image": images.bare, "project": project, "workspace": workspace, **fields})

    return make


# Running a command


async def test_run_command(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: R1, R4"""
    done = await manager.run_command(options(), ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert not await manager.list(project)


async def test_stdin_and_much_of_it_both_ways(manager: ContainerManager, options: Any) -> None:
    """covers: R1"""
    sent = os.urandom(3_000_000)
    done = await manager.run_command(options(), ["cat"], stdin=sent)
    assert done.exit_code == 0
    assert done.stdout == sent


async def test_run_command_streaming(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: R2: tagged, in order, the exit code last; and a slow reader loses nothing."""
    script = "for i in $(seq 20000); do echo line $i of many; done; echo said >&2; exit 5"
    said: dict[int, bytes] = {1: b"", 2: b""}
    ended = None
    async for item in manager.run_command_streaming(options(), ["sh", "-c", script]):
        assert ended is None
        if isinstance(item, Exit):
            ended = item
        else:
            said[item.stream] += item.data
            if len(said[1]) < 100_000:
                await anyio.sleep(0.002)
    assert said[1].splitlines() == [b"line %d of many" % number for number in range(1, 20001)]
    assert said[2] == b"said\n"
    assert ended == Exit(5)
    assert not await manager.list(project)


async def test_a_reader_that_stops_stops_the_command(
    manager: ContainerManager, options: Any, project: str, workspace: Path
) -> None:
    """covers: R2"""
    script = "i=0; while [ $i -lt 2000 ]; do head -c 100000 /dev/zero; i=$((i+1)); echo $i > count; done"
    stream = manager.run_command_streaming(options(), ["sh", "-c", script])
    await anext(stream)
    count = workspace / "count"
    with anyio.fail_after(30):
        while not count.exists():
            await anyio.sleep(0.1)
        before = ""
        while (now := count.read_text()) != before or not now:
            before = now
            await anyio.sleep(1)
    assert int(before) < 1000, "200 MB would have been written to nobody"
    await stream.aclose()
    assert not await manager.list(project)


async def test_a_terminal(manager: ContainerManager, options: Any) -> None:
    """covers: R2"""
    said = b""
    async for item in manager.run_command_streaming(options(), ["sh", "-c", "test -t 1 && echo yes >&2"], tty=True):
        if not isinstance(item, Exit):
            assert item.stream == 1
            said += item.data
    assert said == b"yes\r\n"


async def test_cancelled_or_failed_leaves_nothing(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: R4, C8"""
    with anyio.move_on_after(2) as scope:
        await manager.run_command(options(), ["sleep", "60"])
    assert scope.cancelled_caught
    assert not await manager.list(project)
    with pytest.raises(ContainerStartError, match="no-such-user"):
        await manager.run_command(options(user="no-such-user"), ["true"])
    assert not await manager.list(project)
    done = await manager.run_command(options(), ["no-such-program"])
    assert (done.exit_code, b"no-such-program" in done.stderr) == (127, True)
    assert not await manager.list(project)


async def test_kept_when_asked(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: R4, R5"""
    done = await manager.run_command(options(), ["true"], keep_container=True)
    assert done.exit_code == 0
    (kept,) = await manager.list(project)
    assert kept.status == "exited"
    assert not await manager.orphans([])
    assert kept.name.startswith(f"cc-bridge-{project}-")


async def test_secrets_reach_the_command_and_no_listing(
    manager: ContainerManager, options: Any, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: M4, T3: whatever their names."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-the-host")
    env = {"MY_TOKEN": "sesame-4711", "COLOUR": "blue", "MY_KEY": "line 'one'\n$(line) two\n"}
    script = 'printf %s "$MY_KEY"; echo $ANTHROPIC_API_KEY $MY_TOKEN $COLOUR $PROJECT_ID $PORT $TERM $HOME; cat'
    done = await manager.run_command(
        options(env=env, ports={8000: 0}, login=True), ["sh", "-c", script], stdin=b"and stdin", keep_container=True
    )
    expected = f"sk-from-the-host sesame-4711 blue {project} 8000 xterm-256color /home/cc-bridge\nand stdin"
    assert done.stdout.decode() == f"{env['MY_KEY']}{expected}"
    (kept,) = await manager.list(project)
    shown = json.dumps(inspect(kept.name)) + docker("ps", "-a", "--no-trunc", "--filter", f"id={kept.id}")
    for secret in ("blue", "sesame-4711", "sk-from-the-host"):
        assert secret not in shown


async def test_a_command_gets_the_login_only_when_it_is_asked_for(
    manager: ContainerManager, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: T6"""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-the-host")
    done = await manager.run_command(options(), ["sh", "-c", "echo ${ANTHROPIC_API_KEY-none}"])
    assert done.stdout == b"none\n"


async def test_a_container_that_stays_has_its_variables_and_no_listing_has_them(
    manager: ContainerManager, options: Any, project: str
) -> None:
    """covers: T3: its main process and what is run in it have them, after a restart too; they go with it."""
    script = 'echo "$COLOUR"; trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'
    made = await manager.get_or_create(options(env={"COLOUR": "it's\nblue"}), ["sh", "-c", script])
    logs = manager.logs(made.name, follow=True)
    await anext(logs)  # it has begun
    await logs.aclose()
    await manager.restart(made.name, 1)
    said = (await manager.exec(made.name, ["sh", "-c", 'echo "$COLOUR"'])).stdout
    assert said == b"it's\nblue\n"
    chunks = [chunk.data async for chunk in manager.logs(made.name)]
    assert b"".join(chunks) == b"it's\nblue\n" * 2
    assert "blue" not in json.dumps(inspect(made.name))
    await manager.remove(made.name)
    assert not list((state_root() / "variables").iterdir())


async def test_output_without_end_is_not_collected_without_end(
    manager: ContainerManager, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: T4"""
    monkeypatch.setattr("cc_bridge.manager.commands.LARGEST", 1_000_000)  # the engine needs a minute for all of it
    with pytest.raises(LimitReached, match="1000000 bytes"):
        await manager.run_command(options(), ["sh", "-c", "yes"])


async def test_what_a_killed_program_has_left(manager: ContainerManager, project: str, images: Any) -> None:
    """covers: M12, R4: its container is an orphan when it has gone, and not before."""
    program = f"""
import anyio
from cc_bridge import ContainerOptions, run_command_streaming
async def main():
    options = ContainerOptions({images.bare!r}, {project!r})
    async for _ in run_command_streaming(["sh", "-c", "echo up; sleep 60"], options):
        print("up", flush=True)
anyio.run(main)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (item,) = await manager.list(project)
        assert item.status == "running"
        assert not [found for found in await manager.orphans([]) if found.id == item.id]
        process.kill()
    assert [found for found in await manager.orphans([]) if found.id == item.id]


async def test_a_quiet_command_is_not_a_dead_engine(manager: ContainerManager, options: Any) -> None:
    """covers: R1, C14: output that ends early, and none for long."""
    script = "echo out; exec >/dev/null 2>&1; sleep 2; exit 4"
    done = await manager.run_command(options(), ["sh", "-c", script])
    assert (done.exit_code, done.stdout) == (4, b"out\n")
    made = await manager.get_or_create(options())
    with pytest.raises(EngineTimeout, match="did not end within 1 s"):
        await manager.exec(made.name, ["sleep", "3"], limit=1)


# Containers that stay


async def test_create_and_start(manager: ContainerManager, options: Any, project: str, workspace: Path) -> None:
    """covers: M1, M2, M3, M5, M10: the defaults, as Docker itself sees them; files both ways; use while running."""
    (workspace / "from-host").write_text("hello")
    made = await manager.get_or_create(options(project_type="web"))
    assert made.running
    again = await manager.get_or_create(options())
    assert again.id == made.id
    found = inspect(made.name)
    host, config = found["HostConfig"], found["Config"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"]) == (2 * 1024**3, 2 * 1024**3)
    assert (host["NanoCpus"], host["CpuShares"], host["PidsLimit"]) == (2_000_000_000, 512, 512)
    assert host["ReadonlyRootfs"] is True
    assert not host["Privileged"]
    assert config["User"].split(":")[0] != "0"
    assert "/var/run/docker.sock" not in json.dumps(found["Mounts"])
    labels = config["Labels"]
    assert labels["cc-bridge.project"] == project
    assert labels["cc-bridge.project-type"] == "web"
    assert labels["cc-bridge.type"] == "service"
    assert labels["cc-bridge.version"]
    done = await manager.exec(made.name, ["sh", "-c", "cat from-host && echo back > from-container"])
    assert done.stdout == b"hello"
    assert (workspace / "from-container").read_text() == "back\n"
    usage = await manager.stats(made.name)
    assert 0 < usage.memory < usage.memory_limit == 2 * 1024**3
    assert usage.cpu_percent >= 0
    assert usage.pids >= 1
    (listed,) = await manager.list(project)
    assert (listed.name, listed.status) == (made.name, "running")


async def test_a_read_only_workspace_at_a_chosen_path(manager: ContainerManager, options: Any, tmp_path: Path) -> None:
    """covers: M3"""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "file").write_text("more")
    chosen = options(mount_at="/app", read_only_workspace=True, mounts=[f"{tmp_path / 'more'}:/more:ro"])
    script = "pwd; cat /more/file; touch x || touch /more/x"
    done = await manager.run_command(chosen, ["sh", "-c", script])
    assert done.stdout == b"/app\nmore"
    assert done.stderr.count(b"Read-only file system") == 2
    paths = PathMap(build_container_mounts(chosen))
    assert paths.to_container(tmp_path / "more" / "file") == "/more/file"
    assert paths.to_host("/app/sub/../x") == str(chosen.workspace.resolve() / "x")
    assert paths.to_host("/etc/passwd") is None


async def test_a_login_is_read_only_and_sessions_are_apart(
    manager: ContainerManager, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: M3"""
    config = tmp_path / "config"
    config.mkdir()
    (config / ".credentials.json").write_text("login")
    (config / ".credentials.json").chmod(0o644)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(config))
    script = (
        "cat ~/.claude/.credentials.json; echo x > ~/.claude/.credentials.json; mkdir -p ~/.claude/projects && echo ok"
    )
    done = await manager.run_command(options(credentials=True), ["sh", "-c", script])
    assert done.stdout == b"loginok\n"
    assert b"Read-only" in done.stderr
    assert sorted(path.name for path in config.iterdir()) == [".credentials.json"]


async def test_graceful_stop(manager: ContainerManager, options: Any, workspace: Path) -> None:
    """covers: M7: a process that traps SIGTERM sees it; one that ignores it is killed; gone is gone."""
    trap = "trap 'echo bye > stopped; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    made = await manager.get_or_create(options(), ["sh", "-c", trap], kind="polite")
    logs = manager.logs(made.name, follow=True)
    assert (await anext(logs)).data == b"up\n"
    await logs.aclose()
    await manager.stop(made.name, 10)
    assert (workspace / "stopped").read_text() == "bye\n"
    assert inspect(made.name)["State"]["ExitCode"] == 0
    await manager.stop(made.name)
    await manager.restart(made.name)
    assert inspect(made.name)["State"]["Running"]
    deaf = await manager.get_or_create(options(), ["sh", "-c", "trap '' TERM; echo up; sleep 60"], kind="deaf")
    logs = manager.logs(deaf.name, follow=True)
    await anext(logs)
    await logs.aclose()
    await manager.stop(deaf.name, 1)
    assert inspect(deaf.name)["State"]["ExitCode"] == 137
    for name in (made.name, deaf.name):
        await manager.remove(name)
        await manager.remove(name)
        await manager.stop(name)


async def test_logs(manager: ContainerManager, options: Any) -> None:
    """covers: M10"""
    made = await manager.get_or_create(
        options(), ["sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three"], kind="log"
    )
    followed = [(chunk.stream, chunk.data) async for chunk in manager.logs(made.name, follow=True)]
    assert sorted(followed) == [(1, b"one\n"), (1, b"three\n"), (2, b"two\n")]
    assert [chunk.data async for chunk in manager.logs(made.name, tail=1)] == [b"three\n"]
    with pytest.raises(ContainerNotFound):
        async for _ in manager.logs("cc-bridge-no-such"):
            pass


async def test_old_ones_go_and_a_running_one_never(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: M6"""
    names = [(await manager.create_secure_container(options(), kind=kind)).name for kind in "abcd"]
    assert len(set(names)) == 4, "also those made in one second"
    await manager.containers.start(names[0])
    assert await manager.cleanup_old_containers(project, 5) == []
    assert set(await manager.cleanup_old_containers(project, 2)) <= set(names[1:])
    left = {item.name for item in await manager.list(project)}
    assert len(left) == 2
    assert names[0] in left
    await manager.cleanup_old_containers(project, 0)
    assert {item.name for item in await manager.list(project)} == {names[0]}


async def test_a_limit_by_type_of_project(options: Any, manager: ContainerManager, project: str) -> None:
    """covers: M6"""
    async with ContainerManager(most_running={project: 1}) as limited:
        first = await limited.get_or_create(options(project_type=project), kind="a")
        with pytest.raises(LimitReached, match=first.name):
            await limited.get_or_create(options(project_type=project), kind="b")
        await limited.stop(first.name, 1)
        assert (await limited.get_or_create(options(project_type=project), kind="b")).running


@pytest.mark.alone("subnets")
async def test_two_programs_make_one(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: M1, M5, M8: races on names, networks and clean-up."""
    network = NetworkSpec(f"cc-bridge-{project}", "172.29.77.0/24")
    found: list[str] = []

    async def program() -> None:
        async with ContainerManager() as other:
            found.append((await other.get_or_create(options(network=network))).id)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(program)
    assert len(set(found)) == 1
    assert [item.id for item in await manager.list(project)] == found[:1]
    assert len(docker("network", "ls", "-q", "--filter", f"name=cc-bridge-{project}").split()) == 1

    async def clean() -> None:
        async with ContainerManager() as other:
            await other.cleanup_old_containers(project, 0)

    await manager.stop(found[0], 1)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(clean)
    assert not await manager.list(project)


async def test_a_name_that_is_taken(manager: ContainerManager, options: Any, project: str, images: Any) -> None:
    """covers: M5, M14"""
    made = await manager.create_secure_container(options())
    spec = ContainerSpec(made.name, images.bare, ["true"])
    with pytest.raises(NameConflict, match=made.name):
        await manager.containers.create(spec)
    assert inspect(made.name)["Id"] == made.id


async def test_what_is_not_ours_is_not_touched(manager: ContainerManager, images: Any) -> None:
    """covers: M12"""
    name = f"stranger-{uuid.uuid4().hex[:8]}"
    docker("run", "-d", "--name", name, images.bare, "sleep", "60")
    try:
        for act in (manager.stop, manager.restart, manager.remove):
            with pytest.raises(EngineError, match="not of this installation"):
                await act(name)
        with pytest.raises(EngineError, match="not of this installation"):
            await manager.exec(name, ["true"])
        assert inspect(name)["State"]["Running"]
    finally:
        docker("rm", "-f", name)


async def test_a_paused_one_goes_on(manager: ContainerManager, options: Any) -> None:
    """covers: M1"""
    made = await manager.get_or_create(options())
    docker("pause", made.name)
    again = await manager.get_or_create(options())
    assert (again.id, again.running) == (made.id, True)


async def test_dependency_volumes(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: M9, M14: named, kept, the user's own, and removed when asked."""
    chosen = options(project_type="node")
    done = await manager.run_command(chosen, ["sh", "-c", "echo kept > node_modules/file && id -u"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout != b"0\n"
    again = await manager.run_command(chosen, ["cat", "node_modules/file"])
    assert again.stdout == b"kept\n"
    name = f"cc-bridge-{project}-node_modules"
    (volume,) = await manager.volumes.labelled({"cc-bridge.project": project})
    assert volume.name == name
    made = await manager.create_secure_container(chosen)
    assert not await manager.volumes.remove_unused(name)
    await manager.remove(made.name, volumes=True)
    assert await manager.volumes.find(name) is None


@pytest.mark.alone("subnets")
async def test_networks(manager: ContainerManager, options: Any, project: str) -> None:
    """covers: M8, M14"""
    name = f"cc-bridge-{project}"
    spec = NetworkSpec(name, "172.29.78.0/24", "172.29.78.1")
    made = await manager.get_or_create(options(network=spec))
    assert made.networks[name].startswith("172.29.78.")
    assert (await manager.networks.ensure(spec)).gateway == "172.29.78.1"
    with pytest.raises(NetworkConflict, match=r"its subnet is 172.29.78.0/24, not 172.29.79.0/24"):
        await manager.networks.ensure(NetworkSpec(name, "172.29.79.0/24"))
    with pytest.raises(NetworkConflict, match=rf"{name} has 172.29.78.0/24"):
        await manager.networks.ensure(NetworkSpec(f"{name}-2", "172.29.78.128/25"))
    with pytest.raises(EngineError, match="cannot be made"):
        await manager.networks.ensure(NetworkSpec(f"{name}-3", "172.29.80.0/24", driver="no-such-driver"))
    with pytest.raises(InvalidInput, match="gateway"):
        NetworkSpec("x", "172.29.0.0/24", "10.0.0.1")
    assert not await manager.networks.remove_unused(name), "a container is in it"
    await manager.remove(made.name)
    assert await manager.networks.remove_unused(name)
    assert await manager.networks.remove_unused(name)
    assert NetworkSpec("x").subnet == "172.28.0.0/16"


async def test_what_cannot_be(manager: ContainerManager, options: Any, tmp_path: Path, project: str) -> None:
    """covers: M14, M3, G9"""
    with pytest.raises(InvalidInput, match="does not exist"):
        options(workspace=tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="nowhere"):
        await manager.create_secure_container(options(mounts=[f"{tmp_path}/nowhere:/x"]))
    with pytest.raises(ImageNotFound, match="no-such-image"):
        await manager.create_secure_container(options(image="cc-bridge-no-such-image:1"))
    with pytest.raises(ContainerStartError):
        await manager.get_or_create(options(user="no-such-user"))
    with pytest.raises(ContainerNotFound):
        await manager.exec("cc-bridge-no-such", ["true"])
    made = await manager.create_secure_container(options(), kind="created")
    with pytest.raises(ContainerNotRunning):
        await manager.exec(made.name, ["true"])
    await manager.remove(made.name)
    assert not await manager.list(project)


async def test_files_both_ways(manager: ContainerManager, options: Any, tmp_path: Path) -> None:
    """covers: R5: into a container that has not started, with the right owner; and out of one, trusting nothing."""
    made = await manager.create_secure_container(options(read_only=False))
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("content")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    await manager.put_files(made.name, tree, "/workspace/copied", uid=1000, gid=1000)
    await manager.containers.start(made.name)
    script = "cd copied && stat -c '%u:%g %a %n' run deep/file && ln -s /etc/passwd link && mkfifo pipe"
    done = await manager.exec(made.name, ["sh", "-c", script])
    assert done.stdout.splitlines()[0].startswith(b"1000:1000 755")
    back = tmp_path / "back"
    left_out = await manager.get_files(made.name, "/workspace/copied", back)
    assert (back / "deep" / "file").read_text() == "content"
    assert os.access(back / "run", os.X_OK)
    assert {name.rpartition("/")[2] for name in left_out} == {"link", "pipe"}
    assert not (back / "link").exists()
    with pytest.raises(ContainerNotFound):
        await manager.get_files(made.name, "/no/such", tmp_path / "x")


async def test_the_engines_socket_only_when_asked(manager: ContainerManager, options: Any) -> None:
    """covers: R6"""
    script = "test -S /var/run/docker.sock && test -w /var/run/docker.sock && id -G"
    assert (await manager.run_command(options(), ["sh", "-c", script])).exit_code == 1
    done = await manager.run_command(options(docker_socket=True), ["sh", "-c", script])
    assert done.exit_code == 0, done
    assert str(os.stat("/var/run/docker.sock").st_gid) in done.stdout.decode().split()


# What happens to them


async def exits(manager: ContainerManager, image: str, act: Any) -> ContainerEvent:
    """The exit that is reported within a second of an act."""
    reported: list[ContainerEvent] = []
    seen = anyio.Event()

    async def on_exit(event: ContainerEvent) -> None:
        reported.append(event)
        seen.set()

    async with anyio.create_task_group() as group:
        group.start_soon(manager.report_exits, on_exit)
        await manager.run_command(ContainerOptions(image=image, project="test-ready"), ["true"])
        await act()
        with anyio.fail_after(5):
            await seen.wait()
        group.cancel_scope.cancel()
    return reported[0]


async def test_a_kill_is_reported(manager: ContainerManager, options: Any, images: Any) -> None:
    """covers: M11"""
    made = await manager.get_or_create(options(restart="no"))
    pid = inspect(made.name)["State"]["Pid"]

    async def act() -> None:
        os.kill(pid, signal.SIGKILL)

    event = await exits(manager, images.bare, act)
    assert (event.name, event.exit_code, event.oom_killed) == (made.name, 137, False)


async def test_running_out_of_memory_is_reported(manager: ContainerManager, options: Any, images: Any) -> None:
    """covers: M11, M2"""
    made = await manager.create_secure_container(
        options(memory=64 * 1024**2), ["sh", "-c", "sleep 1; exec tail /dev/zero"], kind="eater"
    )

    async def act() -> None:
        await manager.containers.start(made.name)

    event = await exits(manager, images.bare, act)
    assert (event.name, event.exit_code, event.oom_killed) == (made.name, 137, True)


async def test_what_was_asked_for_is_not_unexpected(manager: ContainerManager, options: Any) -> None:
    """covers: M11"""
    made = await manager.get_or_create(options(), ["sh", "-c", "trap '' TERM; sleep 60"], kind="deaf")
    events = manager.watch()
    seen: list[ContainerEvent] = []

    async def read() -> None:
        async for event in events:
            seen.append(event)
            if event.action == "die" and event.id == made.id:
                return

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await manager.exec(made.name, ["true"])
        await manager.stop(made.name, 0)
    await events.aclose()
    assert seen[-1].exit_code == 137
    assert not seen[-1].is_unexpected_exit


# The engine


async def test_a_call_that_is_cancelled_before_it_has_a_connection_leaves_none_open(engine: None) -> None:
    """One that is left open is a warning of Python's, which fails a test."""
    its = Engine()
    client = await its.client()
    await its.version()
    may_go_on, is_over = threading.Event(), threading.Event()

    def ask() -> None:
        may_go_on.wait()
        try:
            client.api.version()
        finally:
            is_over.set()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(its.call, ask)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    may_go_on.set()
    await anyio.to_thread.run_sync(is_over.wait)
    gc.collect()
    await its.aclose()


async def test_an_engine_that_stalls(tmp_path: Path, engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """covers: M13, M14: a proxy that answers what is asked first and then nothing; the limit holds, and says so."""
    path = str(tmp_path / "engine.sock")
    stalls = threading.Event()

    def handle(connection: socket.socket) -> None:
        with connection, socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect("/var/run/docker.sock")
            while (data := connection.recv(65536)) and not stalls.is_set():
                upstream.sendall(data)
                connection.sendall(upstream.recv(65536))
            connection.recv(1)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=[connection], daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        stalled = Engine()
        client = await stalled.client()
        stalls.set()
        with pytest.raises(EngineTimeout, match=r"did not answer within 0.5 s"):
            await stalled.call(client.info, limit=0.5)
        await stalled.aclose()
        listener.shutdown(socket.SHUT_RDWR)


async def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """covers: M13, M14"""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    async with ContainerManager() as manager:
        with pytest.raises(EngineUnavailable, match=r"none.sock.*doctor"):
            await manager.list()


async def test_a_pull(engine: None, tmp_path: Path) -> None:
    """covers: R3: a real one, with progress; and a name that the registry does not have."""
    steps: list[Step] = []
    with registry() as name:
        try:
            async with ContainerManager(on_progress=steps.append) as manager:
                assert await manager.ensure_image(name) == name
                assert await manager.images.exists(name)
                with pytest.raises(ImageNotFound, match=r"is not here and"):
                    await manager.pull_image(name.replace("tiny:1", "tiny:2"))
        finally:
            subprocess.run(["docker", "rmi", name], capture_output=True, check=False)
    assert str(steps[0]) == f"pulling {name}"
    assert any(step.total and step.total > 2_900_000 for step in steps)
    assert any("Pull complete" in step.text for step in steps)


async def test_a_cancelled_build_ends_in_the_engine(manager: ContainerManager, tmp_path: Path, images: Any) -> None:
    """covers: M13, G1: nothing of it goes on behind our back."""
    sleep = f"sleep 77.{uuid.uuid4().int}"
    (tmp_path / "Dockerfile").write_text(f"FROM {images.bare}\nRUN {sleep}\n")
    with anyio.move_on_after(3):
        await manager.build_image(tmp_path / "Dockerfile", tmp_path)
    with anyio.fail_after(10):
        while subprocess.run(["pgrep", "-f", f"^{sleep}"], capture_output=True, check=False).stdout:
            await anyio.sleep(0.1)


@pytest.mark.long
async def test_out_of_disk_space(tmp_path: Path, engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """covers: M14: an engine of the test's own, whose data root is a small file system."""
    root, address = tmp_path / "data", f"unix://{tmp_path}/small.sock"
    root.mkdir()
    if os.getuid() or not shutil.which("dockerd"):
        lacking("docker", "a second engine needs root and dockerd")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", str(root)], check=True)
    # In a network of its own: an engine without a bridge removes the one that another has made.
    words = ["unshare", "--net", "dockerd", "--data-root", str(root), "--exec-root", f"{tmp_path}/exec", "-H", address]
    words += ["--pidfile", str(tmp_path / "pid"), "--bridge=none", "--iptables=false", "--ip-masq=false"]
    try:
        with (tmp_path / "log").open("w") as log:
            small = subprocess.Popen(words, stdout=log, stderr=log)
        monkeypatch.setenv("DOCKER_HOST", address)
        (tmp_path / "context").mkdir()
        (tmp_path / "context" / "big").write_bytes(os.urandom(64 * 1024**2))
        (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nCOPY big /big\n")
        with anyio.fail_after(60):
            while not (tmp_path / "small.sock").exists():
                await anyio.sleep(0.1)
        async with ContainerManager() as manager:
            with pytest.raises(NoSpaceLeft, match=r"cc-bridge prune"):
                await manager.build_image(tmp_path / "context" / "Dockerfile", tmp_path / "context")
    finally:
        small.terminate()
        small.wait(60)
        subprocess.run(["umount", "-l", str(root)], check=True)
