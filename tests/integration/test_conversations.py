"""Conversations outlive agents, containers and instances. covers: B7, R5, G4"""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, DockerContainer, LocalProcess
from cc_bridge.errors import InvalidInput
from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def make(
    make_record: Callable[..., ClaudeInstance],
    scripted_model: ScriptedModel,
    claude: str,
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Make]:
    """Makes instances that stay; removes them afterwards."""
    made: list[Any] = []
    (tmp_path / "home").mkdir()
    image = request.getfixturevalue("images").claude if kind == "docker" else ""

    async def make(on: str = kind, **fields: Any) -> Any:
        if on == "docker":
            fields = {"image": image, "network": "host", "env": scripted_model.claude_env(), **fields}
        else:
            fields = {"env": scripted_model.claude_env(tmp_path / "home"), **fields}
        record = make_record(kind=on, ephemeral=False, **fields)
        made.append((DockerContainer if on == "docker" else LocalProcess)(record))
        return made[-1]

    yield make
    for instance in reversed(made):  # of two with one name the later one has it
        await instance.remove(conversation=True)
        await instance.cleanup()


async def told(instance: Any, text: str) -> None:
    ok, said = await instance.send_command_and_wait(text, 60)
    assert ok, said


def heard(model: ScriptedModel) -> str:
    """What the model was given with the last command."""
    return json.dumps(model.requests[-1].body["messages"])


async def test_removed_and_made_again_under_the_same_name(make: Make, scripted_model: ScriptedModel) -> None:
    first = await make()
    await told(first, "the first words")
    await first.remove()
    again = await make(name=first.name)
    await told(again, "the second words")
    assert "the first words" in heard(scripted_model)
    await again.remove(conversation=True)
    anew = await make(name=first.name)
    await told(anew, "the third words")
    assert "words" in heard(scripted_model)
    assert "the first words" not in heard(scripted_model), "it was to be removed with its conversation"


async def test_another_place_does_not_go_on(make: Make, scripted_model: ScriptedModel, tmp_path: Path) -> None:
    first = await make()
    await told(first, "the first words")
    await first.remove()
    (tmp_path / "elsewhere").mkdir(mode=0o777)
    elsewhere = {"workspace": tmp_path / "elsewhere"} if first.record.kind == "local" else {"mount_at": "/elsewhere"}
    again = await make(name=first.name, **elsewhere)
    await told(again, "the second words")
    assert "the first words" not in heard(scripted_model)


async def test_a_fork_leaves_the_original_as_it_is(make: Make, scripted_model: ScriptedModel) -> None:
    original = await make()
    await told(original, "the first words")
    session = await original.keep_conversation()
    fork = await make(resume=session, fork=True)
    await told(fork, "words of the fork")
    assert "the first words" in heard(scripted_model)
    assert (await fork.get_info())["session_id"] != session
    await told(original, "the second words")
    assert "the first words" in heard(scripted_model)
    assert "words of the fork" not in heard(scripted_model)
    await fork.restart()
    await told(fork, "more words of the fork")
    assert "words of the fork" in heard(scripted_model)
    assert "the second words" not in heard(scripted_model)


async def test_exported_and_imported_elsewhere(make: Make, scripted_model: ScriptedModel, tmp_path: Path) -> None:
    """Into an instance of the same kind, and into a local one that works in another directory."""
    first = await make()
    with pytest.raises(InvalidInput, match="no conversation yet"):
        await first.export_conversation(tmp_path / "file")
    await told(first, "the first words")
    session = await first.export_conversation(tmp_path / "file")
    await first.remove(conversation=True)
    assert Registry().sessions.import_file(tmp_path / "file") == session
    (tmp_path / "other-home").mkdir()
    (tmp_path / "other-place").mkdir()
    env = scripted_model.claude_env(tmp_path / "other-home")
    for again in (
        await make(resume=session),
        await make(on="local", resume=session, workspace=tmp_path / "other-place", env=env),
    ):
        await told(again, "the second words")
        assert "the first words" in heard(scripted_model)
        assert (await again.get_info())["session_id"] == session


@pytest.mark.parametrize("kind", [pytest.param("docker", marks=pytest.mark.docker)])
async def test_the_session_belongs_to_the_container_s_user(make: Make, tmp_path: Path) -> None:
    first = await make()
    await told(first, "words")
    session = await first.keep_conversation()
    again = await make(resume=session, user="1234:1235")
    await again.start()
    paths = again._home.claude_home / ".claude" / "projects" / "-workspace" / f"{session}.jsonl"
    for path, mode in ((paths, 0o600), (paths.parent, 0o700), (paths.parent.parent, 0o700)):
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 1235, mode), path
    await told(again, "more words")


@pytest.mark.parametrize("kind", [pytest.param("docker", marks=pytest.mark.docker)])
async def test_the_conversation_in_a_container_that_is_not_ours(make: Make, images: Any, tmp_path: Path) -> None:
    import subprocess

    argv = ["docker", "run", "-d", "--network=host", "--entrypoint", "sleep", images.claude, "300"]
    container = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        instance = await make(container=container, image="", mount_at="/tmp")
        await told(instance, "words")
        assert await instance.export_conversation(tmp_path / "file")
        await instance.remove(conversation=True)
    finally:
        subprocess.run(["docker", "rm", "-f", container], check=True, capture_output=True)
    assert Registry().sessions.import_file(tmp_path / "file")
