"""The lesions of two analyses of one series, compared by overlap. Runs confined."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import InputError
from node.studies.pydicom_errors import UNREADABLE

if TYPE_CHECKING:  # decoders are imported in the confined process only
    from node.studies.segment_masks import SegmentedObject
    from node.studies.source import SourceSeries


@dataclass(frozen=True, kw_only=True)
class TrialFiles:
    """Files of both analyses and of what readers added."""

    images: tuple[Path, ...]
    champion: Path | None
    """Segmentation; ``None``: without a lesion."""
    candidate: Path | None
    added: tuple[tuple[Path, str], ...] = ()
    """Segmentation or structure set of a reader, and the name of the lesion in it."""


@dataclass(frozen=True, kw_only=True)
class PairedLesion:
    """A lesion that both analyses report."""

    champion: str
    """Tracking UID."""
    candidate: str
    dice: float
    champion_mm3: float
    candidate_mm3: float


@dataclass(frozen=True, kw_only=True)
class SingleLesion:
    """A lesion that one analysis reports alone."""

    lesion: str
    """Tracking UID."""
    mm3: float


@dataclass(frozen=True, kw_only=True)
class MaskComparison:
    """What two analyses of one series have in common."""

    both: tuple[PairedLesion, ...] = ()
    champion_only: tuple[SingleLesion, ...] = ()
    candidate_only: tuple[SingleLesion, ...] = ()
    added: tuple[tuple[bool, bool], ...] = ()
    """Whether champion and candidate report each lesion that readers added."""
    as_added: tuple[str, ...] = ()
    """Tracking UIDs of lesions that overlap one that readers added."""


def compare_masks(files: TrialFiles) -> MaskComparison:
    """Compare the segments of both. Raises ``InputError`` when a file cannot be read."""
    from node.feedback.segmentation_reader import paired_segments
    from node.studies.segment_masks import voxel_mm3
    from node.studies.source import SourceSeries

    try:
        source = SourceSeries.read(files.images)
        champion, other = segments_on(files.champion, source), segments_on(files.candidate, source)
        pairs, voxel = paired_segments(champion, other), voxel_mm3(source)
        taken = {number for number, _ in pairs.values()}
        added = [tuple(_overlapping(of, source, *lesion) for of in (champion, other)) for lesion in files.added]
        return MaskComparison(
            both=tuple(
                PairedLesion(
                    champion=str(champion.segments[number].TrackingUID),
                    candidate=str(other.segments[to].TrackingUID),
                    dice=champion.masks[number].dice(other.masks[to]),
                    champion_mm3=champion.masks[number].voxels * voxel,
                    candidate_mm3=other.masks[to].voxels * voxel,
                )
                for number, (to, _) in pairs.items()
            ),
            champion_only=_lone(champion, pairs, voxel),
            candidate_only=_lone(other, taken, voxel),
            added=tuple((bool(ours), bool(theirs)) for ours, theirs in added),
            as_added=tuple(uid for ours, theirs in added for uid in (*ours, *theirs)),
        )
    except UNREADABLE as error:
        raise InputError(f"segmentations of a trial cannot be understood ({type(error).__name__}: {error})") from error


def segments_on(path: Path | None, source: SourceSeries) -> SegmentedObject:
    """Put the segments of a file on the images of ``source``; ``None``: there are none. Raises ``InputError``."""
    from node.feedback.structure_set_masks import reader_masks_on
    from node.studies.segment_masks import SegmentedObject, read_object

    if path is None:
        return SegmentedObject(dataset=source.datasets[0], segments={}, masks={})
    return reader_masks_on(read_object(path), source)


def _lone(of: SegmentedObject, paired: Container[int], voxel_mm3: float) -> tuple[SingleLesion, ...]:
    return tuple(
        SingleLesion(lesion=str(item.TrackingUID), mm3=of.masks[number].voxels * voxel_mm3)
        for number, item in of.segments.items()
        if number not in paired
    )


def _overlapping(of: SegmentedObject, source: SourceSeries, path: Path, lesion: str) -> list[str]:
    """Tracking UIDs of the lesions that are the same as one of a reader's object."""
    from node.feedback.segmentation_reader import LEAST_DICE

    theirs = segments_on(path, source)
    names = {str(item.get("TrackingUID") or f"segment {number}"): number for number, item in theirs.segments.items()}
    wanted = theirs.masks[names[lesion]]
    return [
        str(of.segments[number].TrackingUID) for number, mask in of.masks.items() if mask.dice(wanted) >= LEAST_DICE
    ]
