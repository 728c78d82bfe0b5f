"""Entry of the confined process that reads readers' objects; what decodes is imported there only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from node.errors import InputError
from node.feedback.object_reading import AnalysisFiles, ObjectReading
from node.ledger.verdict import SourceKind, Verdict
from node.studies.pydicom_errors import UNREADABLE


def read_reader_object(
    path: Path, kind: SourceKind, analyses: Sequence[AnalysisFiles], codes: Mapping[tuple[str, str], Verdict]
) -> ObjectReading:
    """Read a received object of a kind; ``analyses``: of its study, the latest first; ``codes``: of assessments.

    Raises ``InputError`` when it cannot be read, or is a segmentation on a grid of its own.
    """
    from node.feedback import assessment_reader, report_reader, segmentation_reader
    from node.studies.segment_masks import read_object

    read = {
        SourceKind.SEGMENTATION: segmentation_reader.answers,
        SourceKind.REPORT: report_reader.read_report,
        SourceKind.REJECTION_NOTE: report_reader.read_rejection_note,
    }[kind]
    try:
        dataset = read_object(path)
        assessed = assessment_reader.read_assessment(dataset, analyses, codes) if kind == SourceKind.REPORT else None
        return assessed or read(dataset, analyses)
    except UNREADABLE as error:
        raise InputError(f"{path.name}: cannot be understood ({type(error).__name__}: {error})") from error
