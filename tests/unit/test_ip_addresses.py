"""Which addresses are the internet's, in all their forms."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from cc_bridge.ip_addresses import is_never, is_public

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
    assert is_never(found) is (address in NEVER)


@pytest.mark.parametrize("address", [*NEVER_6, "::1", "fd00::1", "2001:db8::1", "3fff::1", "4000::1"])
def test_private_addresses_of_ipv6(address: str) -> None:
    found = ip_address(address)
    assert not is_public(found)
    assert is_never(found) is (address in NEVER_6)


@pytest.mark.parametrize("address", ["1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2606:4700::1"])
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))
