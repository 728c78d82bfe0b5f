"""Embeddings of the lesions of an analysis, with what its report calls them."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from node.inference.encode_task import EncodedEmbedding, EncodedEmbeddings, EncodedFile
from node.pipeline import EmbeddingSpace, Findings
from node.results.identity import plain
from node.results.report_statement import read_statement
from node.translation import Sentence

_DIGITS = 32
"""Of a keyed hash, hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """Whose study findings are of, and of which day."""

    patient: str
    """Keyed hash; empty: it has no Patient ID."""
    study_date: str

    @classmethod
    def of(cls, image: Dataset, salt: str) -> Examined:
        """Return it for an image of the series; ``salt``: the secret of the node."""
        identity = [str(image.get(keyword) or "").strip() for keyword in ("IssuerOfPatientID", "PatientID")]
        digest = hashlib.sha256("\n".join([salt, *identity]).encode()).hexdigest()[:_DIGITS]
        return cls(patient=digest if identity[1] else "", study_date=str(image.get("StudyDate") or "").strip())


def embeddings_of(
    findings: Findings | None, files: Sequence[EncodedFile], out: Path, of: Examined
) -> EncodedEmbeddings | None:
    """Return the embeddings of ``findings`` with the Tracking UIDs that the objects in ``out`` have.

    ``None``: no lesion has one, or neither report nor segmentation was made.
    """
    space = None if findings is None else findings.embedding_space
    if findings is None or space is None:
        return None
    tracked = _tracked(files, out)
    lesions = tuple(
        EncodedEmbedding(
            lesion=tracked[label][0],
            label=label,
            vector=_unit(lesion.embedding),
            long_axis_mm=tracked[label][1],
            **vars(of),
        )
        for lesion in findings.lesions
        if lesion.embedding and (label := plain(lesion.segment.label)) in tracked
    )
    return _encoded(space, lesions) if lesions else None


def searched_embeddings(findings: Findings, of: Examined) -> EncodedEmbeddings | None:
    """Return the embeddings of ``findings`` before they are encoded: with the Tracking UIDs that they have already."""
    space = findings.embedding_space
    lesions = tuple(
        EncodedEmbedding(
            lesion=lesion.tracking_uid,
            label=plain(lesion.segment.label),
            vector=_unit(lesion.embedding),
            long_axis_mm=None,
            **vars(of),
        )
        for lesion in findings.lesions
        if lesion.embedding
    )
    return _encoded(space, lesions) if space is not None and lesions else None


def _encoded(space: EmbeddingSpace, lesions: tuple[EncodedEmbedding, ...]) -> EncodedEmbeddings:
    statement = space.statement
    translations = dict(statement.translations) if isinstance(statement, Sentence) else {}
    return EncodedEmbeddings(
        space=space.name, dimensions=space.dimensions, statement=(str(statement), translations), lesions=lesions
    )


def _unit(values: Sequence[float]) -> bytes:
    length = math.hypot(*values)
    return array("f", (value / length for value in values)).tobytes()


def _tracked(files: Sequence[EncodedFile], out: Path) -> dict[str, tuple[str, float | None]]:
    """Tracking UID and long axis in mm by label: of a report, else of a segmentation, which has no axis."""
    for kind in ("sr", "seg", "labelmap"):
        for file in files:
            if file.kind.startswith(kind) and file.quarantine is None:
                header = dcmread(out / file.name, stop_before_pixels=True)
                return _of_report(header) if kind == "sr" else _of_segmentation(header)
    return {}


def _of_report(report: Dataset) -> dict[str, tuple[str, float | None]]:
    lesions: dict[str, tuple[str, float | None]] = {}
    for finding in read_statement(report).findings:
        axes = (float(m.number) for m in finding.measurements if m.name == codes.SCT.LongAxis)
        lesions.setdefault(finding.label, (finding.tracking_uid, next(axes, None)))
    return lesions


def _of_segmentation(seg: Dataset) -> dict[str, tuple[str, float | None]]:
    return {str(s.SegmentLabel): (str(s.TrackingUID), None) for s in seg.SegmentSequence if "TrackingUID" in s}
