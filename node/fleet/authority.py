"""The authority of a fleet: it signs the certificates with which machines know one another."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.errors import ConfigError, InputError

DAYS_OF_AUTHORITY = 3650
DAYS_OF_MACHINE = 825
"""As in `docs/security.md`."""
_NOT_BEFORE = dt.timedelta(hours=24)
"""Machines whose clock is behind accept a new certificate."""


class Authority:
    """Key and certificate of one authority."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def make(cls, name: str = "Authority of the fleet") -> Authority:
        """Make a new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = (
            _builder(subject, subject, key.public_key(), DAYS_OF_AUTHORITY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, certificate: Path, key: Path) -> Authority:
        """Read one from PEM files. Raises ``ConfigError`` when they cannot be used."""
        try:
            private = serialization.load_pem_private_key(key.read_bytes(), None)
            public = x509.load_pem_x509_certificate(certificate.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"the authority of the fleet ({certificate}, {key}) cannot be read: {error}") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public.public_key():
            raise ConfigError(f"{key} is not the elliptic-curve key of {certificate}")
        return cls(public, private)

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key, without passphrase."""
        return _key_pem(self._key)

    def sign(self, request: bytes, host: str) -> bytes:
        """Return the certificate, as PEM, of a machine with address ``host`` for its PEM signing request.

        Nothing but the key is taken from the request. Raises ``InputError`` when it is not valid.
        """
        try:
            asked = x509.load_pem_x509_csr(request)
            valid = asked.is_signature_valid
        except (ValueError, InvalidSignature) as error:
            raise InputError(f"the signing request cannot be read: {error}") from error
        public = asked.public_key()
        if not valid or not isinstance(public, ec.EllipticCurvePublicKey):
            raise InputError("the signing request has no valid signature by an elliptic-curve key")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            _builder(subject, self._certificate.subject, public, DAYS_OF_MACHINE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_request(host: str) -> tuple[bytes, bytes]:
    """Make a key; return it and its signing request for a machine with address ``host``, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM)


def public_key_of(key: bytes) -> object:
    """Return the public key of a private one in PEM; it can be compared with that of a certificate."""
    return serialization.load_pem_private_key(key, None).public_key()


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    at = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _NOT_BEFORE)
        .not_valid_after(at + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
