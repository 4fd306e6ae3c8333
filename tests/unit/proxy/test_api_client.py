"""Which way requests to the API take."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream

from cc_bridge.proxy.api_client import ApiClient

pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers each request with a cookie. ``asked``: the heads."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            async for head in stream:
                self.asked.append(head.decode())
                await stream.send(ANSWER)
                if head.startswith(b"CONNECT"):
                    return


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        made.port = listener.extra(SocketAttribute.local_port)
        group.start_soon(listener.serve, made.serve)
        yield made
        group.cancel_scope.cancel()


async def ask(client: ApiClient, url: str) -> None:
    answer = await client.send(httpx.Request("GET", url))
    await answer.aread()
    assert answer.status_code == 200


async def test_requests_go_as_they_are(server: Server) -> None:
    async with ApiClient() as client:
        for _ in range(2):
            await ask(client, f"http://127.0.0.1:{server.port}/path")
    assert server.asked == [f"GET /path HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"] * 2


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_host_is_used(server: Server, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, f"127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "api.internal")
    async with ApiClient() as client:
        await ask(client, "http://api.example/path")
        with pytest.raises(httpx.ConnectError):
            await ask(client, "http://api.internal:1/path")
    assert [head.split()[1] for head in server.asked] == ["http://api.example/path"]


async def test_https_asks_the_proxy_for_a_tunnel(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    async with ApiClient() as client:
        with pytest.raises(httpx.HTTPError):  # it speaks no TLS
            await ask(client, "https://api.example/path")
    assert server.asked[0].startswith("CONNECT api.example:443 HTTP/1.1\r\n")
