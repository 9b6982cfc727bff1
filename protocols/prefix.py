"""Where a peer is on the internet, as coarsely as addresses are given out: many in one place may be one owner's.

Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NewType

Prefix = NewType("Prefix", str)
"""A network like `1.2.0.0/16`, or NEAR."""

NEAR = Prefix("")
"""This machine, our own network, or an address that we don't know: not counted against anybody."""

BITS = {4: 16, 6: 32}  # what providers are given; an owner of more has many names


def prefix_of(address: str | None) -> Prefix:
    """Return the prefix of an IP address; a mapped IPv4 address is one of IPv4."""
    try:
        ip: IPv4Address | IPv6Address = ip_address((address or "").partition("%")[0])
    except ValueError:
        return NEAR
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_private or ip.is_loopback or ip.is_link_local:
        return NEAR
    return Prefix(str(ip_network((ip, BITS[ip.version]), strict=False)))
