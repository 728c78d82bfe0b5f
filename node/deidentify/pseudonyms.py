"""Pseudonyms, UIDs and shifts of dates: functions of a secret key, so that nothing has to be remembered.

Whoever has the key can compute the pseudonym of a patient; nobody can compute the patient from a pseudonym, and without
the key nobody can tell which pseudonym a known patient has. Each destination has a key of its own, derived from that of
the node: two destinations cannot compare their patients.
"""

from __future__ import annotations

import base64
import hmac
import uuid
from datetime import date, timedelta
from functools import lru_cache

STANDARD = "1.2.840.10008."
"""Root of the UIDs that the standard defines; they identify nobody."""
_LEAST_DAYS, _MOST_DAYS = 365, 3650
_PARTS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d"}


class Pseudonyms:
    """What one destination gets in the place of identifiers."""

    def __init__(self, key: bytes, destination: str) -> None:
        """``key``: of the node, 32 bytes."""
        self._key = hmac.digest(key, b"destination\0" + destination.encode(), "sha256")
        self.uid = lru_cache(maxsize=4096)(self._uid)
        """Returns the UID in the place of another; those of the standard are kept."""

    def patient(self, patient_id: str, study: str) -> str:
        """Return the pseudonym, 18 characters; a patient without Patient ID has one for each study."""
        return "P-" + base64.b32encode(self._digest("patient", _who(patient_id, study))[:10]).decode()

    def days(self, patient_id: str, study: str) -> int:
        """Return by how many days the dates of the patient go back: 1 to 10 years."""
        number = int.from_bytes(self._digest("days", _who(patient_id, study))[:8])
        return _LEAST_DAYS + number % (_MOST_DAYS - _LEAST_DAYS)

    def _uid(self, uid: str) -> str:
        if not uid or uid.startswith(STANDARD):
            return uid
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=4).int}"  # PS3.5 B.2

    def _digest(self, purpose: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{value}".encode(), "sha256")


def shifted(value: str, days: int) -> str | None:
    """Return a date (DA) or the date in a date and time (DT), earlier by ``days``; ``None``: it cannot be read.

    Time of day and offset from UTC stay.
    """
    digits = value[: next((place for place, c in enumerate(value) if not c.isdecimal()), len(value))]
    length = min(len(digits), 8)
    if length not in _PARTS:
        return None
    try:
        day = date.fromisoformat((digits[:length] + "0101")[:8]) - timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{day:{_PARTS[length]}}".rjust(length, "0") + value[length:]


def _who(patient_id: str, study: str) -> str:
    return f"id\0{patient_id.strip()}" if patient_id.strip() else f"study\0{study}"
