"""Functions on the headers of received files, for confined processes: what they return is text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from node.confined import bounded
from node.errors import InputError
from node.studies.header import read_header
from node.studies.identity import contradictions
from node.studies.pydicom_errors import UNREADABLE

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, Label Map Segmentation Storage."""
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
"""RT Structure Set Storage."""
STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
"""Beginning of the SOP classes of structured reports and key object selections."""
_LONGEST = 1024
"""Characters of a value; longer ones are cut."""
_FILE_SECONDS = 10.0
"""Of computing for one header."""


def attributes(path: Path, keywords: Sequence[str]) -> dict[str, str]:
    """Values of top-level attributes as text, empty when absent. Raises ``InputError`` when the file is unreadable."""
    header = read_header(path)
    values = {}
    for keyword in keywords:
        try:
            values[keyword] = str(header.get(keyword) or "")[:_LONGEST]
        except UNREADABLE:
            values[keyword] = ""
    return values


def attributes_of(paths: Sequence[Path], keywords: Sequence[str]) -> list[dict[str, str]]:
    """``attributes`` of each file; empty values for an unreadable one."""
    return [_attributes(path, keywords) for path in paths]


def _attributes(path: Path, keywords: Sequence[str]) -> dict[str, str]:
    try:
        with bounded(path.name, _FILE_SECONDS):
            return attributes(path, keywords)
    except InputError:
        return dict.fromkeys(keywords, "")


def series_of(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Study and Series Instance UID of each file; empty texts for what is no DICOM, or states none."""
    return [_uids(path) for path in paths]


def _uids(path: Path) -> tuple[str, str]:
    values = _attributes(path, ("StudyInstanceUID", "SeriesInstanceUID"))
    return values["StudyInstanceUID"], values["SeriesInstanceUID"]


def contradictory(paths: Sequence[Path]) -> tuple[str, ...]:
    """See ``node.studies.identity.contradictions``. Raises ``InputError`` when a file cannot be read."""
    return contradictions([read_header(path) for path in paths])
