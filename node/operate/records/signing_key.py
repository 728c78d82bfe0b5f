"""The key that signs decision records: Ed25519 (RFC 8032), in a file of its own outside the ledger.

Who can write to the ledger alone cannot make a record that verifies.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from node.config import Config
from node.errors import ConfigError, PlatformError
from node.spool import write_once


class SigningKey:
    """A private key; ``public`` is what verifies its signatures, 64 hexadecimal digits."""

    def __init__(self, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw().hex()

    def sign(self, record: str) -> str:
        """Return the signature of a record, 128 hexadecimal digits."""
        return self._key.sign(record.encode()).hex()


def signing_key(config: Config) -> SigningKey:
    """Return the key of this machine; make it when there is none. Processes that do so at once agree.

    Raises ``PlatformError`` when the file cannot be read or written, ``ConfigError`` when it holds no key.
    """
    file = config.records.key_file or config.storage.folder / "records-key"
    try:
        if not file.exists():
            write_once(file, f"{os.urandom(32).hex()}\n", 0o600)
        return SigningKey(bytes.fromhex(file.read_text("ascii").strip()))
    except OSError as error:
        raise PlatformError(f"{file}: {error.strerror}; give the user of the node the right to use it") from error
    except ValueError:
        raise ConfigError(
            f"{file} holds no key (64 hexadecimal digits); restore it from a backup, or move it away for a new one"
        ) from None


def is_signed(record: str, signature: str, public: str) -> bool:
    """Whether a signature is that of a public key on a record."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), record.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
