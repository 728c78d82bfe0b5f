"""Patient ID of an image, read in a confined process."""

from __future__ import annotations

from pathlib import Path

from node.studies.header import read_header


def patient_id_of(path: Path) -> str:
    """Return Patient ID (0010,0020); empty: it has none. Raises ``InputError`` when the file cannot be read."""
    return str(read_header(path).get("PatientID") or "").strip()
