"""Workspaces of containers: on this machine, and where only the engine reaches them. covers: T1"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, DockerContainer
from cc_bridge.errors import EngineError, InvalidInput
from cc_bridge.service.container_workspace import ContainerWorkspace
from cc_bridge.service.problems import NotThere
from cc_bridge.service.workspace import HostWorkspace, workspace_of
from cc_bridge.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

MakeDocker = Callable[..., Awaitable[DockerContainer]]

_LARGEST = 1024 * 1024


@pytest.fixture
async def make_docker(
    make_record: Callable[..., ClaudeInstance], scripted_model: ScriptedModel, images: Any
) -> AsyncIterator[MakeDocker]:
    made: list[DockerContainer] = []

    async def make(**fields: Any) -> DockerContainer:
        record = make_record(
            kind="docker",
            image=images.claude,
            network="host",
            env=scripted_model.claude_env(),
            ephemeral=False,
            **fields,
        )
        made.append(DockerContainer(record))
        await made[-1].start()
        return made[-1]

    yield make
    for instance in made:
        await instance.remove(conversation=True)
        await instance.cleanup()


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for item in data:
        yield item


async def test_what_is_put_is_the_containers_users_to_change(make_docker: MakeDocker, workspace: Path) -> None:
    instance = await make_docker()
    files = await workspace_of(instance, _LARGEST)
    assert isinstance(files, HostWorkspace)
    await files.write(("in", "a.txt"), chunks(b"of ", b"ours"))
    assert (await instance.exec(["sh", "-c", "cat in/a.txt; echo more >> in/a.txt; touch in/b"])).stdout == b"of ours"
    assert (workspace / "in" / "a.txt").read_bytes() == b"of oursmore\n"
    assert [item.name for item in (await files.entries(("in",)))[0]] == ["a.txt", "b"]


async def test_what_a_container_may_only_read_is_not_written_for_it(make_docker: MakeDocker) -> None:
    files = await workspace_of(await make_docker(read_only_workspace=True), _LARGEST)
    with pytest.raises(InvalidInput, match="read-only"):
        await files.write(("a",), chunks(b""))


async def test_files_that_only_the_engine_reaches(make_docker: MakeDocker) -> None:
    instance = await make_docker()
    files = ContainerWorkspace(instance, await instance.get_tools(), _LARGEST, most=3)
    found, is_new = await files.write(("in", "deep", "-a b.txt"), chunks(b"con", b"tent"))
    assert (found.name, found.size, is_new) == ("-a b.txt", 7, True)
    assert (await files.write(("in", "deep", "-a b.txt"), chunks(b"other")))[1] is False
    content, size = await files.open(("in", "deep", "-a b.txt"))
    with content:
        assert (content.read(), size) == (b"other", 5)
    assert [(item.name, item.kind) for item in (await files.entries(()))[0]] == [("in", "directory")]
    assert (await instance.exec(["sh", "-c", "echo x >> 'in/deep/-a b.txt'; touch in/1 in/2 in/3"])).exit_code == 0
    found_in, more = await files.entries(("in",))
    assert (len(found_in), more) == (3, True)
    for nothing in (files.open(("nothing",)), files.entries(("nothing",))):
        with pytest.raises(NotThere):
            await nothing
    with pytest.raises(InvalidInput, match="directory"):
        await files.open(("in",))
    with pytest.raises(InvalidInput, match="directory"):
        await files.write(("in",), chunks(b""))


async def test_what_is_too_large_does_not_come_out(make_docker: MakeDocker) -> None:
    instance = await make_docker()
    assert (await instance.exec(["sh", "-c", "head -c 2000000 /dev/zero > large"])).exit_code == 0
    with pytest.raises((InvalidInput, EngineError), match="larger than"):
        await ContainerWorkspace(instance, await instance.get_tools(), _LARGEST, most=3).open(("large",))
