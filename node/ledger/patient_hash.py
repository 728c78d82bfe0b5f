"""Patients in decision records: a keyed hash, which says nothing any more once its key is destroyed."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import sqlalchemy as sa

from node.ledger.secrets import destroy_secret, keep_secret

_NAME = "patients of records"


def patient_hash(connection: sa.Connection, patient: str) -> str:
    """Keyed hash (HMAC-SHA-256) of a patient's identity, 32 hexadecimal digits."""
    key, _ = keep_secret(connection, _NAME, secrets.token_hex(32))
    return hmac.digest(key.encode(), patient.encode(), hashlib.sha256).hex()[:32]


def destroy_patient_key(connection: sa.Connection) -> bool:
    """Destroy the key; later records have another one. ``False``: there is none."""
    return destroy_secret(connection, _NAME)
