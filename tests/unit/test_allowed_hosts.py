"""Rules of allow_hosts: which hosts they allow, and what is none."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.allowed_hosts import Rule, matching, read_host, read_port, read_rule

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


def test_a_rule_may_say_where_the_host_is() -> None:
    assert read_rule("a.example:8443=10.0.0.0/8") == Rule("a.example", 8443, network=ip_network("10.0.0.0/8"))
    assert read_rule("a.example=::1").network == ip_network("::1")


def test_a_name_has_at_most_253_characters() -> None:
    longest = ".".join(["a" * 62] * 4) + ".b"
    assert len(longest) == 253
    assert read_host(f"{longest}.") == longest
    with pytest.raises(ValueError, match="letters"):
        read_host(f"{longest}b")


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
            "a.example:000443",
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
