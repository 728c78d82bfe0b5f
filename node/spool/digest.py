"""Digests of files in the ledger: ``blake3:`` and 64 hexadecimal digits, as ``b3sum`` prints them.

BLAKE3 is as safe as SHA-256 and takes at most half of its time. Older versions recorded SHA-256 without a name;
``digest_of`` computes it for comparison with such a digest.
"""

from __future__ import annotations

import hashlib
from io import BufferedIOBase

from blake3 import blake3

_NAME = "blake3:"
_BLOCK = 1 << 20


def written(digest: blake3) -> str:
    """Return a digest in the form of the ledger."""
    return _NAME + digest.hexdigest()


def digest_of(file: BufferedIOBase, like: str = _NAME) -> str:
    """Compute the digest of a file with the algorithm of ``like``."""
    if not like.startswith(_NAME):
        return hashlib.file_digest(file, "sha256").hexdigest()
    digest = blake3()
    while block := file.read(_BLOCK):
        digest.update(block)
    return written(digest)
