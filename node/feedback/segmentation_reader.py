"""Reads a Segmentation or RT Structure Set as a reader's answer to analyses: kept, changed, missing and new lesions.

Runs in a confined process. An object is an answer when it says that a person had a part in it, and names or shows a
lesion that was reported; what it says of other structures is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import Dataset

from node import MAKER
from node.feedback.object_reading import AnalysisFiles, ObjectReading, refused
from node.feedback.references import content_time, named_instances, one_per_pipeline, referenced_series
from node.feedback.structure_set_masks import is_structure_set, reader_masks_on
from node.ledger.verdict import LesionVerdict, MatchedBy, Verdict
from node.reasons import ReasonCode, reason
from node.studies.identity import PRIOR, contradictions
from node.studies.segment_masks import SegmentedObject, SegmentMask, hd95_mm, masks_on, read_object, voxel_mm3
from node.studies.source import SourceSeries

LEAST_DICE = 0.1
"""Segments without a common Tracking UID that agree less are different lesions."""
_ANATOMY = {("123037004", "SCT"), ("91723000", "SCT")}
"""Segmented Property Categories of body structures (CID 7150, and as older objects write it): they are no lesions."""


def answers(dataset: Dataset, analyses: Sequence[AnalysisFiles]) -> ObjectReading:
    """Return what a Segmentation or RT Structure Set says about ``analyses``, the latest first."""
    if str(dataset.get("Manufacturer", "")) == MAKER:
        return refused(reason(ReasonCode.OF_THIS_SOFTWARE))
    if not is_of_person(dataset):
        return refused(reason(ReasonCode.OF_AN_ALGORITHM))
    named = named_instances(dataset)
    series = {str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ()}
    series |= referenced_series(dataset)
    with_masks = [analysis for analysis in analyses if analysis.segmentation is not None]
    candidates = one_per_pipeline(
        [
            analysis
            for analysis in with_masks
            if not series or analysis.series_instance_uid in series or named & set(analysis.objects)
        ],
        named,
    )
    if not candidates:
        return refused(reason(ReasonCode.OF_OTHER_IMAGES))
    compared = []
    for images in {analysis.images: None for analysis in candidates}:
        source = SourceSeries.read(images)
        if keywords := contradictions([source.datasets[0], dataset], PRIOR):
            return refused(reason(ReasonCode.OF_ANOTHER_PATIENT, keywords=", ".join(keywords)))
        theirs = reader_masks_on(dataset, source)
        for analysis in candidates:
            if analysis.images == images and analysis.segmentation is not None:
                ours = masks_on(read_object(analysis.segmentation), source)
                compared.append(_Answer(analysis, ours, theirs, source, is_named=bool(named & set(analysis.objects))))
    related = [answer for answer in compared if answer.is_related]
    if not related:
        return refused(reason(ReasonCode.OF_OTHER_FINDINGS))
    operator = dataset.get("OperatorsName") or dataset.get("ContentCreatorName") or dataset.get("ReviewerName") or ""
    return ObjectReading(
        verdicts=tuple(verdict for answer in related for verdict in (*answer.verdicts(), *_added(answer, related))),
        reader=str(operator),
        content_time=content_time(dataset),
    )


def is_of_person(dataset: Dataset) -> bool:
    """Whether it says that a person had a part in it: in a segment, as operator of the equipment, or as reviewer."""
    if is_structure_set(dataset):
        types = {str(item.get("ROIGenerationAlgorithm", "")) for item in dataset.StructureSetROISequence}
    else:
        types = {str(item.get("SegmentAlgorithmType", "")) for item in dataset.SegmentSequence if item.SegmentNumber}
    reviewed = dataset.get("ApprovalStatus") == "APPROVED" and dataset.get("ReviewerName")
    return bool(types & {"MANUAL", "SEMIAUTOMATIC"} or dataset.get("OperatorsName") or reviewed)


class _Answer:
    """A reader's segments compared with those of one analysis."""

    def __init__(
        self,
        analysis: AnalysisFiles,
        ours: SegmentedObject,
        theirs: SegmentedObject,
        source: SourceSeries,
        *,
        is_named: bool,
    ) -> None:
        self.analysis = analysis
        self.ours = ours
        self.theirs = theirs
        self._source = source
        self._voxel = voxel_mm3(source)
        self.pairs = paired_segments(ours, theirs)
        self.is_related = is_named or bool(self.pairs)
        self.types = {type_code(item) for item in ours.segments.values()}

    def verdicts(self) -> list[LesionVerdict]:
        """One for each of our lesions."""
        return [self._verdict(number) for number in sorted(self.ours.segments)]

    def added(self, number: int) -> LesionVerdict:
        """For a segment of theirs that is none of ours."""
        return LesionVerdict(
            job_id=self.analysis.job_id,
            lesion=str(self.theirs.segments[number].get("TrackingUID") or f"segment {number}"),
            verdict=Verdict.ADDED,
            reader_volume_mm3=self.theirs.masks[number].voxels * self._voxel,
        )

    def _verdict(self, number: int) -> LesionVerdict:
        mask, lesion = self.ours.masks[number], str(self.ours.segments[number].TrackingUID)
        volume = mask.voxels * self._voxel
        if number not in self.pairs:
            return LesionVerdict(
                job_id=self.analysis.job_id, lesion=lesion, verdict=Verdict.REJECTED, volume_mm3=volume
            )
        other, how = self.pairs[number]
        theirs = self.theirs.masks[other]
        dice = mask.dice(theirs)
        changed = dice < 1.0
        return LesionVerdict(
            job_id=self.analysis.job_id,
            lesion=lesion,
            verdict=Verdict.EDITED if changed else Verdict.ACCEPTED,
            matched_by=how,
            dice=dice if changed else None,
            hd95_mm=hd95_mm(mask, theirs, self._source) if changed else None,
            volume_mm3=volume,
            reader_volume_mm3=theirs.voxels * self._voxel,
        )


