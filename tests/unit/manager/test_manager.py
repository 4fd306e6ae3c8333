"""Containers of projects, on an engine in memory that several programs share."""

from __future__ import annotations

import itertools
import os
import re
import threading
from pathlib import Path
from typing import Any

import anyio
import docker.errors
import pytest

from cc_bridge.engine.networks import NetworkSpec
from cc_bridge.errors import (
    ContainerNotFound,
    ContainerStartError,
    EngineError,
    InvalidInput,
    LimitReached,
    NameConflict,
    NetworkConflict,
)
from cc_bridge.manager.manager import ContainerManager
from cc_bridge.manager.options import ContainerOptions

from .fake_docker import FakeDocker

pytestmark = pytest.mark.anyio

OPTIONS = ContainerOptions(image="mine:1", project="demo", project_type="tool")
THEIRS = {"cc-bridge.install": "somebody-else", "cc-bridge.project": "demo", "cc-bridge.type": "service"}

#: Seconds after which something hangs. Nothing waits for them to pass.
_LIMIT = 60.0


@pytest.fixture
def docker_engine() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def manager(docker_engine: FakeDocker, root: Path) -> ContainerManager:
    return ContainerManager(docker_engine, root=root)


def labels(manager: ContainerManager, **more: str) -> dict[str, str]:
    """What a container of this manager's project has."""
    own = {"project": "demo", "type": "service", **{name.replace("_", "-"): value for name, value in more.items()}}
    return {**manager.labels, **{f"cc-bridge.{name}": value for name, value in own.items()}}


# Making


