"""Which IP addresses are the internet's, and which are never connected to for anybody else. No I/O."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["Address", "Network", "is_never", "is_never_network", "is_public", "plain"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Never connected to, whatever is allowed: credentials of this machine are handed out there.
_NEVER_4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this host" (RFC 1122): Linux connects it to loopback
        "169.254.0.0/16",  # link-local (RFC 3927): metadata of AWS, Azure, Google, Oracle and others
        "100.100.100.200/32",  # metadata of Alibaba
        "168.63.129.16/32",  # Azure's agent server, a public address
        "192.0.0.0/24",  # protocol assignments (RFC 6890); .192 is metadata of Oracle
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
]
_NEVER_6 = [
    IPv6Network(text)
    for text in (
        "::ffff:0:0:0/96",  # IPv4, translated (RFC 2765)
        "64:ff9b:1::/48",  # NAT64 of a network's own (RFC 8215): nobody says where the IPv4 address is in it
        "2001::/32",  # Teredo (RFC 4380): an IPv4 address, inverted
        "2002::/16",  # 6to4 (RFC 3056), whose relays have gone
        "fd00:ec2::/32",  # metadata of AWS
        "fd20:ce::/32",  # metadata of Google
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local (RFC 3879)
        "ff00::/8",  # multicast
    )
]

#: IPv4 as IPv6 (RFC 4291, deprecated). It has ``::``, which connects to loopback, and ``::1``, which may be allowed.
_COMPATIBLE = IPv6Network("::/96")

#: How hosts without IPv4 reach all of it (RFC 6052), so that what is within decides.
_NAT64 = IPv6Network("64:ff9b::/96")

#: What is public of IPv6 (RFC 4291), and what in it is not: protocol assignments, documentation.
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20")]

#: Relays of 6to4 (RFC 7526), which ``is_global`` takes for public.
_NOT_PUBLIC_4 = IPv4Network("192.88.99.0/24")


def plain(address: Address) -> Address:
    """An IPv4 address out of the IPv6 forms that lead to it; all else as it is."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address


def is_never(address: Address) -> bool:
    """Whether it is connected to by no rule."""
    address = plain(address)
    if isinstance(address, IPv4Address):
        return any(address in network for network in _NEVER_4)
    if address in _COMPATIBLE:
        return not address.is_loopback
    return any(address in network for network in _NEVER_6)


def is_never_network(network: Network) -> bool:
    """Whether no address of a network is ever connected to."""
    if isinstance(network, IPv4Network):
        return any(network.subnet_of(never) for never in _NEVER_4)
    return any(network.subnet_of(never) for never in _NEVER_6)


def is_public(address: Address) -> bool:
    """Whether it is one of the internet's, by its number."""
    address = plain(address)
    if is_never(address):
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and address not in _NOT_PUBLIC_4
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)
