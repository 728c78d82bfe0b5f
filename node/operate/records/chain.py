"""Verification of decision records: changed, missing and reordered ones break the chain or carry no signature."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.errors import InputError
from node.ledger.decision_records import StoredRecord
from node.operate.records.recorder import BEGINNING, canonical
from node.operate.records.signing_key import is_signed


@dataclass(frozen=True, kw_only=True)
class SignedRecord:
    """A record as it is exported and verified."""

    record: str
    """Canonical JSON."""
    signature: str


@dataclass(kw_only=True)
class Verification:
    """What the records of a chain have shown."""

    first: int | None = None
    last: int | None = None
    digest: str = BEGINNING
    """SHA-256 of the last record."""
    keys: dict[str, int] = field(default_factory=dict)
    """Public key -> number of records that it signed."""
    faults: list[str] = field(default_factory=list)


def verify(chain: Iterable[SignedRecord], *, trusted: Collection[str] = (), is_whole: bool = True) -> Verification:
    """Verify records in the order in which they are given.

    ``trusted``: public keys, when only these may have signed. ``is_whole``: they are all that have not expired; else
    the first one may follow another that is not there.
    """
    verification = Verification()
    begins_after, expired = (0, BEGINNING), (0, BEGINNING)
    for signed in chain:
        values = _values(signed)
        number = values.get("number")
        if not isinstance(number, int):
            after = f"after number {verification.last}" if verification.last else "at the beginning"
            verification.faults.append(f"a record {after} cannot be read")
            continue
        key, previous = str(values.get("key", "")), str(values.get("previous", ""))
        if not is_signed(signed.record, signed.signature, key):
            verification.faults.append(f"record {number} was changed: its signature does not fit")
        elif trusted and key not in trusted:
            verification.faults.append(f"record {number} is signed with another key, {key}")
        if verification.last is None:
            verification.first, begins_after = number, (number - 1, previous)
        elif number != verification.last + 1:
            verification.faults.append(f"after record {verification.last} comes record {number}")
        elif previous != verification.digest:
            verification.faults.append(f"record {number} does not follow from record {verification.last}")
        if values.get("kind") == "expiry":
            expired = (int(values.get("through", 0)), str(values.get("digest")))
        verification.keys[key] = verification.keys.get(key, 0) + 1
        verification.last = number
        verification.digest = hashlib.sha256(signed.record.encode()).hexdigest()
    if is_whole and verification.first is not None and begins_after != expired:
        verification.faults.append(f"records before number {verification.first} are missing: they did not expire")
    return verification


def of_rows(rows: Iterable[StoredRecord]) -> Iterator[SignedRecord]:
    """Records as the ledger has them. What its other columns say is taken from the record, and compared."""
    for row in rows:
        values = _values(SignedRecord(record=row.record, signature=row.signature))
        agrees = (values.get("number"), values.get("study", "")) == (row.number, row.study_instance_uid)
        yield SignedRecord(record=row.record, signature=row.signature if agrees else "")


def as_line(row: StoredRecord) -> str:
    """Return a record with its signature as one line of JSON."""
    return canonical({"record": json.loads(row.record), "signature": row.signature})


def of_lines(file: Path) -> Iterator[SignedRecord]:
    """Records of an exported file, without its inventory. Raises ``InputError`` when it cannot be read."""
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                values = json.loads(line)
                if "record" in values:
                    yield SignedRecord(record=canonical(values["record"]), signature=str(values.get("signature")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); give what `ainode records export` wrote") from None


def _values(signed: SignedRecord) -> dict[str, Any]:
    try:
        values = json.loads(signed.record)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
