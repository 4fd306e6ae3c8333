"""Rules of allow_hosts, addresses that are never connected to, groups, and the greeting of TLS."""

from __future__ import annotations

import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.proxy import groups
from cc_bridge.proxy.addresses import is_never, is_public, is_this_machine, within
from cc_bridge.proxy.allowed import Rule, matching, read_host, read_port, read_rule
from cc_bridge.proxy.tls_greeting import Greeting, NoGreeting

labels = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(lambda found: ".".join([*found, "example"]))
ports = st.integers(1, 65535)


@given(names, ports, st.booleans())
def test_a_rule_allows_what_it_names_and_nothing_else(name: str, port: int, below: bool) -> None:
    rule = read_rule(f"{'*.' if below else ''}{name.upper()}:{port}")
    assert rule == Rule(name, port, below)
    assert bool(matching([rule], name, port)) is not below
    assert bool(matching([rule], f"a.{name}", port)) is below
    assert not matching([rule], f"evil{name}", port)
    assert not matching([rule], f"{name}.evil", port)
    assert not matching([rule], f"a.{name}", port % 65535 + 1)
    assert not matching([rule], name, port % 65535 + 1)


def test_the_port_is_443_unless_said() -> None:
    assert read_rule("a.example") == Rule("a.example", 443)


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "*.", "*.com", "a.*.example", "**.a.example", "a..example", "-a.example", "a-.example"),
        *("127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::1]", "::1", "a.example:0", "a.example:65536", "a.example:"),
        *(
            "a.example:+1",
            "a.example:1_0",
            "a.example:٣",
            "a.example:443:443",
            "a.example:00443000",
            "a/b",
            "a b.example",
        ),
        *("bücher.example", "a.example\n", "user@a.example", "https://a.example", "a.example=", "a.example=nowhere"),
        *("a.example=10.0.0.1/8", "a.example=169.254.169.254", "a.example=fe80::/64", "a.example=fd00:ec2::254"),
        *(f"{'a' * 64}.example", ".".join(["a" * 50] * 6)),
    ],
)
def test_what_is_no_rule_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="write NAME"):
        read_rule(text)


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = read_host(text)
    except ValueError:
        return
    assert read_host(name) == name
    assert name.isascii()
    with pytest.raises(ValueError):
        ip_address(name)


@given(st.text(max_size=8))
def test_any_text_is_a_port_or_refused(text: str) -> None:
    try:
        assert 1 <= read_port(text) <= 65535
    except ValueError:
        assert text not in map(str, range(1, 65536))


PRIVATE = ["10.1.2.3", "127.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.88.99.1", "198.18.0.1"]
NEVER = ["0.0.0.0", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1"]
NEVER += ["255.255.255.255"]
NEVER_6 = ["::", "::7f00:1", "fe80::1", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254", "64:ff9b:1::a9fe:a9fe"]
NEVER_6 += ["2002:7f00:1::", "2001:0:1::1", "::ffff:0:7f00:1"]


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER])
@pytest.mark.parametrize("form", ["{}", "::ffff:{}", "64:ff9b::{}"])
def test_no_form_of_a_private_address_is_public(address: str, form: str) -> None:
    found = ip_address(form.format(address))
    assert not is_public(found)
    assert not within(found, None)
    assert is_never(found) is (address in NEVER)


@pytest.mark.parametrize("address", [*NEVER_6, "::1", "fd00::1", "2001:db8::1", "3fff::1", "4000::1"])
def test_private_addresses_of_ipv6(address: str) -> None:
    found = ip_address(address)
    assert not is_public(found)
    assert is_never(found) is (address in NEVER_6)


@pytest.mark.parametrize("address", ["1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2606:4700::1"])
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


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


def test_this_machines_own_addresses_are_known() -> None:
    assert is_this_machine(ip_address("127.0.0.1"))


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
    assert groups.hosts_of_urls([*indexes, *extra]) == ["mirror.example", "more.example"]


def test_npms_registries() -> None:
    listed = '{"registry": "https://npm.example/", "@corp:registry": "https://corp.example:8443/x", "editor": "vi"}'
    assert groups.hosts_of_urls(groups.npm_urls(listed)) == ["npm.example", "corp.example"]
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
    assert groups.hosts_of_urls(groups.apt_urls(lines, deb822=False)) == ["deb.example"]
    assert groups.hosts_of_urls(groups.apt_urls(stanzas, deb822=True)) == ["deb.example", "second.example"]


def test_web_addresses_without_a_host_are_left_out() -> None:
    assert not groups.hosts_of_urls(["file:///opt/x", "https://10.0.0.1/", "http://[bad", "x"])
