"""Which protocols and cipher suites a TLS port speaks: one handshake for each that OpenSSL here can try.

    python tests/support/tls_scan.py HOST PORT CA.pem [CERTIFICATE.pem KEY.pem]

As a peer with that certificate, so that a refusal is one of protocol or suite, and not of the peer.
"""

from __future__ import annotations

import socket
import ssl
import sys
import warnings
from collections.abc import Iterator

OLD = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)


def scan(host: str, port: int, ca: str, own: tuple[str, str] | None = None) -> dict[str, list[str]]:
    """Protocol -> the suites with which a handshake succeeds; an empty list: it is refused."""
    spoken: dict[str, list[str]] = {}
    for version in (*OLD, ssl.TLSVersion.TLSv1_2):
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            spoken[version.name] = [
                name for name in _suites() if _answers(host, port, _context(ca, own, version, name)) == version.name
            ]
    context = _context(ca, own, ssl.TLSVersion.TLSv1_3, "")
    names = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] == "TLSv1.3"]
    spoken["TLSv1_3"] = names if _answers(host, port, context) == "TLSv1_3" else []
    return spoken


def _suites() -> Iterator[str]:
    """Everything up to TLS 1.2 that this OpenSSL has, without encryption and without authentication too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return (suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3")


def _context(ca: str, own: tuple[str, str] | None, version: ssl.TLSVersion, suite: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.set_ciphers(f"{suite}:@SECLEVEL=0" if suite else "DEFAULT")
    context.minimum_version = context.maximum_version = version
    if own is not None:
        context.load_cert_chain(*own)
    return context


def _answers(host: str, port: int, context: ssl.SSLContext) -> str:
    """The protocol of the handshake; empty when there is none."""
    try:
        with socket.create_connection((host, port), timeout=60.0) as plain, context.wrap_socket(plain) as secured:
            return (secured.version() or "").replace(".", "_")
    except OSError:
        return ""


if __name__ == "__main__":
    host, port, ca, *own = sys.argv[1:]
    for protocol, suites in scan(host, int(port), ca, (own[0], own[1]) if own else None).items():
        print(f"{protocol.replace('_', '.'):<8} {', '.join(suites) or 'refused'}")
