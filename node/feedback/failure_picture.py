"""The slice on which an analysis failed, with the outlines of truth and analysis. Runs confined."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

import numpy as np

from node.results.rendering import axis_of, detail_of, draw_letters, draw_outline, render, window_of
from node.studies.segment_masks import Bools, SegmentMask
from node.studies.source import SourceSeries

TRUTH, REPORTED = (80, 220, 100), (255, 90, 60)
"""Colours of the outlines."""
_EDGE = 360
"""Longer side of the picture, in pixels."""
_WIDER = 2
"""How many times as wide as the detail of a key image: a reader wants to see where it is."""


def draw_failure(
    source: SourceSeries, mask: SegmentMask, truth: Iterable[SegmentMask], reported: Iterable[SegmentMask]
) -> bytes:
    """Return the surroundings of ``mask`` on the slice where it is largest, as JPEG."""
    image = max(mask.parts, key=lambda index: int(np.count_nonzero(mask.parts[index][2])))
    header, values = source.datasets[image], source.image(image)
    spacing = (float(header.PixelSpacing[0]), float(header.PixelSpacing[1]))
    here = _plane(mask, image, values.shape)
    part = _around(here, values.shape)
    picture = render(values[part], spacing, _EDGE, window_of(values, here, header))
    for masks, colour in ((truth, TRUTH), (reported, REPORTED)):
        for one in masks:
            plane = _plane(one, image, values.shape)[part]
            if plane.any():
                draw_outline(picture, plane, colour, 1)
    draw_letters(picture, axis_of(header, 0), axis_of(header, 1), size=13)
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def _around(mask: Bools, shape: tuple[int, ...]) -> tuple[slice, slice]:
    detail = detail_of(mask, shape)
    if detail is None:
        return slice(0, shape[0]), slice(0, shape[1])
    spread = [(_WIDER - 1) * (one.stop - one.start) // 2 for one in detail]
    rows, columns = (
        slice(max(one.start - more, 0), min(one.stop + more, size))
        for one, more, size in zip(detail, spread, shape, strict=True)
    )
    return rows, columns


def _plane(mask: SegmentMask, image: int, shape: tuple[int, ...]) -> Bools:
    whole = np.zeros(shape, np.bool_)
    if image in mask.parts:
        row, column, pixels = mask.parts[image]
        whole[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
    return whole
