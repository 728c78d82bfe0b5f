"""Addresses of peers as the node compares and counts them."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def plain_address(address: str) -> Address:
    """Parse an address without its scope; an IPv4-mapped one becomes IPv4. Raises ``ValueError``."""
    host: Address = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(host, "ipv4_mapped", None)
    return mapped or host


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def network_of(address: str) -> str:
    """Return what limits count as one address: a host has a whole /64 network of IPv6 (RFC 6177).

    Raises ``ValueError`` for what is no address.
    """
    host = plain_address(address)
    return str(host) if host.version == 4 else str(ipaddress.ip_network((host, 64), strict=False))
