"""Peers over TLS: dcmtk with a certificate, and a connection of our own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import real_peers
from certificates import Authority
from dicom_files import ct_series
from raw_peer import COMMAND, MORE, c_store, connection, p_data
from receivers import Node, encode

DATASET = ct_series(1, 32)[0]
UID, DATA = str(DATASET.SOPInstanceUID), encode(DATASET)
BEGUN = p_data(COMMAND, c_store(UID)) + p_data(MORE, DATA[:100])


@contextmanager
def secured(node: Node, authority: Authority, name: str = "ct1") -> Iterator[ssl.SSLSocket]:
    """A connection over TLS."""
    context = ssl.create_default_context(cafile=authority.pem("ca"))
    context.load_cert_chain(authority.pem(name), authority.key(name))
    with connection(node) as plain, context.wrap_socket(plain, server_hostname="localhost") as opened:
        yield opened


def hear(opened: ssl.SSLSocket) -> bytes:
    """The next PDU; TLS knows no MSG_WAITALL."""
    got = b""
    while len(got) < 6 or len(got) < 6 + int.from_bytes(got[2:6], "big"):
        part = opened.recv(1 << 16)
        if not part:
            return got
        got += part
    return got


def storescu(node: Node, image: Path, *options: str) -> int:
    arguments = ["-aet", "CT1", "-aec", "AINODE", *options, "127.0.0.1", node.port, image]
    return real_peers.dcmtk("storescu", *arguments, timeout=30.0, check=False).returncode


def as_peer(authority: Authority, name: str, ca: Authority | None = None) -> list[str]:
    return ["+tls", authority.key(name), authority.pem(name), "+cf", (ca or authority).pem("ca")]
