"""What is read of prior studies, in a confined process: objects of an archive are received data like any other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.studies.header import read_header
from node.studies.identity import PRIOR, contradictions

_KEYWORDS = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "StudyTime")


@dataclass(frozen=True, kw_only=True)
class PriorReport:
    """A report of this node, and what it refers to."""

    path: Path
    sop_instance_uid: str
    study_instance_uid: str
    analysed_series: str
    """``""`` when it outlines nothing."""
    segmentation_series: str
    """``""`` when it has none."""
    segmentation: str
    """SOP Instance UID."""
    same_patient: bool
    """Whether it contradicts the present study in nothing."""


def study_attributes(image: Path) -> dict[str, str]:
    """Return the attributes of an image by which prior studies are searched; ``""`` for an absent one."""
    header = read_header(image)
    return {keyword: str(header.get(keyword) or "") for keyword in _KEYWORDS}


def find_report(files: Sequence[Path], names: Collection[str], image: Path) -> PriorReport | None:
    """Return the latest report; see ``latest_report``. ``image``: of the present study."""
    from node.results.prior.report import analysed_series, latest_report, referenced_segmentation

    report = latest_report([read_header(path) for path in files], names)
    if report is None:
        return None
    series, uid = referenced_segmentation(report)
    return PriorReport(
        path=Path(str(report.filename)),
        sop_instance_uid=str(report.SOPInstanceUID),
        study_instance_uid=str(report.StudyInstanceUID),
        analysed_series=analysed_series(report),
        segmentation_series=series,
        segmentation=uid,
        same_patient=not contradictions([read_header(image), report], PRIOR),
    )


def find_instance(files: Sequence[Path], uid: str) -> Path | None:
    """Return the file of an instance."""
    return next((path for path in files if str(read_header(path).get("SOPInstanceUID")) == uid), None)
