"""The token of an invitation: what a new machine needs to find the one that invites it, and to be let in. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from node.errors import InputError

SECRET_BYTES = 24
_FINGERPRINT_BYTES = 32
_CHECK_BYTES = 4
_PREFIX = "ainode-"
_LONGEST = 600
"""Characters: a host name has at most 253."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """An invitation as an administrator carries it from one machine to another."""

    host: str
    port: int
    fingerprint: bytes
    """SHA-256 of the certificate (DER) with which the inviting machine answers there."""
    secret: bytes

    def text(self) -> str:
        """Return it as one word, which a shell takes without quotes."""
        content = self.fingerprint + self.secret + f"{self.host} {self.port}".encode("ascii")
        return _PREFIX + base64.urlsafe_b64encode(content + _check(content)).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read what ``text`` has written. Raises ``InputError`` for anything else."""
        try:
            content = _content(text.strip())
            host, port = content[_FINGERPRINT_BYTES + SECRET_BYTES :].decode("ascii").split(" ")
            number = int(port)
        except (ValueError, binascii.Error) as error:
            raise InputError(
                "this is no whole token of an invitation; copy the word that `ainode invite` printed, from ainode- to "
                "its end"
            ) from error
        fingerprint, secret = content[:_FINGERPRINT_BYTES], content[_FINGERPRINT_BYTES:][:SECRET_BYTES]
        return cls(host=host, port=number, fingerprint=fingerprint, secret=secret)


def _content(word: str) -> bytes:
    """Return what a token has packed. Raises ``ValueError``."""
    packed = word.removeprefix(_PREFIX)
    if packed == word or len(word) > _LONGEST:
        raise ValueError(word)
    whole = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
    content = whole[:-_CHECK_BYTES]
    if whole[-_CHECK_BYTES:] != _check(content):
        raise ValueError(word)
    return content


def _check(content: bytes) -> bytes:
    """Detects a slip of the hand, no more."""
    return hashlib.sha256(content).digest()[:_CHECK_BYTES]
