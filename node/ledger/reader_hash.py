"""Readers without their names: a keyed hash tells the verdicts of one from those of another."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import sqlalchemy as sa

from node.ledger.secrets import keep_secret

_NAME = "readers"


def reader_hash(connection: sa.Connection, name: str) -> str:
    """Keyed hash of who gave a verdict, 16 hexadecimal digits; ``""`` for nobody."""
    if not name:
        return ""
    key, _ = keep_secret(connection, _NAME, secrets.token_hex(32))
    return hmac.digest(key.encode(), name.encode(), hashlib.sha256).hex()[:16]
