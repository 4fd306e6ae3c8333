"""The way out where time passes and descriptors run out."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from cc_bridge_agent import wire
from cc_bridge_agent.client import Client
from cc_bridge_agent.egress import Egress
from tests.unit.agent.stepping import StepLoop


class Proxy:
    """An agent's way out, and both ends of a proxy's connection to it."""

    def __init__(self) -> None:
        self.loop = StepLoop()
        self.logged: list[str] = []
        self.egress = Egress(self.loop, lambda event, **_: self.logged.append(event), 0, "e")  # type: ignore[arg-type]
        self.ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        fd = theirs.detach()
        client = Client(self.loop, "socket", fd, fd, *[lambda *_: None] * 3)  # type: ignore[arg-type]
        self.egress.attach(client, {"hello": 1})
        assert self.heard()[0]["port"] == self.egress.port

    def heard(self) -> list[dict[str, Any]]:
        self.loop.step()
        return [wire.decode(line) for line in self.ours.recv(65536).splitlines()]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.egress.port))


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    with made.ours:
        yield made
        made.egress.close()
        assert not made.loop.watched


def test_a_connection_that_nobody_takes_is_cut(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        assert proxy.heard() == [{"open": 1}]
        assert proxy.loop.let_time_pass() == 30
        assert proxy.heard() == [{"stream": 1, "reset": True}]
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_one_that_was_taken_has_all_the_time_there_is(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        proxy.heard()
        proxy.ours.sendall(b'{"accept":1}\n{"stream":1,"data":"eA=="}\n')
        proxy.loop.step()
        assert connection.recv(10) == b"x"
        assert not proxy.loop.timers


def test_without_descriptors_it_rests_for_a_second(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: socket.socket) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with proxy.connect():
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "accept", none_left)
            proxy.loop.step()
        proxy.loop.step()
        assert proxy.logged == ["proxy_attached", "way_out_full"]
        assert proxy.loop.let_time_pass() == 1
        assert proxy.heard() == [{"open": 1}]


def test_a_fast_program_is_not_read_beyond_the_proxys_credit(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        proxy.heard()
        proxy.ours.sendall(b'{"accept":1}\n')
        proxy.ours.setblocking(False)
        got = b""
        for _ in range(20):
            with suppress(BlockingIOError):
                connection.send(bytes(65536), socket.MSG_DONTWAIT)
            proxy.loop.step()
            with suppress(BlockingIOError):
                got += proxy.ours.recv(1_000_000)
        frames = [wire.decode(line) for line in got.splitlines()]
        assert sum(len(wire.decode_bytes(frame["data"])) for frame in frames) == wire.WINDOW
        proxy.ours.sendall(wire.encode({"stream": 1, "credit": 100}))
        [frame] = proxy.heard()
        assert len(wire.decode_bytes(frame["data"])) == 100