async def test_a_new_container_is_named_and_labelled_by_its_project_and_not_started(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    info = await manager.create_secure_container(OPTIONS, ["serve"], kind="web")
    assert re.fullmatch(r"cc-bridge-demo-\d{8}-\d{6}", info.name)
    assert info.status == "created"
    wanted = labels(manager, type="web", project_type="tool")
    assert info.labels.items() >= wanted.items()
    assert docker_engine.made[info.name]["Options"]["entrypoint"] == ["serve"]


async def test_labels_of_the_users_are_kept_and_never_hide_whose_it_is(manager: ContainerManager) -> None:
    options = ContainerOptions(
        image="mine:1", project="demo", labels={"team": "blue", "cc-bridge.install": "x", "cc-bridge.project": "y"}
    )
    info = await manager.create_secure_container(options)
    assert info.labels["team"] == "blue"
    assert info.labels.items() >= labels(manager).items()


async def test_limits_are_the_options_and_hardening_is_always_on(
    manager: ContainerManager, docker_engine: FakeDocker, tmp_path: Path
) -> None:
    options = ContainerOptions(
        image="mine:1",
        project="demo",
        workspace=tmp_path,
        mount_at="/app",
        memory=64 * 1024**2,
        cpus=0.5,
        cpu_shares=100,
        pids=20,
        read_only=False,
        ports={8080: 0, 9090: 1234},
        restart="on-failure:3",
        network="none",
        user="7:8",
    )
    info = await manager.create_secure_container(options)
    made = docker_engine.made[info.name]["Options"]
    wanted = {
        "image": "mine:1",
        "mem_limit": 64 * 1024**2,
        "memswap_limit": 64 * 1024**2,
        "nano_cpus": 500_000_000,
        "cpu_shares": 100,
        "pids_limit": 20,
        "read_only": False,
        "ports": {"8080/tcp": ("127.0.0.1", None), "9090/tcp": ("127.0.0.1", 1234)},
        "restart_policy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "network_mode": "none",
        "user": "7:8",
        "working_dir": "/app",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
    }
    assert {key: made[key] for key in wanted} == wanted
    assert (str(tmp_path), "/app") in [(mount["Source"], mount["Target"]) for mount in made["mounts"]]


async def test_the_containers_user_is_never_root_unless_asked_for(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    info = await manager.create_secure_container(OPTIONS)
    user = docker_engine.made[info.name]["Options"]["user"]
    assert re.fullmatch(r"[1-9]\d*:\d+", user)


async def test_a_name_that_somebody_else_takes_is_changed(manager: ContainerManager, docker_engine: FakeDocker) -> None:
    taken: list[str] = []

    def take(verb: str, name: str) -> None:
        if verb == "create" and len(taken) < 2:
            taken.append(name)
            docker_engine.add(name, THEIRS)

    docker_engine.before = take
    info = await manager.create_secure_container(OPTIONS)
    assert len(taken) == 2
    assert re.fullmatch(r"cc-bridge-demo-\d{8}-\d{6}-[0-9a-f]{4}", info.name)
    assert info.labels.items() >= labels(manager).items()
    assert {docker_engine.status(name) for name in taken} == {"running"}, "theirs is as it was"


async def test_names_that_are_always_taken_are_an_error(manager: ContainerManager, docker_engine: FakeDocker) -> None:
    docker_engine.before = lambda verb, name: docker_engine.add(name, THEIRS) and None
    with pytest.raises(NameConflict):
        await manager.create_secure_container(OPTIONS)
    assert {raw["Config"]["Labels"]["cc-bridge.install"] for raw in docker_engine.made.values()} == {"somebody-else"}


async def test_a_workspace_that_is_not_there_makes_nothing(docker_engine: FakeDocker, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        ContainerOptions(workspace=tmp_path / "none")
    assert docker_engine.made == {}


async def test_a_client_that_was_given_stays_open(manager: ContainerManager, docker_engine: FakeDocker) -> None:
    async with manager:
        await manager.list()
    assert not docker_engine.closed


# The limit of those that run


async def test_no_more_run_of_a_type_than_may(docker_engine: FakeDocker, root: Path) -> None:
    manager = ContainerManager(docker_engine, root=root, most_running={"tool": 1})
    docker_engine.add("stopped", labels(manager, project_type="tool"), "exited")
    docker_engine.add("another-type", labels(manager, project_type="node"))
    docker_engine.add("theirs", {**THEIRS, "cc-bridge.project-type": "tool"})
    await manager.create_secure_container(OPTIONS)
    docker_engine.add("another-project", labels(manager, project_type="tool", project="other"))
    before = list(docker_engine.made)
    with pytest.raises(LimitReached, match="another-project"):
        await manager.create_secure_container(OPTIONS)
    assert list(docker_engine.made) == before
    await manager.create_secure_container(ContainerOptions(image="mine:1", project_type="free"))


# Getting or making


async def test_the_projects_container_is_made_once_and_found_again(
    manager: ContainerManager, docker_engine: FakeDocker, root: Path
) -> None:
    first = await manager.get_or_create(OPTIONS)
    assert first.running
    assert (await manager.get_or_create(OPTIONS)).id == first.id
    assert (await ContainerManager(docker_engine, root=root).get_or_create(OPTIONS)).id == first.id, "another program"
    assert (await manager.get_or_create(OPTIONS, kind="other")).id != first.id
    another = ContainerOptions(image="mine:1", project="another")
    assert (await manager.get_or_create(another)).id != first.id


async def test_another_installations_container_is_not_used(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    theirs = docker_engine.add("theirs", THEIRS)
    assert (await manager.get_or_create(OPTIONS)).id != theirs
    assert "theirs" not in [name for _, name in docker_engine.changes]


@pytest.mark.parametrize(("status", "verb"), [("exited", "start"), ("created", "start"), ("paused", "unpause")])
async def test_one_that_does_not_run_goes_on(
    manager: ContainerManager, docker_engine: FakeDocker, status: str, verb: str
) -> None:
    made = docker_engine.add("mine", labels(manager), status)
    info = await manager.get_or_create(OPTIONS)
    assert (info.id, info.running) == (made, True)
    assert docker_engine.changes == [(verb, "mine")]


@pytest.mark.parametrize("status", ["dead", "removing"])
async def test_one_that_cannot_go_on_is_not_used(
    manager: ContainerManager, docker_engine: FakeDocker, status: str
) -> None:
    gone = docker_engine.add("mine", labels(manager), status)
    assert (await manager.get_or_create(OPTIONS)).id != gone


async def test_two_programs_that_make_one_at_once_get_the_same(docker_engine: FakeDocker, root: Path) -> None:
    """Neither sees the other's before it makes its own; the elder one is used, the other taken back."""
    both, asking = threading.Barrier(2), itertools.count()

    def meet(verb: str, _: str) -> None:
        if verb == "create" and next(asking) < 2:  # one of them may have to choose another name, and ask again
            both.wait(_LIMIT)

    docker_engine.before = meet
    used: list[Any] = []

    async def program() -> None:
        used.append(await ContainerManager(docker_engine, root=root).get_or_create(OPTIONS))

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(program)
            group.start_soon(program)
    (left,) = docker_engine.made.values()
    assert [(info.id, info.running) for info in used] == [("id-001", True)] * 2
    assert left["Id"] == "id-001"


async def test_one_that_its_maker_takes_back_is_looked_for_again(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    docker_engine.add("taken-back", labels(manager), "created")

    def take_back(verb: str, name: str) -> None:
        if (verb, name) == ("start", "taken-back"):
            docker_engine.made.pop(name, None)
            docker_engine.add("the-elder", labels(manager))

    docker_engine.before = take_back
    assert (await manager.get_or_create(OPTIONS)).name == "the-elder"


@pytest.mark.parametrize(("status", "left"), [("created", []), ("exited", ["mine"])])
async def test_one_that_cannot_be_started_is_removed_only_if_it_never_ran(
    manager: ContainerManager, docker_engine: FakeDocker, status: str, left: list[str]
) -> None:
    docker_engine.add("mine", labels(manager), status)

    def refuse(verb: str, _: str) -> None:
        if verb == "start":
            raise docker.errors.APIError("500", None, "no such program")

    docker_engine.before = refuse
    with pytest.raises(ContainerStartError, match="no such program"):
        await manager.get_or_create(OPTIONS)
    assert list(docker_engine.made) == left


# Stopping and removing


async def test_stop_gives_grace_in_seconds_and_restart_likewise(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    docker_engine.add("mine", labels(manager))
    await manager.stop("mine", 3)
    await manager.restart("mine", 4)
    assert docker_engine.changes == [("stop 3", "mine"), ("restart 4", "mine")]


async def test_what_has_gone_is_stopped_and_removed_already(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    await manager.stop("gone")
    await manager.remove("gone", volumes=True)
    with pytest.raises(ContainerNotFound):
        await manager.restart("gone")
    assert docker_engine.changes == []


@pytest.mark.parametrize("labelled", [THEIRS, {}, {"cc-bridge.project": "demo"}], ids=["theirs", "none", "no install"])
async def test_what_is_not_ours_is_not_touched(
    manager: ContainerManager, docker_engine: FakeDocker, labelled: dict[str, str], tmp_path: Path
) -> None:
    """covers: T5"""
    docker_engine.add("theirs", labelled)
    for act in (
        manager.stop("theirs"),
        manager.restart("theirs"),
        manager.remove("theirs"),
        manager.exec("theirs", ["true"]),
        manager.put_files("theirs", tmp_path, "/tmp/x"),
        manager.get_files("theirs", "/etc", tmp_path / "x"),
        manager.stats("theirs"),
        anext(manager.logs("theirs")),
    ):
        with pytest.raises(EngineError, match="theirs is not of this installation"):
            await act
    await manager.cleanup_old_containers("demo", keep=0)
    assert docker_engine.changes == []


async def test_what_0_1_0_has_made_is_found_and_not_cleaned_up(docker_engine: FakeDocker, root: Path) -> None:
    """covers: T5: its id was a hash of a path, which another machine may have, too."""
    (root / "projects" / "demo").mkdir(parents=True)
    manager = ContainerManager(docker_engine, root=root)
    earlier = {**labels(manager), "cc-bridge.install": manager._installation.earlier}
    docker_engine.add("ours", earlier)
    docker_engine.add("elsewhere", {**earlier, "cc-bridge.project": "another machine's"})
    docker_engine.add("left", {**earlier, "cc-bridge.type": "command", "cc-bridge.owner": f"{os.uname().nodename}:1:1"})
    assert {item.name for item in await manager.list()} == {"ours", "left"}
    assert (await manager.get_or_create(OPTIONS)).name == "ours"
    assert not await manager.orphans([])
    with pytest.raises(EngineError, match="not of this installation"):
        await manager.stop("elsewhere")
    await manager.stop("ours")


async def test_an_image_s_labels_do_not_speak_for_us(
    manager: ContainerManager, docker_engine: FakeDocker, tmp_path: Path
) -> None:
    """covers: T5: they become its containers', and could name a file to be deleted, or an instance that is gone."""
    (tmp_path / "victim").touch()
    docker_engine.image_labels = {"cc-bridge.variables": f"{tmp_path}/victim", "cc-bridge.instance": "gone"}
    info = await manager.create_secure_container(OPTIONS)
    assert (info.labels["cc-bridge.variables"], info.labels["cc-bridge.instance"]) == ("", "")
    assert not await manager.orphans([])
    await manager.remove(info.name)
    docker_engine.add("made", {**labels(manager), "cc-bridge.variables": "../../victim"})
    await manager.remove("made")
    assert (tmp_path / "victim").exists()


async def test_another_installation_s_dependencies_are_not_shared(
    manager: ContainerManager, docker_engine: FakeDocker, tmp_path: Path
) -> None:
    """covers: T5"""
    options = ContainerOptions(image="mine:1", project="demo", project_type="node", workspace=tmp_path)
    docker_engine.volumes["cc-bridge-demo-node_modules"] = {"Name": "cc-bridge-demo-node_modules", "Labels": THEIRS}
    info = await manager.create_secure_container(options)
    mounts = docker_engine.made[info.name]["Options"]["mounts"]
    (source,) = (mount["Source"] for mount in mounts if mount["Target"] == "/workspace/node_modules")
    assert source == f"cc-bridge-demo-node_modules-{manager._installation.id}"


async def test_volumes_go_with_their_container_only_if_ours_unused_and_asked_for(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    volumes = ["ours", "shared", "theirs"]
    docker_engine.add("first", labels(manager), volumes=volumes)
    docker_engine.add("second", labels(manager), volumes=["shared"])
    for name in volumes:
        docker_engine.volumes[name] = {"Name": name, "Labels": THEIRS if name == "theirs" else labels(manager)}
    docker_engine.volumes["kept"] = {"Name": "kept", "Labels": labels(manager)}
    docker_engine.add("third", labels(manager), volumes=["kept"])
    await manager.remove("third")
    assert list(docker_engine.volumes) == [*volumes, "kept"], "not asked for"
    await manager.remove("first", volumes=True)
    assert list(docker_engine.volumes) == ["shared", "theirs", "kept"]
    assert list(docker_engine.made) == ["second"]


# What is old, and what nobody will come back for


async def test_a_listing_is_of_this_installation_and_newest_first(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    docker_engine.add("old", labels(manager), "exited")
    docker_engine.add("theirs", THEIRS)
    docker_engine.add("other", labels(manager, project="other"))
    docker_engine.add("new", labels(manager))
    assert [item.name for item in await manager.list()] == ["new", "other", "old"]
    assert [item.name for item in await manager.list("demo")] == ["new", "old"]


async def test_the_oldest_stopped_ones_go_until_as_many_are_left_as_may(docker_engine: FakeDocker, root: Path) -> None:
    manager = ContainerManager(docker_engine, root=root, keep=3)
    docker_engine.add("running-1", labels(manager))
    for number in range(1, 5):
        docker_engine.add(f"stopped-{number}", labels(manager), ["exited", "created", "dead", "exited"][number - 1])
    docker_engine.add("running-2", labels(manager), "paused")
    docker_engine.add("other", labels(manager, project="other"), "exited")
    assert await manager.cleanup_old_containers("demo") == ["stopped-1", "stopped-2", "stopped-3"]
    assert await manager.cleanup_old_containers("demo") == []
    assert await manager.cleanup_old_containers("demo", keep=0) == ["stopped-4"], "one that runs never goes"
    assert list(docker_engine.made) == ["running-1", "running-2", "other"]


async def test_five_are_kept_unless_said_otherwise(manager: ContainerManager, docker_engine: FakeDocker) -> None:
    for number in range(7):
        docker_engine.add(f"stopped-{number}", labels(manager), "exited")
    assert await manager.cleanup_old_containers("demo") == ["stopped-0", "stopped-1"]


async def test_one_that_was_started_meanwhile_stays(manager: ContainerManager, docker_engine: FakeDocker) -> None:
    for number in range(3):
        docker_engine.add(f"stopped-{number}", labels(manager), "exited")

    def start(verb: str, name: str) -> None:
        if name == "stopped-1":
            docker_engine.made[name]["State"]["Status"] = "running"

    docker_engine.before = start
    assert await manager.cleanup_old_containers("demo", keep=0) == ["stopped-0", "stopped-2"]
    assert docker_engine.status("stopped-1") == "running"


async def test_who_is_an_orphan(manager: ContainerManager, docker_engine: FakeDocker) -> None:
    here, other = os.uname().nodename, "another-machine"
    alive = (await manager.create_secure_container(OPTIONS, kind="command")).labels["cc-bridge.owner"]
    dead = alive.rpartition(":")[0] + ":0"  # a process of this number that began at another time
    found = {
        "of-an-instance-that-went": labels(manager, instance="gone"),
        "of-an-instance": labels(manager, instance="known"),
        "a-command-whose-program-died": labels(manager, type="command", owner=dead),
        "a-command-with-no-such-process": labels(manager, type="command", owner=f"{here}:999999999:5"),
        "a-command-that-runs": labels(manager, type="command", owner=alive),
        "a-command-of-another-machine": labels(manager, type="command", owner=f"{other}:1:1"),
        "kept-for-a-look": labels(manager, type="kept", owner=dead),
        "a-service": labels(manager, owner=dead),
        "theirs": {**THEIRS, "cc-bridge.instance": "gone"},
    }
    for name, labelled in found.items():
        docker_engine.add(name, labelled, "created")
    orphans = {item.name for item in await manager.orphans(["known"])}
    assert orphans == {
        "of-an-instance-that-went",
        "a-command-whose-program-died",
        "a-command-with-no-such-process",
    }


# Networks and volumes


async def test_a_network_is_made_once_labelled_and_never_changed(
    manager: ContainerManager, docker_engine: FakeDocker
) -> None:
    network = NetworkSpec("net", "10.9.0.0/16", labels={"team": "blue"})
    options = ContainerOptions(image="mine:1", project="demo", network=network)
    for _ in range(2):
        info = await manager.create_secure_container(options, kind="web")
        assert docker_engine.made[info.name]["Options"]["network"] == "net"
    assert docker_engine.networks["net"]["Labels"].items() >= {**manager.labels, "team": "blue"}.items()
    differing = ContainerOptions(image="mine:1", project="demo", network=NetworkSpec("net", "10.8.0.0/16"))
    before = list(docker_engine.made)
    with pytest.raises(NetworkConflict, match=r"10\.9\.0\.0/16"):
        await manager.create_secure_container(differing)
    assert list(docker_engine.made) == before


async def test_a_new_dependency_volume_gets_the_containers_user_as_its_owner_once(
    manager: ContainerManager, docker_engine: FakeDocker, tmp_path: Path
) -> None:
    options = ContainerOptions(image="mine:1", project="demo", project_type="node", workspace=tmp_path)
    first = await manager.create_secure_container(options)
    given = [name for verb, name in docker_engine.changes if verb == "put_archive"]
    assert len(given) == 1
    assert list(docker_engine.made) == [first.name], "what gave it its owner has gone"
    assert docker_engine.volumes["cc-bridge-demo-node_modules"]["Labels"].items() >= manager.labels.items()
    docker_engine.changes.clear()
    await manager.create_secure_container(options, kind="second")
    assert "put_archive" not in [verb for verb, _ in docker_engine.changes]
