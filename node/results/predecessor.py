"""Predecessor: the result that a new one supersedes. The report names it, and lesions keep their Tracking UID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels

from node.results.analysis import Analysis
from node.results.finding import Finding
from node.results.headers import frame_key
from node.translation import sentence

_REPORTS = ("sr", "sr alone")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predecessor:
    """The superseded result: the last one of the same series and pipeline."""

    version: int
    made: str
    """When it was made, as DICOM writes local date and time (PS3.5 6.2, DT to the second); empty: not known."""
    reports: Mapping[str, Dataset]
    """Its reports, or what names them (UIDs and class), by kind, as ``EncodedObject.kind``."""
    seg: Dataset | None

    @classmethod
    def read(cls, paths: Mapping[str, Path], version: int = 1) -> Predecessor:
        """Read the predecessor from its files, by kind of object."""
        reports = {kind: dcmread(paths[kind]) for kind in _REPORTS if kind in paths}
        dated = next(iter(reports.values()), None)
        if dated is None and paths:
            dated = dcmread(next(iter(paths.values())), stop_before_pixels=True)
        return cls(
            version=version,
            made="" if dated is None else f"{dated.get('ContentDate', '')}{str(dated.get('ContentTime', ''))[:6]}",
            reports=reports,
            seg=_seg(paths),
        )

    @classmethod
    def of_repeated(cls, paths: Mapping[str, Path], version: int, made: str) -> Predecessor:
        """Read the predecessor that the result in these files names, when it is encoded again."""
        named = {k: dcmread(paths[k]).get("PredecessorDocumentsSequence") for k in _REPORTS if k in paths}
        reports = {kind: _named(items[0]) for kind, items in named.items() if items}
        return cls(version=version - 1, made=made, reports=reports, seg=_seg(paths))

    def named(self, moment: datetime) -> str:
        """Name the predecessor as seen from ``moment`` on the study's clock."""
        try:
            created = datetime.strptime(self.made, "%Y%m%d%H%M%S")  # noqa: DTZ007 - local, as the study's times are
        except ValueError:
            return "an earlier report"
        return (
            sentence("the report of {at}", at=f"{created:%H:%M}")
            if created.date() == moment.date()
            else sentence("the report of {at}", at=f"{created:%Y-%m-%d %H:%M}")
        )


def superseding(analysis: Analysis, predecessor: Predecessor | None, moment: datetime) -> Analysis:
    """The analysis as one that replaces ``predecessor``; ``moment``: of the analysis, on the study's clock."""
    if predecessor is None or not predecessor.version:
        return analysis
    return replace(analysis, version=predecessor.version + 1, replaces=predecessor.named(moment))


def keep_tracking(findings: Sequence[Finding], seg: Dataset, images: Sequence[Dataset]) -> tuple[Finding, ...]:
    """Findings that overlap an earlier segment of their type keep its Tracking UID, those with most in common first.

    ``images``: headers of the images that ``findings`` lie on; the earlier frames name theirs, so that images may have
    come in between.
    """
    places = {frame_key(image, "SOPInstanceUID"): index for index, image in enumerate(images)}
    earlier = {int(s.SegmentNumber): s for s in seg.SegmentSequence}
    types = {number: _code(s.SegmentedPropertyTypeCodeSequence[0]) for number, s in earlier.items()}
    common: Counter[tuple[int, int]] = Counter()
    for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, iter_pixels(seg), strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        index = places.get(frame_key(group.DerivationImageSequence[0].SourceImageSequence[0]))
        for finding in findings:
            box, kind = finding.mask.box, finding.segment.type
            if index is None or not box[0].start <= index < box[0].stop:
                continue
            if types[number] == (kind.value, kind.scheme_designator):
                mask = finding.mask.plane(index)
                common[finding.number, number] += int(np.count_nonzero(pixels[box[1], box[2]][mask]))
    uids: dict[int, str] = {}
    for (ours, theirs), voxels in common.most_common():
        uid = str(earlier[theirs].TrackingUID)
        if voxels and ours not in uids and uid not in uids.values():
            uids[ours] = uid
    return tuple(replace(f, tracking_uid=uids.get(f.number, f.tracking_uid)) for f in findings)


def name_predecessor(report: Dataset, predecessor: Dataset) -> None:
    """Predecessor Documents Sequence (PS3.3 C.17.2): the report that this one takes the place of."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = (
        predecessor.SOPClassUID,
        predecessor.SOPInstanceUID,
    )
    series.ReferencedSOPSequence, series.SeriesInstanceUID = [instance], predecessor.SeriesInstanceUID
    study.ReferencedSeriesSequence, study.StudyInstanceUID = [series], predecessor.StudyInstanceUID
    report.PredecessorDocumentsSequence = [study]


def _named(study: Dataset) -> Dataset:
    """The report that an item of Predecessor Documents Sequence names, as far as it does."""
    report, series = Dataset(), study.ReferencedSeriesSequence[0]
    instance = series.ReferencedSOPSequence[0]
    report.SOPClassUID, report.SOPInstanceUID = instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID
    report.StudyInstanceUID, report.SeriesInstanceUID = study.StudyInstanceUID, series.SeriesInstanceUID
    return report


def _seg(paths: Mapping[str, Path]) -> Dataset | None:
    return dcmread(paths["seg"]) if "seg" in paths else None


def _code(item: Dataset) -> tuple[str, str]:
    return str(item.CodeValue), str(item.CodingSchemeDesignator)
