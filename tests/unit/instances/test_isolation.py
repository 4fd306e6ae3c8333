"""Attempts at the way out tell a proxy that refuses from one that does not, and from none that could be asked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from cc_bridge import ApiLimits, ClaudeInstance
from cc_bridge.allowed_hosts import Rule
from cc_bridge.channels.fifo import Descriptor
from cc_bridge.engine.container_tools import ContainerTools
from cc_bridge.instances.isolation import Outcome, attempts, try_one
from cc_bridge.ip_addresses import Address
from cc_bridge.proxy import tunnel
from cc_bridge.proxy.addresses import Unreachable
from cc_bridge.proxy.api_client import ApiClient
from cc_bridge.proxy.gate import serve_connection
from cc_bridge.proxy.meters import Meters
from cc_bridge.proxy.terms import Guest, Upstream

pytestmark = pytest.mark.anyio

WORKS = os.environ["PATH"]


class Here:
    """Runs what is to be run in a container as processes of this machine."""

    def __init__(self, port: int, path: str) -> None:
        self._env = {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "PATH": path}

    async def exec(self, argv: Sequence[str], **_: Any) -> Any:
        return await anyio.run_process(["/bin/sh", *argv[1:]], env=self._env, check=False)


async def no_login() -> Upstream:
    raise AssertionError("tunnels need no login")


@asynccontextmanager
async def proxy() -> AsyncIterator[int]:
    """What a sealed instance meets at its way out, without the way."""
    guest = Guest(
        name="g",
        placeholder="p",
        sealed=True,
        allow_hosts=("good.example",),
        limits=ApiLimits(),
        login=no_login,
        note=lambda _: None,
    )
    async with ApiClient() as client, await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

        async def serve(stream: ByteStream) -> None:
            await serve_connection(stream, guest, Meters(ApiLimits()), client, open_tunnel=tunnel.open_tunnel)

        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            yield listener.extra(SocketAttribute.local_port)
            group.cancel_scope.cancel()


async def outcomes(port: int, tmp_path: Path, path: str = WORKS) -> list[Outcome]:
    record = ClaudeInstance.of(name="g", kind="docker", image="i", workspace=tmp_path, sealed=True)
    tools = cast(ContainerTools, Here(port, path))
    return [await try_one(tools, attempt) for attempt in attempts(record) if attempt.limit == "way out"]


async def test_rules_hold(tmp_path: Path) -> None:
    """covers: B15"""
    async with proxy() as port:
        found = await outcomes(port, tmp_path)
    assert [(outcome.held, outcome.tried) for outcome in found] == [(True, True)] * 3


async def finds_nobody(host: str, *_: object) -> tuple[Descriptor, Address]:
    raise Unreachable(f"{host} does not answer")


@pytest.mark.parametrize("is_there", [True, False])
async def test_rules_that_are_broken_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    """Whether there is somebody where the proxy should not have gone, or not. covers: B15"""
    server = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def finds_a_server(*_: object) -> tuple[Descriptor, Address]:
        stream = await anyio.connect_tcp("127.0.0.1", server.extra(SocketAttribute.local_port))
        fd = os.dup(stream.extra(SocketAttribute.raw_socket).fileno())
        await stream.aclose()
        return Descriptor(fd), ip_address("127.0.0.1")

    monkeypatch.setattr(tunnel, "read_host", str)
    monkeypatch.setattr(tunnel, "matching", lambda _, host, port: [Rule(host, port)])
    monkeypatch.setattr(tunnel, "connect", finds_a_server if is_there else finds_nobody)
    async with server, proxy() as port:
        found = await outcomes(port, tmp_path)
    assert [(outcome.held, outcome.tried) for outcome in found] == [(False, True)] * 3


async def test_what_cannot_be_tried_is_not_said_to_hold(tmp_path: Path) -> None:
    """covers: B15"""
    async with proxy() as port:
        without_python = await outcomes(port, tmp_path, "/nowhere")
    without_proxy = await outcomes(port, tmp_path)
    for found in (without_python, without_proxy):
        assert [(outcome.held, outcome.tried) for outcome in found] == [(False, False)] * 3
