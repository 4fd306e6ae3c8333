"""What is asked of the engine, and the same as a command. covers: M2, G7, M14"""

from __future__ import annotations

import csv
import io
from typing import Any

import docker.errors
import pytest
import requests.exceptions
from hypothesis import given
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from cc_bridge.engine import containers
from cc_bridge.engine.client import Engine
from cc_bridge.engine.container_spec import ContainerSpec, Mount, docker_words
from cc_bridge.engine.containers import Containers
from cc_bridge.errors import EngineUnavailable, NameConflict

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "PAUSES", (0, 0, 0))
    monkeypatch.setattr("cc_bridge.engine.client.PAUSES", (0, 0, 0))


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8", exclude_characters="\0\r\n")))
def test_any_path_can_be_mounted_by_a_command(path: str) -> None:
    (row,) = csv.reader(io.StringIO(Mount(f"/{path}", "/x", read_only=True).words()))
    assert row == ["type=bind", f"source=/{path}", "target=/x", "readonly"]


def test_the_hardening_is_in_the_command() -> None:
    words = docker_words(ContainerSpec("n", "image", ["a", "b c"], user="1:1"))
    for pair in (
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--pids-limit", "512"),
        ("--user", "1:1"),
    ):
        assert words[words.index(pair[0]) + 1] == pair[1]
    assert "--read-only" in words
    assert words[-4:] == ["--entrypoint", "a", "image", "b c"]


def inspected(nonce: str) -> dict[str, Any]:
    return {"Id": "the-id", "Name": "/n", "Config": {"Labels": {"cc-bridge.nonce": nonce}}}


class Unclear:
    """An engine that makes a container and breaks the connection before it says so."""

    def __init__(self, mocker: MockerFixture, happened: bool) -> None:
        self.client = mocker.Mock()
        self.made: list[str] = []
        self.client.containers.create.side_effect = self.create
        self.client.api.inspect_container.side_effect = self.inspect
        self.happened = happened

    def create(self, **options: Any) -> Any:
        if self.made:
            raise AssertionError("a second one was asked for without a look")
        if self.happened:
            self.made.append(options["labels"]["cc-bridge.nonce"])
        else:
            self.happened = True
        raise requests.exceptions.ConnectionError("broken")

    def inspect(self, name: str) -> Any:
        if not self.made:
            raise docker.errors.NotFound("x", None, "No such container: n")
        return inspected(self.made[0])


@pytest.mark.parametrize("happened", [True, False])
async def test_never_a_second_one_after_an_unclear_answer(mocker: MockerFixture, happened: bool) -> None:
    """covers: M13"""
    engine = Unclear(mocker, happened)
    assert await Containers(Engine(engine.client)).create(ContainerSpec("n", "i", ["x"])) == "the-id"
    assert len(engine.made) == 1


async def test_somebody_elses_is_not_taken_for_ours(mocker: MockerFixture) -> None:
    client = mocker.Mock()
    client.containers.create.side_effect = docker.errors.APIError(
        "x", mocker.Mock(status_code=409), 'Conflict. The container name "/n" is already in use by container "y".'
    )
    client.api.inspect_container.return_value = inspected("another")
    with pytest.raises(NameConflict, match="exists already"):
        await Containers(Engine(client)).create(ContainerSpec("n", "i", ["x"]))


async def test_an_engine_that_stays_away(mocker: MockerFixture) -> None:
    """covers: M13: tried four times in all, and no more."""
    client = mocker.Mock()
    client.api.inspect_container.side_effect = requests.exceptions.ConnectionError("broken")
    with pytest.raises(EngineUnavailable):
        await Containers(Engine(client)).inspect("n")
    assert client.api.inspect_container.call_count == 4
