"""HAProxy in front of the receiver: associations, TLS and health checks through a real load balancer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import real_peers
from certificates import Authority, tls
from dicom_files import write
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from receivers import Node, drop, receiving, send_dataset, until
from tls_peers import DATASET, UID, as_peer

from node.ledger.tables import association, instance

CT1, STRANGER, PROXY = "127.0.0.21", "127.0.0.22", "127.0.0.9"
AE_LINES = f'proxies = ["{PROXY}"]\ncallers = [{{ title = "CT1", address = "{CT1}" }}]'


@contextmanager
def haproxy(folder: Path, node: Node) -> Iterator[int]:
    """A load balancer that connects from ``PROXY``, and looks twice a second whether the node lives; its port."""
    port, file = real_peers.free_port(), folder / "haproxy.cfg"
    file.write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen dicom
    bind 127.0.0.1:{port}
    source {PROXY}
    server node 127.0.0.1:{node.port} send-proxy-v2 check inter 500ms check-send-proxy
""")
    program = subprocess.Popen([real_peers.program("haproxy"), "-db", "-f", file], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        program.kill()
        program.wait()


def stores(port: int, source: str) -> bool:
    """Whether an image from this address is stored."""
    entity = AE("CT1")
    entity.add_requested_context(CTImageStorage)
    opened = entity.associate("127.0.0.1", port, ae_title="AINODE", bind_address=(source, 0))
    if not opened.is_established:
        drop(opened)
        return False
    stored = send_dataset(opened, DATASET).Status == 0
    opened.release()
    return stored


def test_callers_are_known_by_their_own_address_behind_a_proxy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(tmp_path / "node", ae=AE_LINES) as node, haproxy(tmp_path, node) as port:
        until(lambda: stores(port, CT1))
        assert not stores(port, STRANGER)
        assert {row.peer_address for row in node.rows(association)} == {CT1}
    assert f"at {STRANGER} not recognised" in caplog.text
    assert "connection of the proxy" not in caplog.text, "health checks are no fault"


def test_images_come_over_tls_behind_a_proxy(tmp_path: Path, authority: Authority) -> None:
    (image,) = write([DATASET], tmp_path / "image")
    lines = f'proxies = ["{PROXY}"]\n{tls(authority)}'
    with receiving(tmp_path / "node", ae=lines) as node, haproxy(tmp_path, node) as port:
        storing = ["storescu", "-aec", "AINODE", *as_peer(authority, "ct1"), "127.0.0.1", port, image]
        until(lambda: real_peers.dcmtk(*storing, check=False).returncode == 0)
        assert [row.sop_instance_uid for row in node.rows(instance)] == [UID]
