"""Where webhooks may go."""

from __future__ import annotations

import anyio
import anyio.abc
import httpcore
import pytest

from cc_bridge import InvalidInput
from cc_bridge.service.public_addresses import CheckedNetwork, checked_url

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a.test/",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "//a.test/",
        "https://me:pass@a.test/",
        "https://me@a.test/",
        "https://a.test:99999/",
        "https://a.test:x/",
        "https://[::1/",
        "https://a.test/ b",
        "https://a.test/\r\nX: y",
        "https://é.test/",
        "https://a.test/" + "x" * 2000,
        "http://127.0.0.1/",
        "http://[::1]:80/",
        "http://169.254.169.254/latest",
    ],
)
def test_what_cannot_be_told_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        checked_url(url, allow_private=False)


@pytest.mark.parametrize("url", ["https://a.test/", "http://a.test:8080/x?y=z#w", "https://1.1.1.1/", "HTTPS://A/"])
def test_others_are_not(url: str) -> None:
    assert checked_url(url, allow_private=False) == url


def test_private_ones_are_the_administrator_s_choice() -> None:
    assert checked_url("http://127.0.0.1/", allow_private=True)


def test_what_is_refused_says_why() -> None:
    for url, why in (
        ("https://a.test/\n", "characters"),
        ("https://[x/", "cannot be read"),
        ("ftp://a.test/", "must begin with"),
        ("https://me@a.test/", "user name"),
        ("http://10.0.0.1/", "private address"),
    ):
        with pytest.raises(InvalidInput, match=why):
            checked_url(url, allow_private=False)
    assert checked_url("https://a.test/" + "x" * 1985, allow_private=False)
    with pytest.raises(InvalidInput, match="2000"):
        checked_url("https://a.test/" + "x" * 1986, allow_private=False)


async def greet(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await stream.send(b"hello")


async def test_another_address_of_a_name_is_tried_where_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a name with an IPv6 and an IPv4 address has it, where nothing listens on the one."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        group.start_soon(listener.serve, greet)

        async def resolve(*_: object, **__: object) -> list[object]:
            return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(anyio, "getaddrinfo", resolve)
        stream = await CheckedNetwork(allow_private=True).connect_tcp("two.test", port)
        assert await stream.read(10) == b"hello"
        assert await stream.read(10) == b""
        await stream.aclose()
        group.cancel_scope.cancel()


async def test_of_several_addresses_only_public_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object, **__: object) -> list[object]:
        return [(0, 0, 0, "", (address, 80)) for address in ("127.0.0.1", "1.1.1.1", "fe80::1%lo")]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    assert await CheckedNetwork(allow_private=False)._addresses("a.test", 80) == ["1.1.1.1"]
    assert len(await CheckedNetwork(allow_private=True)._addresses("a.test", 80)) == 3


async def test_nothing_goes_to_a_socket_of_this_machine() -> None:
    with pytest.raises(httpcore.ConnectError):
        await CheckedNetwork(allow_private=True).connect_unix_socket("/run/docker.sock")
