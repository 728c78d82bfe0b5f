"""The evidence bundle of a study: received images, decisions, analyses and deliveries, with every digest.

It names no patient: UIDs, digests, rules with the values they compared, algorithm and weights, times, and of each
result the technical part of its header. What a rule compared may be a free text of the scanner.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset

from node import __version__
from node.confined import ConfinedProcess
from node.ledger.study_history import received_images
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.spool import Spool
from node.studies.header import read_header

_KEPT = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality",
    "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "ContributingEquipmentSequence",
    "SegmentSequence", "SegmentationType", "DerivationCodeSequence", "Rows", "Columns", "NumberOfFrames",
)  # fmt: skip
"""Attributes of a result that say how it was made; nothing of patient, request or free text."""


def bundle(engine: sa.Engine, spool: Spool, reader: ConfinedProcess, study_uid: str) -> bytes:
    """A zip file. Raises ``NotFoundError`` for a study that the ledger does not know."""
    study = explain(engine, study_uid)
    with engine.connect() as connection:
        received = [asdict(image) for image in received_images(connection, study_uid)]
    results = [result for series in study["series"] for job in series["jobs"] for result in job["results"]]
    headers = {
        result["sop_instance_uid"]: reader.call(
            result["sop_instance_uid"], technical_part, spool.readable(result["path"])
        )
        for result in results
    }
    files = {
        "story.txt": describe(study),
        "study.json": _json(study),
        "received.json": _json(received),
        "results.json": _json(headers),
    }
    digests = "".join(f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files.items())
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    files["SHA256SUMS"] = digests
    files["README.txt"] = (
        f"Evidence for study {study_uid}, made {made_at} by ainode {__version__}.\n\n"
        "story.txt      the walk of the study in words\n"
        "study.json     the same as values: series, decisions with their traces, jobs, results, deliveries, timeline\n"
        "received.json  every received image with the digest of its file: blake3 (b3sum), without a name SHA-256\n"
        "results.json   how each result says that it was made: algorithm, version, digest of the weights\n"
        "SHA256SUMS     check with: sha256sum -c SHA256SUMS\n"
    )
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def technical_part(path: Path) -> dict[str, Any]:
    """Return the technical part of a header as DICOM JSON (PS3.18 F). Raises ``InputError`` when it is unreadable."""
    header, technical = read_header(path), Dataset()
    for keyword in _KEPT:
        if keyword in header:
            technical.add(header[keyword])
    return technical.to_json_dict()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)
