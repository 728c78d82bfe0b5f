"""The lesions of two analyses of one series, compared by overlap. Runs confined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.errors import InputError
from node.studies.pydicom_errors import UNREADABLE


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
class MaskComparison:
    """What two analyses of one series have in common."""

    both: tuple[PairedLesion, ...] = ()
    champion_only: tuple[str, ...] = ()
    """Tracking UIDs."""
    candidate_only: tuple[str, ...] = ()
    added: tuple[tuple[bool, bool], ...] = ()
    """Whether champion and candidate report each lesion that readers added."""


def compare_masks(files: TrialFiles) -> MaskComparison:
    """Compare the segments of both. Raises ``InputError`` when a file cannot be read."""
    from node.feedback.segmentation_reader import LEAST_DICE, paired_segments
    from node.feedback.structure_set_masks import reader_masks_on
    from node.studies.segment_masks import SegmentedObject, read_object, voxel_mm3
    from node.studies.source import SourceSeries

    def masks(path: Path | None) -> SegmentedObject:
        if path is None:
            return SegmentedObject(dataset=source.datasets[0], segments={}, masks={})
        return reader_masks_on(read_object(path), source)

    def reports(of: SegmentedObject, path: Path, lesion: str) -> bool:
        theirs = masks(path)
        names = {
            str(item.get("TrackingUID") or f"segment {number}"): number for number, item in theirs.segments.items()
        }
        wanted = theirs.masks[names[lesion]]
        return any(mask.dice(wanted) >= LEAST_DICE for mask in of.masks.values())

    try:
        source = SourceSeries.read(files.images)
        one, other = masks(files.champion), masks(files.candidate)
        pairs, voxel = paired_segments(one, other), voxel_mm3(source)
        taken = {number for number, _ in pairs.values()}
        return MaskComparison(
            both=tuple(
                PairedLesion(
                    champion=str(one.segments[number].TrackingUID),
                    candidate=str(other.segments[to].TrackingUID),
                    dice=one.masks[number].dice(other.masks[to]),
                    champion_mm3=one.masks[number].voxels * voxel,
                    candidate_mm3=other.masks[to].voxels * voxel,
                )
                for number, (to, _) in pairs.items()
            ),
            champion_only=tuple(str(item.TrackingUID) for n, item in one.segments.items() if n not in pairs),
            candidate_only=tuple(str(item.TrackingUID) for n, item in other.segments.items() if n not in taken),
            added=tuple((reports(one, *lesion), reports(other, *lesion)) for lesion in files.added),
        )
    except UNREADABLE as error:
        raise InputError(f"segmentations of a trial cannot be understood ({type(error).__name__}: {error})") from error
