"""Where tunnels may lead: addresses, and groups of hosts; and the greeting of TLS."""

from __future__ import annotations

import resource
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.allowed_hosts import read_rule
from cc_bridge.ip_addresses import is_never, is_public
from cc_bridge.proxy import groups
from cc_bridge.proxy.addresses import is_this_machine, within
from cc_bridge.proxy.tls_greeting import Greeting, NoGreeting


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_what_is_never_connected_to_is_not_public_and_no_rule_changes_it(
    address: IPv4Address | IPv6Address,
) -> None:
    everything = [read_rule("a.example=0.0.0.0/0").network, read_rule("a.example=::/0").network]
    if is_never(address):
        assert not is_public(address)
        assert not any(within(address, network) for network in everything)
    else:
        assert any(within(address, network) for network in everything)


def test_a_rule_with_a_network_is_for_that_network() -> None:
    network = read_rule("a.example:443=10.0.0.0/8").network
    assert within(ip_address("10.9.9.9"), network)
    assert within(ip_address("::ffff:10.9.9.9"), network)
    assert not within(ip_address("1.1.1.1"), network)
    assert not within(ip_address("127.0.0.1"), network)


@pytest.mark.parametrize("address", ["10.1.2.3", "127.0.0.1", "::ffff:10.1.2.3", "::1", "169.254.169.254"])
def test_a_rule_without_a_network_is_for_public_addresses(address: str) -> None:
    assert not within(ip_address(address), None)


def test_this_machines_own_addresses_are_known() -> None:
    assert is_this_machine(ip_address("127.0.0.1"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert is_this_machine(ip_address("192.0.2.7")), "without descriptors nobody can say"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not is_this_machine(ip_address("192.0.2.7"))


def hello(name: str | None) -> bytes:
    """A real one, as Python's TLS says it."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


HELLO = hello("Git.Example.org")


def in_records(message: bytes, size: int) -> bytes:
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


def name_in(data: bytes, size: int) -> tuple[str | None, Greeting]:
    greeting, name = Greeting(), None
    for start in range(0, len(data), size):
        name = greeting.receive(data[start : start + size])
        if name is not None:
            break
    return name, greeting


@given(st.integers(1, 600), st.integers(1, 600))
def test_the_name_is_found_however_the_greeting_is_cut(record: int, piece: int) -> None:
    data = in_records(HELLO[5:], record)
    name, greeting = name_in(data, piece)
    assert name == "git.example.org"
    assert data == greeting.raw


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255), st.integers(1, 600))
def test_a_changed_greeting_has_its_name_or_is_refused_or_waits(at: int, byte: int, piece: int) -> None:
    data = bytearray(HELLO)
    data[at] = byte
    try:
        name, _ = name_in(bytes(data), piece)
    except NoGreeting:
        return
    assert name is None or len(name) == len("git.example.org")


@given(st.binary(max_size=200))
def test_anything_is_no_greeting_in_the_end(data: bytes) -> None:
    greeting = Greeting()
    with pytest.raises(NoGreeting):
        for _ in range(400):
            assert greeting.receive(data + b"\0" * (200 - len(data))) is None


def altered(extension: bytes) -> bytes:
    """A smallest greeting with these extensions."""
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + len(extension).to_bytes(2) + extension
    return in_records(b"\x01" + len(body).to_bytes(3) + body, 16384)


def named(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2) + name for name in names)
    content = len(entries).to_bytes(2) + entries
    return b"\0\0" + len(content).to_bytes(2) + content


def test_a_smallest_greeting() -> None:
    assert Greeting().receive(altered(named(b"a.example"))) == "a.example"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "no TLS"),
        (b"SSH-2.0-x\r\n", "no TLS"),
        (b"\x16\x03\x01\0\0", "a length that none has"),
        (b"\x16\x03\x01\x40\x01", "a length that none has"),
        (in_records(b"\x02\0\0\x01x", 99), "no greeting"),
        (in_records(b"\x01\x01\0\0x", 99), "more than 32 KiB"),
        (in_records(HELLO[5:] + b"x", 16384), "behind it"),
        (hello(None), "names no server"),
        (altered(named(b"a.example") + named(b"b.example")), "two names"),
        (altered(named(b"a.example", b"b.example")), "behind its fields"),
        (altered(named(b"a.example", kind=1)), "is none"),
        (altered(named("ä.example".encode())), "is none"),
        (altered(named(b"a.example")[:-1]), "cut short"),
        (altered(b""), "names no server"),
        (altered(named(b"a.example") + b"\xfe\x0d\0\0"), "encrypted one inside"),
    ],
)
def test_what_is_no_greeting_to_one_server(data: bytes, why: str) -> None:
    with pytest.raises(NoGreeting, match=why):
        Greeting().receive(data)


def test_an_endless_greeting_is_cut_off() -> None:
    greeting = Greeting()
    pieces = [in_records(b"\x01\0\x7f\xff", 99), *[in_records(b"\0", 99)] * 6000]
    with pytest.raises(NoGreeting, match="32 KiB"):
        for piece in pieces:
            greeting.receive(piece)
    assert len(greeting.raw) < 33_000


def test_pips_indexes() -> None:
    listed = ":env:.index-url='https://u:p@mirror.example/simple'\nglobal.extra-index-url='\\nfile:///x\\nhttps://more.example/s'"
    indexes, extra = groups.pip_urls(listed)
    assert groups.hosts_of_urls([*indexes, *extra]) == [("mirror.example", 443), ("more.example", 443)]


def test_npms_registries() -> None:
    listed = '{"registry": "https://npm.example/", "@corp:registry": "https://corp.example:8443/x", "editor": "vi"}'
    assert groups.hosts_of_urls(groups.npm_urls(listed)) == [("npm.example", 443), ("corp.example", 8443)]
    assert not groups.npm_urls("npm ERR!")


def test_apts_own_archives() -> None:
    lines = """
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/x] http://deb.example/debian bookworm main contrib
deb-src http://src.example/debian bookworm main
deb https://vendor.example/linux bookworm stable
deb https://db.example/apt bookworm-pgdg main
"""
    stanzas = """Types: deb
# a comment
URIs: http://deb.example/debian
 http://second.example/debian
Suites: bookworm bookworm-updates
Components: main

Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
    assert groups.hosts_of_urls(groups.apt_urls(lines, deb822=False)) == [("deb.example", 443)]
    assert groups.hosts_of_urls(groups.apt_urls(stanzas, deb822=True)) == [
        ("deb.example", 443),
        ("second.example", 443),
    ]


def test_web_addresses_without_a_host_are_left_out() -> None:
    assert not groups.hosts_of_urls(["file:///opt/x", "https://10.0.0.1/", "http://[bad", "https://a.example:x/", "x"])
