"""A connection over the network notices that the other machine has lost its power; an SDK's own would wait for ever."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cc_bridge.engine.client import Engine
from cc_bridge.engine.keepalive import DEAD_AFTER

pytestmark = pytest.mark.anyio


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"ApiVersion": "1.41"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


async def test_the_kernel_asks_for_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        engine = Engine()
        client = await engine.client()
        answer = client.api._get(client.api._url("/events"), stream=True)
        made = answer.raw.connection.sock

        def option(name: str) -> int:
            return int(made.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)))

        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert option("TCP_KEEPIDLE") + option("TCP_KEEPINTVL") * option("TCP_KEEPCNT") == DEAD_AFTER
        assert option("TCP_USER_TIMEOUT") == 0, "it would end who lives and does not read"
        answer.close()
        await engine.aclose()
        server.shutdown()
        thread.join()
