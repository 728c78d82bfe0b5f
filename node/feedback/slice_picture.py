"""A part of one slice with the outlines of several sides, for reports of tests and trials. Runs confined."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from io import BytesIO

import numpy as np

from node.results.rendering import Colour, axis_of, detail_of, draw_letters, draw_outline, render, window_of
from node.studies.segment_masks import Bools, SegmentMask
from node.studies.source import SourceSeries

_EDGE = 360
"""Longer side of the picture, in pixels."""
_WIDER = 2
"""How many times as wide as the detail of a key image: a reader wants to see where it is."""
_BOLD = 3
"""Width of a thick outline, in pixels."""


def draw_slice(
    source: SourceSeries,
    mask: SegmentMask,
    image: int,
    outlined: Iterable[tuple[Colour, Iterable[SegmentMask]]],
    bold: Collection[SegmentMask] = (),
) -> bytes:
    """Return the surroundings of ``mask`` on one of its images, as JPEG.

    ``outlined``: the masks of each side, and the colour of their outlines; ``bold``: those with a thicker one.
    """
    header, values = source.datasets[image], source.image(image)
    spacing = (float(header.PixelSpacing[0]), float(header.PixelSpacing[1]))
    here = plane_of(mask, image, values.shape)
    part = _around(here, values.shape)
    picture = render(values[part], spacing, _EDGE, window_of(values, here, header))
    for colour, masks in outlined:
        for segment in masks:
            plane = plane_of(segment, image, values.shape)[part]
            if plane.any():
                draw_outline(picture, plane, colour, _BOLD if segment in bold else 1)
    draw_letters(picture, axis_of(header, 0), axis_of(header, 1), size=13)
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def largest_image(mask: SegmentMask) -> int:
    """Return the image on which ``mask`` has most pixels."""
    return max(mask.parts, key=lambda image: int(np.count_nonzero(mask.parts[image][2])))


def plane_of(mask: SegmentMask, image: int, shape: tuple[int, ...]) -> Bools:
    """Return the pixels of ``mask`` on one image of ``shape``, ``[row, column]``."""
    whole = np.zeros(shape, np.bool_)
    if image in mask.parts:
        row, column, pixels = mask.parts[image]
        whole[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
    return whole


def _around(mask: Bools, shape: tuple[int, ...]) -> tuple[slice, slice]:
    detail = detail_of(mask, shape)
    if detail is None:
        return slice(0, shape[0]), slice(0, shape[1])
    spread = [(_WIDER - 1) * (extent.stop - extent.start) // 2 for extent in detail]
    rows, columns = (
        slice(max(extent.start - more, 0), min(extent.stop + more, size))
        for extent, more, size in zip(detail, spread, shape, strict=True)
    )
    return rows, columns
