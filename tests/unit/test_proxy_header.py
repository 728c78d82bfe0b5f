"""The PROXY protocol: the receiver takes the address that a named proxy states, and no other word about it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_peer import RAW_CT, answer, connection
from receivers import Node, associate_rq, receiving, until

from node.receive.proxy_header import SIGNATURE, read_peer_address

FAMILIES = {4: 0x11, 6: 0x21}


def header(
    source: str, *, command: int = 0x21, family: int | None = None, further: bytes = b"", signature: bytes = SIGNATURE
) -> bytes:
    """As HAProxy writes it: addresses and ports of source and destination, then further fields."""
    address = ipaddress.ip_address(source)
    stated = address.packed * 2 + struct.pack("!HH", 40000, 104) + further
    return signature + struct.pack("!BBH", command, family or FAMILIES[address.version], len(stated)) + stated


def read(data: bytes, *, ends: bool = True) -> tuple[str, bytes]:
    """The stated address, and what is left for the association."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        address = read_peer_address(ours, 0.2)
        return address, ours.recv(1 << 16)


@given(st.ip_addresses(), st.binary(max_size=300), st.binary(min_size=1, max_size=50))
def test_the_stated_source_is_read_and_nothing_behind_the_header(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, further: bytes, behind: bytes
) -> None:
    assert read(header(str(source), further=further) + behind) == (str(source), behind)


def test_a_proxy_that_speaks_for_itself_states_no_peer() -> None:
    assert read(SIGNATURE + b"\x20\0\0\0" + b"x") == ("", b"x")
    assert read(header("10.1.2.3", command=0x20) + b"x") == ("", b"x")


FAULTY = {
    "version 1": (b"PROXY TCP4 10.1.2.3 10.1.2.4 40000 104\r\n", "does not begin"),
    "an association": (associate_rq(RAW_CT), "does not begin"),
    "another version": (header("10.1.2.3", command=0x31), "does not begin"),
    "another command": (header("10.1.2.3", command=0x22), "does not begin"),
    "UDP": (header("10.1.2.3", family=0x12), "0x12"),
    "unspecified": (SIGNATURE + b"\x21\0\0\0", "0x00"),
    "too short for its family": (header("10.1.2.3", family=0x21), "0x21"),
    "too long": (header("10.1.2.3", further=bytes(4096)), "4108 bytes"),
}


@pytest.mark.parametrize(("data", "reason"), FAULTY.values(), ids=FAULTY)
def test_what_is_no_header_of_a_tcp_connection_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(data)


@given(st.integers(min_value=0, max_value=27))
def test_a_header_that_ends_or_stops_is_no_header(size: int) -> None:
    with pytest.raises(ConnectionError):
        read(header("10.1.2.3")[:size])
    if size < 3:
        with pytest.raises(TimeoutError):
            read(header("10.1.2.3")[:size], ends=False)


def associated_from(node: Node, source: str) -> bytes:
    """The answer to an association that a proxy passes on."""
    with connection(node) as opened:
        opened.sendall(header(source) + associate_rq(RAW_CT, calling=b"CT1"))
        return answer(opened)


def test_callers_are_compared_with_the_stated_address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ae = 'proxies = ["127.0.0.0/8"]\ncallers = [{ title = "CT1", address = "10.1.2.3" }]'
    with receiving(tmp_path, ae=ae) as node:
        assert associated_from(node, "10.1.2.3")[:1] == b"\2"
        assert associated_from(node, "10.1.2.4")[:1] == b"\3"
        assert "'CT1' at 10.1.2.4 not recognised" in caplog.text


def test_limits_count_the_stated_address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ae = 'proxies = ["127.0.0.1"]\nconnections_per_address = 1'
    with receiving(tmp_path, ae=ae) as node, connection(node) as opened:
        opened.sendall(header("10.1.2.3") + associate_rq(RAW_CT))
        assert answer(opened)[:1] == b"\2"
        assert associated_from(node, "10.1.2.3") == b""
        assert associated_from(node, "10.1.2.4")[:1] == b"\2"
        assert "connection from 10.1.2.3 closed: 1 are open" in caplog.text
        opened.close()
        until(lambda: associated_from(node, "10.1.2.3")[:1] == b"\2")


def test_a_proxy_is_believed_only_with_a_header_and_nobody_else_with_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(tmp_path / "proxy", ae='proxies = ["127.0.0.1"]') as node:
        with connection(node) as opened:
            opened.sendall(associate_rq(RAW_CT))
            assert answer(opened) == b""
        assert "connection of the proxy 127.0.0.1 closed: it does not begin with a PROXY protocol header" in caplog.text
    with receiving(tmp_path / "other", ae='proxies = ["10.1.2.8"]') as node:
        assert associated_from(node, "10.1.2.3")[:1] != b"\2"
