"""Which hosts a sealed instance may reach: the rules of ``allow_hosts``, and which of them allow a host. No I/O.

======================  ==========================================================================
``name``                that host, port 443
``name:port``           that host and port
``*.name:port``         its subdomains of any depth, without the name itself
``…=ADDRESS``           only where it resolves to that address or network, which may be a private one
``python`` and others   a group: the hosts that this machine's own tools use; see
                        :mod:`.proxy.groups`
======================  ==========================================================================

Hosts have names: an address in a name's place is refused, because a certificate and a greeting speak of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_network

from .ip_addresses import Network, is_never_network
from .values import Value

__all__ = ["GROUPS", "Rule", "matching", "read_host", "read_port", "read_rule"]

#: Words that are groups. A host of the same name is written with its port.
GROUPS = ("python", "node", "debian", "github")

_HTTPS = 443

#: DNS has 63 bytes a label and 253 a name (RFC 1035); underscores are in use.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_LONGEST_NAME = 253

#: A last label that makes resolvers read the whole as an IPv4 address: 127.1, 0x7f.1 (inet_aton(3)).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

_LONGEST_PORT = 5


class Rule(Value):
    """One entry of ``allow_hosts``.

    Attributes:
        name: in lower case.
        port: TCP port.
        subdomains: the name's subdomains, and not the name.
        network: where the host must be; None: at a public address.
    """

    name: str
    port: int
    subdomains: bool = False
    network: Network | None = None


def read_host(text: str) -> str:
    """A host's name in lower case, without the dot that may end it.

    Raises:
        ValueError: it is no name of a host, or an address. The message does not repeat it.
    """
    name = text.lower().removesuffix(".") if text.isascii() else ""
    labels = name.split(".")
    if len(name) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("a host's name has letters, digits and dashes between dots (xn--… for others)")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError("a host is named, not given by its address")
    return name


def read_port(text: str) -> int:
    """A TCP port: decimal digits only.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_PORT and 0 < int(text) < 65536):
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def read_rule(text: str) -> Rule:
    """An entry of ``allow_hosts`` that is no group.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        place, equals, where = text.partition("=")
        host, colon, port = place.partition(":")
        network = _read_network(where) if equals else None
        subdomains = host.startswith("*.")
        name = read_host(host.removeprefix("*."))
        if subdomains and "." not in name:
            raise ValueError("*. before a name with one label would allow too much")
        return Rule(name, read_port(port) if colon else _HTTPS, subdomains, network)
    except ValueError as error:
        raise ValueError(
            f"{text[:_LONGEST_NAME]!r}: {error}; write NAME, NAME:PORT, *.NAME:PORT or NAME:PORT=NETWORK"
        ) from None


def _read_network(text: str) -> Network:
    network = ip_network(text)
    if is_never_network(network):
        raise ValueError("addresses there are never connected to, such as those of cloud metadata")
    return network


def matching(rules: Iterable[Rule], host: str, port: int) -> list[Rule]:
    """Rules that allow a host, by its name as :func:`read_host` returns it."""
    return [
        rule
        for rule in rules
        if rule.port == port and (host.endswith(f".{rule.name}") if rule.subdomains else host == rule.name)
    ]
