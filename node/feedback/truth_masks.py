"""The segments that truth consists of, on the images of a series. Runs confined."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydicom import Dataset

from node import MAKER
from node.errors import InputError
from node.feedback.segmentation_reader import LEAST_DICE, is_of_person, paired_segments
from node.feedback.structure_set_masks import reader_masks_on
from node.feedback.truth import TruthPart
from node.studies.segment_masks import SegmentedObject, SegmentMask, read_object
from node.studies.source import SourceSeries


class TruthMasks:
    """Segments of several objects, each with a number of its own; empty ones are left out."""

    def __init__(self) -> None:
        self.items: dict[int, Dataset] = {}
        """Items of Segment Sequence."""
        self.masks: dict[int, SegmentMask] = {}
        self.by_algorithms = 0
        """Objects of others that name no person."""

    def label(self, number: int) -> str:
        """Segment Label, "lesion" without one."""
        return str(self.items[number].get("SegmentLabel") or "lesion")[:64]

    def add(self, part: TruthPart, source: SourceSeries, labels: frozenset[str]) -> None:
        """Add what counts of an object. Raises ``InputError`` for a lesion that is there already."""
        dataset = read_object(part.path)
        segmented = reader_masks_on(dataset, source)
        self.by_algorithms += str(dataset.get("Manufacturer", "")) != MAKER and not is_of_person(dataset)
        before, edits = list(self.masks.values()), _edits(segmented, part, source)
        for number, mask in segmented.masks.items():
            item = segmented.segments[number]
            name = str(item.get("TrackingUID") or f"segment {number}")
            label = str(item.get("SegmentLabel") or "")
            counts = part.lesions is None or name in part.lesions or number in edits
            if not counts or (labels and label.casefold() not in labels) or not mask.voxels:
                continue
            if any(mask.dice(other) >= LEAST_DICE for other in before):
                raise InputError(
                    f"{part.path.name}: outlines {label or name!r}, which another object of the truth outlines as "
                    "well; leave one of them in the folder"
                )
            self.items[len(self.items)] = item
            self.masks[len(self.masks)] = mask


def truth_masks(parts: Sequence[TruthPart], source: SourceSeries, labels: Sequence[str] = ()) -> TruthMasks:
    """Put what counts of several objects on the images of a series; ``labels``: of segments, empty: all.

    Raises ``InputError`` when an object cannot be read, lies on other images, or outlines a lesion once more.
    """
    masks = TruthMasks()
    for part in parts:
        masks.add(part, source, frozenset(label.casefold() for label in labels))
    return masks


def _edits(segmented: SegmentedObject, part: TruthPart, source: SourceSeries) -> set[int]:
    """Segments of a reader in the place of lesions of ours."""
    if part.edited is None or not part.edits:
        return set()
    ours = reader_masks_on(read_object(part.edited), source)
    pairs = paired_segments(ours, segmented)
    return {other for number, (other, _) in pairs.items() if str(ours.segments[number].TrackingUID) in part.edits}


def patient_digest(header: Dataset) -> str:
    """SHA-256 of Patient ID and issuer, of the study where there is none: tells patients apart within one run."""
    identity = f"{header.get('PatientID') or ''}\0{header.get('IssuerOfPatientID') or ''}"
    named = identity if identity.strip("\0") else str(header.get("StudyInstanceUID") or "")
    return hashlib.sha256(named.encode()).hexdigest()
