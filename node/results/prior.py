"""Earlier analyses: read back from this node's own reports, and compared with what is found now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from math import log

import numpy as np
from highdicom import Volume
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.pipeline import Algorithm, Findings, Prior, PriorFinding, Series
from node.results.analysis import outcome_of
from node.results.identity import MANUFACTURER, plain

_DEVICE_NAME = codes.DCM.DeviceObserverName
_MEASURED = (codes.DCM.ImagingMeasurements, codes.DCM.MeasurementGroup)


def read_prior(reports: Sequence[Dataset], pipeline: str) -> Prior | None:
    """The latest of this node's reports by ``pipeline`` that says whether something was found; ``None``: there is none.

    Reports of other makers, and of analyses that failed or were not applicable, are passed over.
    """
    own = [report for report in reports if _is_ours(report, pipeline) and _succeeded(report)]
    if not own:
        return None
    latest = max(own, key=lambda report: (str(report.get("ContentDate")), str(report.get("ContentTime"))))
    found: dict[str, PriorFinding] = {}
    for group in _groups(latest):
        volume = next((_number(item) for item in _children(group, codes.SCT.Volume)), None)
        kind = next((_code(item) for item in _children(group, codes.DCM.Finding)), None)
        for item in _children(group, codes.DCM.TrackingUniqueIdentifier):
            if volume is not None and kind is not None:
                found[str(item.UID)] = PriorFinding(finding=kind, volume_mm3=volume)
    versions = [str(i.TextValue) for g in _groups(latest) for i in _children(g, codes.DCM.AlgorithmVersion)]
    then = day(latest.get("StudyDate"))
    if then is None or not versions:
        return None
    return Prior(study_date=then, version=versions[0], findings=tuple(found.values()))


def compare(findings: Findings, series: Series, algorithm: Algorithm, without: str) -> Findings:
    """``findings`` with a remark on how the volume has changed since the prior of ``series``.

    ``without``: the remark when there is no prior; ``""``: none was asked for. Pipelines that look for nothing have
    nothing to compare.

    Findings are not matched one to one: the studies have no common frame of reference. Totals are compared, and the
    volume doubling time (interval x ln 2 / ln of the ratio; MacMahon et al., Radiology 2017) is told only where each
    study has exactly one finding.
    """
    if outcome_of(findings) == "derived":
        return findings
    prior, study_date = series.prior, day(series.attribute("StudyDate"))
    if prior is None or study_date is None:
        return replace(findings, remarks=(*findings.remarks, without)) if without else findings
    others = {segment.type for segment in findings.segments}
    then = [one.volume_mm3 for one in prior.findings if one.finding not in others]
    now = [_volume_mm3(lesion.segment.mask) for lesion in findings.lesions]
    days = (study_date - prior.study_date).days
    remark = f"Compared with the study of {prior.study_date}, {days} days before: {_said(then)} then, {_said(now)} now"
    if sum(then) and sum(now):
        remark += f", a change of {100 * (sum(now) / sum(then) - 1):+.0f} % in total volume"
    if len(then) == len(now) == 1 and now[0] > then[0] > 0 and days > 0:
        remark += f"; volume doubling time {days * log(2) / log(now[0] / then[0]):.0f} days if it is the same finding"
    elif len(then) > 1 or len(now) > 1:
        remark += "; findings are not matched one to one"
    if prior.version != plain(algorithm.version):
        remark += f"; the algorithm was version {prior.version} then and is {algorithm.version} now"
    return replace(findings, remarks=(*findings.remarks, remark + "."))


def day(value: object) -> date | None:
    """A DA value; ``None`` when it is absent or none."""
    try:
        return date.fromisoformat(str(value or ""))
    except ValueError:
        return None


def _said(volumes: Sequence[float]) -> str:
    if not volumes:
        return "no finding"
    return f"{len(volumes)} finding{'s' if len(volumes) > 1 else ''} of {sum(volumes):.4g} mm3"


def _volume_mm3(mask: Volume) -> float:
    return float(np.count_nonzero(mask.array) * mask.voxel_volume)


def _is_ours(report: Dataset, pipeline: str) -> bool:
    names = [str(item.get("TextValue", "")) for item in _children(report, _DEVICE_NAME)]
    return str(report.get("Manufacturer", "")) == MANUFACTURER and plain(pipeline) in names


def _succeeded(report: Dataset) -> bool:
    told = [item for container in report.get("ContentSequence") or [] for item in [container, *_inner(container)]]
    good = (codes.DCM.Succeeded, codes.DCM.PartiallySucceeded)
    return any(_name(item) == codes.DCM.SummaryOfAnalyses and _code(item) in good for item in told)


def _groups(report: Dataset) -> Iterator[Dataset]:
    for container in _children(report, _MEASURED[0]):
        yield from _children(container, _MEASURED[1])


def _inner(item: Dataset) -> Sequence[Dataset]:
    return item.get("ContentSequence") or []


def _children(item: Dataset, name: Code) -> list[Dataset]:
    return [child for child in _inner(item) if _name(child) == name]


def _name(item: Dataset) -> Code | None:
    return _coded(item.get("ConceptNameCodeSequence"))


def _code(item: Dataset) -> Code | None:
    return _coded(item.get("ConceptCodeSequence"))


def _coded(sequence: Sequence[Dataset] | None) -> Code | None:
    if not sequence:
        return None
    first = sequence[0]
    value, scheme = first.get("CodeValue"), first.get("CodingSchemeDesignator")
    return Code(str(value), str(scheme), str(first.get("CodeMeaning"))) if value and scheme else None


def _number(item: Dataset) -> float | None:
    measured = item.get("MeasuredValueSequence")
    return float(measured[0].NumericValue) if measured else None
