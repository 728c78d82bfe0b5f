"""Which addresses limits count as one, for associations and for logins."""

from __future__ import annotations

import pytest

from node.addresses import network_of
from node.web.logins import _network


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_host_is_one_address_however_it_is_written(address: str, counted: str) -> None:
    assert network_of(address) == _network(address) == counted


def test_a_login_without_an_address_is_counted_too() -> None:
    assert _network("") == ""
