"""The border: every error of the SDK becomes one of ours. No engine is needed. covers: C15, C19, M13"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import docker.errors
import pytest
import requests.exceptions
from pytest_mock import MockerFixture

from cc_bridge import BridgeError, EngineError
from cc_bridge.engine.client import Engine, translate
from cc_bridge.errors import (
    ContainerNotFound,
    ContainerNotRunning,
    EnginePermissionDenied,
    EngineTimeout,
    EngineUnavailable,
    ImageNotFound,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(docker.errors, inspect.isclass)
    if issubclass(kind, docker.errors.DockerException)
]


def response(status: int) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    return made


def make(kind: type[Exception]) -> Exception:
    """One of each, whatever its constructor wants."""
    for arguments in (("message",), ("reason", []), ("container", 1, "command", "image", "stderr"), ("a", "b")):
        try:
            return kind(*arguments)
        except TypeError:
            continue
    return kind()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_error_of_the_sdk_gets_past(kind: type[Exception]) -> None:
    translated = translate(make(kind), "unix:///x")
    assert isinstance(translated, EngineError)
    assert str(translated)


CASES: list[tuple[Exception, type[EngineError]]] = [
    (docker.errors.ImageNotFound("x", response(404), "No such image: x"), ImageNotFound),
    (docker.errors.NotFound("x", response(404), "No such container: x"), ContainerNotFound),
    (docker.errors.NotFound("x", response(404), "No such image: x:latest"), ImageNotFound),
    (docker.errors.APIError("x", response(409), "Container x is not running"), ContainerNotRunning),
    (docker.errors.APIError("x", response(500), "Container x is not running: Exited (137)"), ContainerNotRunning),
    (docker.errors.APIError("x", response(500), "server error"), EngineError),
    (docker.errors.APIError("x", response(500), "open /x: Permission denied"), EngineError),
    (requests.exceptions.ReadTimeout(), EngineTimeout),
    (requests.exceptions.ConnectionError(), EngineUnavailable),
    (requests.exceptions.ConnectionError("Connection aborted.", PermissionError(13, "x")), EnginePermissionDenied),
    (ConnectionRefusedError(), EngineUnavailable),
    (FileNotFoundError(), EngineUnavailable),
    (PermissionError(13, "Permission denied"), EnginePermissionDenied),
    (docker.errors.DockerException("Error while fetching server API version: x"), EngineUnavailable),
]


@pytest.mark.parametrize(("error", "kind"), CASES, ids=range(len(CASES)))
def test_the_kind_that_fits(error: Exception, kind: type[EngineError]) -> None:
    translated = translate(error, "unix:///x")
    assert type(translated) is kind


def test_a_stranger_goes_on_as_it_is() -> None:
    assert translate(ZeroDivisionError()) is None


@pytest.mark.anyio
class TestEngine:
    async def test_it_translates_and_keeps_the_cause(self) -> None:
        cause = docker.errors.APIError("x", response(500), "no space left on device")

        def fail() -> None:
            raise cause

        with pytest.raises(EngineError, match="no space left") as caught:
            await Engine().call(fail)
        assert caught.value.__cause__ is cause

    async def test_it_does_not_wait_for_ever(self) -> None:
        never = threading.Event()
        with pytest.raises(EngineTimeout, match=r"within 0\.05 s"):
            await Engine().call(never.wait, limit=0.05)
        never.set()

    async def test_a_cancelled_call_is_cancelled(self) -> None:
        never = threading.Event()
        with anyio.move_on_after(0.05) as scope:
            await Engine().call(never.wait)
        assert scope.cancelled_caught
        never.set()

    async def test_our_own_errors_pass(self) -> None:
        def fail() -> None:
            raise BridgeError("ours")

        with pytest.raises(BridgeError, match="ours"):
            await Engine().call(fail)

    @pytest.mark.parametrize(
        ("address", "kernel", "shared"),
        [
            ("http+docker://localhost", "same", True),
            ("http+docker://localhost", "another", False),
            ("https://10.0.0.1:2376", "same", False),
        ],
    )
    async def test_shared_kernel(self, mocker: MockerFixture, address: str, kernel: str, shared: bool) -> None:
        import os

        client: Any = mocker.Mock()
        client.api.base_url = address
        client.info.return_value = {"KernelVersion": os.uname().release if kernel == "same" else "0.0"}
        assert await Engine(client).shares_kernel() is shared

    async def test_a_client_of_the_caller_is_not_closed(self, mocker: MockerFixture) -> None:
        client: Any = mocker.Mock()
        await Engine(client).aclose()
        client.close.assert_not_called()

    async def test_a_folder_named_docker_is_not_the_sdk(
        self, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sys
        import types

        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setitem(sys.modules, "docker", types.ModuleType("docker"))
        with pytest.raises(EngineError, match="SDK is not installed"):
            await Engine().client()


FAKE_SSH = """#!/bin/sh
echo started >>"$(dirname "$0")/log"
echo ready
exec cat
"""


class TestConnecting:
    """No engine is asked: what connects is replaced, the way there is not."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def ssh(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
        """A program in ssh's place; how often it was started."""
        (tmp_path / "ssh").write_text(FAKE_SSH)
        (tmp_path / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("DOCKER_HOST", "ssh://engine.example")
        return lambda: (tmp_path / "log").read_text().count("started")

    async def test_callers_at_once_share_one_client_and_one_tunnel(
        self, ssh: Callable[[], int], mocker: MockerFixture
    ) -> None:
        connect = mocker.patch("cc_bridge.engine.client._connect", side_effect=lambda *_: mocker.Mock())
        engine, found = Engine(), list[Any]()

        async def ask() -> None:
            found.append(await engine.client())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
        assert found[0] is found[1] is found[2]
        assert (ssh(), connect.call_count) == (1, 1)
        await engine.aclose()

    async def test_a_tunnel_that_has_died_is_opened_again(self, ssh: Callable[[], int], mocker: MockerFixture) -> None:
        clients = [mocker.Mock(), mocker.Mock()]
        mocker.patch("cc_bridge.engine.client._connect", side_effect=clients)
        engine = Engine()
        assert await engine.client() is clients[0]
        assert engine._tunnel is not None
        engine._tunnel._process.kill()
        await engine._tunnel._process.wait()
        assert await engine.client() is clients[1]
        assert ssh() == 2
        clients[0].close.assert_called_once()
        await engine.aclose()
        clients[1].close.assert_called_once()

    async def test_an_engine_that_refuses_is_waited_for_once(
        self, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And not once more by what cleans up afterwards; one that has come back is waited for again."""
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        monkeypatch.setattr("cc_bridge.engine.client.PAUSES", (0, 0, 0))
        refused, client = ConnectionRefusedError(), mocker.Mock()
        outcomes: list[Any] = [*[refused] * 4, refused, client]
        connect = mocker.patch("cc_bridge.engine.client._connect", side_effect=outcomes)
        engine = Engine()
        for attempts in (4, 5):
            with pytest.raises(EngineUnavailable):
                await engine.client()
            assert connect.call_count == attempts
        assert await engine.client() is client
        await engine.aclose()
        connect.side_effect = [refused, client]
        assert await engine.client() is client
        await engine.aclose()
