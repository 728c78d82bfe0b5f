"""The slices on which champion and candidate of a trial disagree, with the outlines of both. Runs confined."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from node.errors import InputError
from node.feedback.mask_comparison import TrialFiles, segments_on
from node.studies.pydicom_errors import UNREADABLE

if TYPE_CHECKING:  # decoders are imported in the confined process only
    from collections.abc import Sequence

    from node.studies.segment_masks import SegmentedObject, SegmentMask
    from node.studies.source import SourceSeries

CHAMPION, CANDIDATE = (86, 180, 233), (230, 159, 0)
"""Colours of the outlines: sky blue and orange, told apart with every kind of colour blindness."""


@dataclass(frozen=True, kw_only=True)
class SlicePicture:
    """One slice with the outlines of both."""

    image: str
    """Its name, for example ``"Image 57"``."""
    jpeg: bytes = field(repr=False)


def draw_disagreements(files: TrialFiles, wanted: tuple[tuple[str, str], ...]) -> tuple[SlicePicture | None, ...]:
    """Draw each of ``wanted`` where both differ most; ``None`` for one that outlines nothing.

    ``wanted``: Tracking UIDs of a lesion of champion and candidate, empty where one does not report it. Raises
    ``InputError`` when a file cannot be read.
    """
    from node.studies.source import SourceSeries

    try:
        source = SourceSeries.read(files.images)
        sides = segments_on(files.champion, source), segments_on(files.candidate, source)
        return tuple(_drawn(source, sides, uids) for uids in wanted)
    except UNREADABLE as error:
        raise InputError(f"images of a trial cannot be drawn ({type(error).__name__}: {error})") from error


def _drawn(
    source: SourceSeries, sides: tuple[SegmentedObject, SegmentedObject], uids: tuple[str, str]
) -> SlicePicture | None:
    from node.feedback.slice_picture import draw_slice, plane_of
    from node.results.finding import image_name
    from node.studies.segment_masks import SegmentMask

    lesions = [
        side.masks[number]
        for side, uid in zip(sides, uids, strict=True)
        for number, item in side.segments.items()
        if uid and str(item.TrackingUID) == uid
    ]
    image = _where_they_differ(lesions)
    if image is None:
        return None
    union, shape = SegmentMask(), (int(source.datasets[0].Rows), int(source.datasets[0].Columns))
    for lesion in lesions:
        union.add(image, plane_of(lesion, image, shape))
    outlined = tuple((colour, side.masks.values()) for colour, side in zip((CHAMPION, CANDIDATE), sides, strict=True))
    return SlicePicture(image=str(image_name(source, image)), jpeg=draw_slice(source, union, image, outlined, lesions))


def _where_they_differ(lesions: Sequence[SegmentMask]) -> int | None:
    """The image with most pixels of one of them alone; ``None`` when they are empty."""
    import numpy as np

    from node.studies.segment_masks import SegmentMask

    pixels = Counter[int]()
    for lesion in lesions:
        for image, (_, _, part) in lesion.parts.items():
            pixels[image] += int(np.count_nonzero(part))
    if len(lesions) > 1:
        for image in pixels:
            here = [SegmentMask({image: mask.parts[image]}) for mask in lesions if image in mask.parts]
            if len(here) > 1:
                pixels[image] -= 2 * here[0].common(here[1])
    return max(sorted(pixels), key=lambda image: pixels[image], default=None)
