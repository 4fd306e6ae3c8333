"""A TLS connection as a plain descriptor: both ways at once, and the end of each."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cc_bridge.engine.tls_socket import plain_socket


class Owner:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2"]
    subprocess.run([*words, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return str(path)


@pytest.fixture
def ends(certificate: str) -> Iterator[tuple[socket.socket, ssl.SSLSocket, Owner]]:
    """The descriptor's side, plain and blocking; the peer's, TLS; and the owner."""
    here, there = socket.socketpair()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    peers: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: peers.append(served.wrap_socket(there, server_side=True)))
    thread.start()
    tls = asking.wrap_socket(here)
    thread.join()
    owner = Owner()
    plain = socket.socket(fileno=plain_socket(tls, owner))
    plain.setblocking(True)
    with plain, peers[0]:
        yield plain, peers[0], owner


def read_all(connection: socket.socket) -> bytes:
    said = b""
    while data := connection.recv(65536):
        said += data
    return said


def test_both_ways_and_both_ends(ends: tuple[socket.socket, ssl.SSLSocket, Owner]) -> None:
    plain, peer, owner = ends
    sent = os.urandom(3_000_000)

    def write() -> None:
        plain.sendall(sent)
        plain.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)
    writer.start()
    got = read_all(peer)  # its end came, and the other way is open still
    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
    writer.join()
    back = threading.Thread(target=lambda: (peer.sendall(sent), peer.close()))
    back.start()
    assert read_all(plain) == sent
    back.join()
    assert owner.closed.wait(10)


def test_what_comes_while_the_end_is_said_is_not_lost(ends: tuple[socket.socket, ssl.SSLSocket, Owner]) -> None:
    """The peer has sent much before it learns that nothing more comes."""
    plain, peer, _ = ends
    sent = os.urandom(1_000_000)
    back = threading.Thread(target=lambda: (peer.sendall(sent), peer.recv(100), peer.close()))
    back.start()
    plain.shutdown(socket.SHUT_WR)
    assert read_all(plain) == sent
    back.join()


def test_a_descriptor_that_is_closed_ends_it(ends: tuple[socket.socket, ssl.SSLSocket, Owner]) -> None:
    plain, _, owner = ends
    plain.close()
    assert owner.closed.wait(10), "the thread goes on"
