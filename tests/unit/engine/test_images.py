"""Images with a mocked engine: names, progress, failures. covers: C19, R3, G9"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from pytest_mock import MockerFixture

from cc_bridge import EngineError
from cc_bridge.engine.client import Engine
from cc_bridge.engine.image_names import DEFAULT_IMAGE
from cc_bridge.engine.images import Images, dockerfile
from cc_bridge.engine.progress import Step
from cc_bridge.errors import ImageNotFound

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(mocker: MockerFixture) -> Any:
    client = mocker.Mock()
    client.images.get.side_effect = docker.errors.ImageNotFound("no", None, "No such image")
    return client


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    (tmp_path / "agent-1.pyz").write_bytes(b"archive")
    return tmp_path / "agent-1.pyz"


async def test_what_is_there_is_used(client: Any, agent: Path) -> None:
    client.images.get.side_effect = None
    assert await Images(Engine(client)).ensure("mine:1", agent) == "mine:1"
    client.api.pull.assert_not_called()


@pytest.mark.parametrize(
    ("name", "repository", "tag"),
    [
        ("mine", "mine", "latest"),
        ("mine:1", "mine", "1"),
        ("host:5000/mine", "host:5000/mine", "latest"),
        ("host:5000/mine:1", "host:5000/mine", "1"),
        ("mine@sha256:abc", "mine@sha256:abc", None),
    ],
)
async def test_what_is_not_is_pulled_with_progress(
    client: Any, agent: Path, name: str, repository: str, tag: str | None
) -> None:
    client.api.pull.return_value = iter(
        [{"id": "layer", "status": "Pulling"}, {"status": "Downloading", "progress": "[=>"}, {"status": "done"}]
    )
    seen: list[Step] = []
    await Images(Engine(client)).ensure(name, agent, seen.append)
    assert [str(step) for step in seen if not step.passing] == [f"pulling {name}", "layer Pulling", "done"]
    assert client.api.pull.call_args.args == (repository,)
    assert client.api.pull.call_args.kwargs["tag"] == tag


async def test_what_cannot_be_pulled(client: Any, agent: Path) -> None:
    client.api.pull.return_value = iter([{"error": "access denied"}])
    with pytest.raises(ImageNotFound, match="mine is not here and cannot be pulled: access denied"):
        await Images(Engine(client)).ensure("mine", agent)


async def test_the_default_image_is_built_once_for_what_it_is_made_from(client: Any, agent: Path) -> None:
    sent: list[bytes] = []

    def build(*, fileobj: Any, **_: Any) -> Any:
        sent.append(fileobj.read())
        return iter([{"stream": "Step 1\n"}, {"stream": " ---> abc\n"}])

    client.api.build.side_effect = build
    seen: list[Step] = []
    images = Images(Engine(client))
    name = await images.ensure(DEFAULT_IMAGE, agent, seen.append)
    assert name.startswith("cc-bridge:")
    assert [str(step) for step in seen] == [f"building {name} (the first time only)", "Step 1"]
    with tarfile.open(fileobj=io.BytesIO(sent[0])) as archive:
        assert archive.getnames() == ["Dockerfile", "agent.pyz"]
        assert {member.mode for member in archive} == {0o644}
    other = agent.with_name("agent-2.pyz")
    other.write_bytes(b"another")
    assert images.default_name(other) != name, "another agent, another image"
    client.images.get.side_effect = None
    assert await images.ensure(DEFAULT_IMAGE, agent) == name
    assert client.api.build.call_count == 1


async def test_a_build_that_fails_quotes_its_last_lines(client: Any, agent: Path) -> None:
    client.api.build.return_value = iter([{"stream": "Step 1\nE: no such package\n"}, {"error": "exit code 100"}])
    with pytest.raises(EngineError, match=r"(?s)exit code 100.*E: no such package"):
        await Images(Engine(client)).ensure(DEFAULT_IMAGE, agent)


def test_the_dockerfile_is_found_and_holds_no_claude_code() -> None:
    text = dockerfile().read_text()
    assert "ARG CLAUDE_RELEASE" in text
    assert "HEALTHCHECK" in text
    assert "USER claude" in text