def _added(answer: _Answer, answers: Sequence[_Answer]) -> list[LesionVerdict]:
    """Segments that are none of ours and that a person outlined as a lesion of the kind that the analysis reports.

    With one analysis only, a kind that no analysis reports is taken for its own: workstations lose the codes.
    """
    numbers = []
    for number, item in answer.theirs.segments.items():
        is_known = any(number == other for related in answers for other, _ in related.pairs.values())
        is_ours = str(item.get("TrackingUID", "")) in {
            str(own.TrackingUID) for related in answers for own in related.ours.segments.values()
        }
        if (
            is_known
            or is_ours
            or not answer.theirs.masks[number].voxels
            or item.get("SegmentAlgorithmType") == "AUTOMATIC"
        ):
            continue
        alike = [related for related in answers if type_code(item) in related.types]
        if answer in alike[:1] or (not alike and len(answers) == 1 and not is_anatomy(item)):
            numbers.append(number)
    return [answer.added(number) for number in numbers]


def paired_segments(ours: SegmentedObject, theirs: SegmentedObject) -> dict[int, tuple[int, MatchedBy]]:
    """Our segment -> theirs, each once: by Tracking UID, then by overlap, so that the sum of Dice is greatest."""
    full = [number for number, mask in theirs.masks.items() if mask.voxels]
    tracked = {str(theirs.segments[number].get("TrackingUID") or ""): number for number in full}
    pairs = {
        number: (tracked[str(item.TrackingUID)], MatchedBy.TRACKING_UID)
        for number, item in ours.segments.items()
        if str(item.get("TrackingUID") or "-") in tracked
    }
    taken = {number for number, _ in pairs.values()}
    overlapping = overlap_pairs(
        {number: ours.masks[number] for number in ours.segments if number not in pairs},
        {number: theirs.masks[number] for number in full if number not in taken},
    )
    return pairs | {number: (other, MatchedBy.OVERLAP) for number, other in overlapping.items()}


def overlap_pairs(ours: Mapping[int, SegmentMask], theirs: Mapping[int, SegmentMask]) -> dict[int, int]:
    """Our mask -> theirs, each once, so that the sum of Dice is greatest; none below ``LEAST_DICE``."""
    if not ours or not theirs:
        return {}
    from scipy.optimize import linear_sum_assignment

    rows, columns = list(ours), list(theirs)
    dice = np.array([[ours[row].dice(theirs[column]) for column in columns] for row in rows])
    dice[dice < LEAST_DICE] = 0.0
    pairs = zip(*linear_sum_assignment(dice, maximize=True), strict=True)
    return {rows[row]: columns[column] for row, column in pairs if dice[row, column]}


def type_code(item: Dataset) -> tuple[str, str]:
    """Code and coding scheme of the property type of a segment; empty texts without one."""
    return _code(item.get("SegmentedPropertyTypeCodeSequence"))


def is_anatomy(item: Dataset) -> bool:
    """Whether a segment is of a body structure, and no lesion."""
    return _code(item.get("SegmentedPropertyCategoryCodeSequence")) in _ANATOMY


def _code(sequence: Sequence[Mapping[str, object]] | None) -> tuple[str, str]:
    return (str(sequence[0].get("CodeValue")), str(sequence[0].get("CodingSchemeDesignator"))) if sequence else ("", "")
