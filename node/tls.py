"""DICOM over TLS: the BCP 195 profile of PS3.15 annex B, with mutual authentication, renewal and revocation.

Supports TLS 1.2 with the suites of RFC 9325 4.2 (ECDHE, AES-GCM) and TLS 1.3; older versions are off (RFC 8996).
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from node.config import AeTls, DestinationTls
from node.errors import ConfigError

LOGGER = logging.getLogger(__name__)

CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""Cipher suites of TLS 1.2 in OpenSSL's names; those of TLS 1.3 are all allowed."""


@dataclass(frozen=True)
class PeerCertificate:
    """The verified certificate of a peer."""

    sha256: str
    """Fingerprint: SHA-256 of its DER form, lower-case hexadecimal."""
    names: frozenset[str]
    """Common names of the subject and DNS names, lower case."""

    @classmethod
    def of(cls, connection: ssl.SSLSocket) -> PeerCertificate | None:
        """Read the certificate after the handshake; ``None`` if the peer presented none."""
        encoded = connection.getpeercert(binary_form=True)
        details = connection.getpeercert()
        if not encoded or not details:
            return None
        subject = [pair for part in details.get("subject", ()) for pair in part]
        names = [*subject, *details.get("subjectAltName", ())]
        return cls(
            sha256=hashlib.sha256(encoded).hexdigest(),
            names=frozenset(str(name).lower() for kind, name in names if kind in {"commonName", "DNS"}),
        )

    def matches(self, wanted: str) -> bool:
        """Return whether ``certificate`` of ``[ae] callers`` (SHA-256 fingerprint or name) is this one."""
        fingerprint = wanted.replace(":", "").lower()
        return fingerprint == self.sha256 or wanted.lower() in self.names


class ServerTls:
    """TLS for incoming connections; changed files take effect with the next connection."""

    def __init__(self, tls: AeTls, where: str = "[ae.tls]") -> None:
        """``where`` names its table. Raises ``ConfigError`` when a file cannot be used."""
        self._tls = tls
        self._where = where
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._context = server_context(tls, where)

    def context(self) -> ssl.SSLContext:
        """Return the context for the next handshake; unusable new files leave the previous ones in force."""
        with self._lock:
            if (seen := self._signature()) != self._seen:
                self._seen = seen
                try:
                    self._context = server_context(self._tls, self._where)
                    LOGGER.info("TLS files have changed and were reloaded")
                except ConfigError as error:
                    LOGGER.error("TLS files have changed but cannot be used: %s", error)  # noqa: TRY400 - no traceback
            return self._context

    def secured(self, connection: socket.socket) -> ssl.SSLSocket:
        """Do the handshake on an accepted connection, which the answer takes over. Raises ``OSError``."""
        connection.getpeername()  # raises for a reset connection: wrap_socket would leave its socket open
        return self.context().wrap_socket(connection, server_side=True)

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        tls = self._tls
        return tuple(_file_version(name) for name in (tls.certificate, tls.key, tls.ca, tls.crl) if name)


def server_context(tls: AeTls, where: str = "[ae.tls]") -> ssl.SSLContext:
    """Create the context for incoming connections; ``where`` names its table.

    Raises ``ConfigError`` when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    profile(context)
    _load_certificate(context, tls.certificate, tls.key, where)
    _load_authorities(context, tls.ca, tls.crl, where)
    context.verify_mode = ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_OPTIONAL
    # DICOM has its own release: an A-ABORT can still be sent when a peer closes without close_notify.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    context.num_tickets = 0  # a resumed session would not check the revocation list
    return context


class _Closing(ssl.SSLSocket):
    """Closes the socket even if the peer closed it first; pynetdicom 3.0.4 leaves that to the garbage collector."""

    def shutdown(self, how: int) -> None:
        try:
            super().shutdown(how)
        except OSError:
            self.close()
            raise


def client_context(tls: DestinationTls, where: str) -> ssl.SSLContext:
    """Create the context for a destination; ``where`` names its table.

    Raises ``ConfigError`` when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _Closing
    profile(context)
    context.check_hostname = tls.check_host
    _load_certificate(context, tls.certificate, tls.key, where)
    _load_authorities(context, tls.ca, tls.crl, where)
    return context


def profile(context: ssl.SSLContext) -> None:
    """Set versions, cipher suites and options for every connection of this node."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(CIPHERS))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str, where: str) -> None:
    if not certificate:
        return

    def encrypted() -> str:
        raise ConfigError(f"{where} key {key} is encrypted; use a key without passphrase, readable by this user only")

    with _Explain(where, (certificate, key)):
        context.load_cert_chain(path_of(certificate), path_of(key), encrypted)


def _load_authorities(context: ssl.SSLContext, ca: str, crl: str, where: str) -> None:
    with _Explain(where, (ca,)):
        context.load_verify_locations(path_of(ca))
    if crl:
        with _Explain(where, (crl,)):
            context.load_verify_locations(path_of(crl))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN  # intermediate authorities too


class _Explain:
    """Turns errors of reading TLS files into ``ConfigError``."""

    def __init__(self, where: str, names: Iterable[str]) -> None:
        self._what = f"{where} {' and '.join(str(path_of(name)) for name in names)}"

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ssl.SSLError):
            reason = error.reason or "not PEM"
            raise ConfigError(f"{self._what}: {reason}; use PEM files and the key that belongs to it") from error
        if isinstance(error, OSError):
            raise ConfigError(f"{self._what}: {error.strerror}; correct the path or the file's permissions") from error


def path_of(name: str) -> Path:
    """Resolve a file name; one without a slash is a systemd credential (``LoadCredential=``, systemd.exec(5))."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder, name) if folder and "/" not in name else Path(name)


def _file_version(name: str) -> tuple[int, int, int] | None:
    try:
        status = path_of(name).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
