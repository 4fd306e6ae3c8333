"""The border: every error of the SDK becomes one of ours. No engine is needed. covers: C15, C19, M13"""

from __future__ import annotations

import inspect
import threading
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
