"""A result that takes the place of an earlier one of its series: the report names it, lesions keep their identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels

from node.results.finding import Finding
from node.results.headers import frame_key


@dataclass(frozen=True, kw_only=True, eq=False)
class Earlier:
    """What an earlier analysis of the series by the same pipeline left; each is ``None`` when there was none."""

    reports: Mapping[str, Dataset]
    """By kind of object, as ``EncodedObject.kind``."""
    seg: Dataset | None

    @classmethod
    def read(cls, paths: Mapping[str, Path]) -> Earlier:
        """The files of the earlier result by kind of object."""
        reports = {kind: dcmread(paths[kind]) for kind in ("sr", "sr alone") if kind in paths}
        return cls(reports=reports, seg=dcmread(paths["seg"]) if "seg" in paths else None)


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
                mask = finding.mask.voxels[index - box[0].start]
                common[finding.number, number] += int(np.count_nonzero(pixels[box[1], box[2]][mask]))
    uids: dict[int, str] = {}
    for (ours, theirs), voxels in common.most_common():
        uid = str(earlier[theirs].TrackingUID)
        if voxels and ours not in uids and uid not in uids.values():
            uids[ours] = uid
    return tuple(replace(f, tracking_uid=uids.get(f.number, f.tracking_uid)) for f in findings)


def name_predecessor(report: Dataset, earlier: Dataset) -> None:
    """Predecessor Documents Sequence (PS3.3 C.17.2): the report that this one takes the place of."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = earlier.SOPClassUID, earlier.SOPInstanceUID
    series.ReferencedSOPSequence, series.SeriesInstanceUID = [instance], earlier.SeriesInstanceUID
    study.ReferencedSeriesSequence, study.StudyInstanceUID = [series], earlier.StudyInstanceUID
    report.PredecessorDocumentsSequence = [study]


def _code(item: Dataset) -> tuple[str, str]:
    return str(item.CodeValue), str(item.CodingSchemeDesignator)
