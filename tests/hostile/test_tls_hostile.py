"""DICOM over TLS: nobody waits for a peer that is silent, slow or broken."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from certificates import Authority, tls
from dicom_files import ct_series, write
from raw_peer import COMMAND, LAST, MORE, RAW_CT, associate_rq, c_store, connection, p_data, status
from receivers import SOON_SECONDS, Node, encode, receiving, until
from tls_peers import BEGUN, DATASET, as_peer, hear, secured, storescu

from node.ledger.tables import instance


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (path,) = write([DATASET], tmp_path / "image")
    return path


def test_nobody_waits_for_connections_that_never_begin_the_handshake(
    tmp_path: Path, authority: Authority, image: Path
) -> None:
    limits = "max_associations = 2\nassociation_timeout_seconds = 1.5"
    with receiving(tmp_path / "node", ae=tls(authority, more=limits)) as node, ExitStack() as silent:
        opened = [silent.enter_context(connection(node)) for _ in range(20)]
        begun = time.monotonic()
        assert storescu(node, image, *as_peer(authority, "ct1")) == 0
        assert time.monotonic() - begun < SOON_SECONDS
        for peer in opened:
            peer.settimeout(SOON_SECONDS)
            assert peer.recv(1) == b""


def test_the_handshake_must_end_in_time_however_it_trickles(tmp_path: Path, authority: Authority) -> None:
    hello, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=authority.pem("ca")).wrap_bio(
        incoming, hello, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    timer = "association_timeout_seconds = 1.0"
    with receiving(tmp_path / "node", ae=tls(authority, more=timer)) as node, connection(node) as opened:
        begun = time.monotonic()
        opened.settimeout(0.2)
        for byte in hello.read():
            try:
                opened.sendall(bytes([byte]))
                if opened.recv(10) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - begun < SOON_SECONDS


@pytest.mark.parametrize("begun", [b"", BEGUN], ids=["idle", "store"])
def test_a_peer_that_falls_silent_on_tls_is_aborted_and_leaves_nothing(
    tmp_path: Path, authority: Authority, begun: bytes
) -> None:
    timer = "network_timeout_seconds = 1.0"
    with receiving(tmp_path / "node", ae=tls(authority, more=timer)) as node, secured(node, authority) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert hear(opened)[0] == 2
        opened.sendall(begun)
        opened.settimeout(SOON_SECONDS)
        assert hear(opened)[0] == 7
        assert hear(opened) == b""
        until(lambda: node.files() == [])


def test_garbage_in_the_middle_of_tls_ends_the_association_and_leaves_nothing(
    tmp_path: Path, authority: Authority
) -> None:
    with receiving(tmp_path / "node", ae=tls(authority)) as node, secured(node, authority) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert hear(opened)[0] == 2
        opened.sendall(BEGUN)
        until(lambda: len(node.files()) == 1)
        socket.socket.send(opened, b"\x17\3\3\0\x20" + bytes(32))  # past TLS, straight to the connection
        until(lambda: node.files() == [])


def test_a_large_instance_comes_whole_over_tls(tmp_path: Path, authority: Authority) -> None:
    dataset = ct_series(1, 1024)[0]
    data = encode(dataset)
    with receiving(tmp_path / "node", ae=tls(authority)) as node, secured(node, authority) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert hear(opened)[0] == 2
        parts = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
        opened.sendall(p_data(COMMAND, c_store(str(dataset.SOPInstanceUID))))
        opened.sendall(b"".join(p_data(MORE, part) for part in parts) + p_data(LAST, b""))
        assert status(hear(opened)) == 0x0000
        (row,) = node.rows(instance)
        assert node.spool.absolute(row.path).read_bytes().endswith(data)


def test_tls_to_a_plain_port_is_cut_off_and_others_are_served(node: Node, authority: Authority, image: Path) -> None:
    assert storescu(node, image, *as_peer(authority, "ct1")) != 0
    assert storescu(node, image) == 0


def test_a_stop_ends_idle_tls_associations_at_once(tmp_path: Path, authority: Authority) -> None:
    with ExitStack() as held:
        with receiving(tmp_path / "node", ae=tls(authority)) as node:
            opened = held.enter_context(secured(node, authority))
            opened.sendall(associate_rq(RAW_CT))
            assert hear(opened)[0] == 2
            time.sleep(0.6)
            begun = time.monotonic()
        assert time.monotonic() - begun < SOON_SECONDS
        assert hear(opened)[0] == 7
