"""Pictures of results, drawn from DICOM objects alone: a SEG outlined over its images, a derived series and its source.

They show what the archive holds, not what a pipeline meant: every picture is a test by eye of identity and geometry.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import highdicom
import numpy as np
import numpy.typing as npt
from highdicom import Volume
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from scipy import ndimage

from node.demo.shapes import Array
from node.results.picture_text import typeface
from node.results.rendering import (
    BACKGROUND,
    FAINT,
    INK,
    SOFT,
    WARNING,
    detail_of,
    draw_letters,
    draw_lines,
    draw_outline,
    percentiles,
    render,
    window_of,
)
from node.wording import NOTICE

PANEL = 480
"""Edge of one panel in pixels."""
INSET = 140
"""Edge of the magnified detail."""
LINE = 20
"""Height of a line of text."""
MARGIN = 8
"""Pixels of the image kept round the patient."""
PANELS = 4
"""Largest findings shown in one picture."""


@dataclass(frozen=True, eq=False)
class _Finding:
    label: str
    colour: tuple[int, int, int]
    lines: tuple[str, ...]
    mask: npt.NDArray[np.bool_]
    """``[slice, row, column]`` on the grid of the images."""

    @property
    def slice_number(self) -> int:
        """Where the finding is largest."""
        return int(self.mask.sum((1, 2)).argmax())


def overlay(seg: Dataset, sources: Sequence[Dataset], lines: Mapping[str, tuple[str, ...]]) -> Image.Image:
    """The largest findings of ``seg``, each outlined on the image where it is largest, with a magnified detail.

    ``sources``: all images of the referenced series. ``lines``: what the report says by Tracking UID (see ``report``).
    Raises ``ValueError`` when the images form no regular grid, or the SEG lies outside of it.
    """
    images = highdicom.get_volume_from_series(list(sources), dtype=np.float32)
    findings = sorted(_findings(seg, images, lines), key=lambda f: -int(f.mask.sum()))
    shown = findings[:PANELS]
    box = _body(images.array)
    panels = [_finding_panel(images, finding, findings, box, sources[0]) for finding in shown]
    series = sources[0].get("SeriesDescription") or sources[0].Modality
    title = f"{seg.get('SeriesDescription', 'Segmentation')} on {series}"
    more = f"  ({len(findings) - len(shown)} smaller not shown)" if len(findings) > len(shown) else ""
    return _page(panels, title + more, sources[0])


def comparison(before: Sequence[Dataset], after: Sequence[Dataset]) -> Image.Image:
    """The middle image of a source series, the same of a derived series, and their difference (+-60 units grey)."""
    first, second = (highdicom.get_volume_from_series(list(s), dtype=np.float32) for s in (before, after))
    second = second.match_geometry(first)
    box, k = _body(first.array), first.array.shape[0] // 2
    step = max(1, len(first.array) // 16)
    window = SOFT if before[0].Modality == "CT" else percentiles(first.array[::step])
    change = second.array[k] - first.array[k]
    spread = float(np.std(change[first.array[k] > np.median(first.array[k])]))
    panels = []
    for pixels, shown, lines in (
        (first.array[k], window, ("Source", str(before[0].get("SeriesDescription", "")))),
        (second.array[k], window, ("Derived", str(after[0].get("SeriesDescription", "")))),
        (change, (0.0, 120.0), ("Difference", f"standard deviation {spread:.1f}")),
    ):
        picture = render(pixels[box], first.spacing[1:], PANEL, shown)
        panels.append(_panel(picture, first, lines, INK))
    return _page(panels, str(after[0].get("SeriesDescription", "Derived series")), before[0])


def _findings(seg: Dataset, images: Volume, lines: Mapping[str, tuple[str, ...]]) -> list[_Finding]:
    segmentation = highdicom.seg.Segmentation.from_dataset(seg)
    panels = []
    for entry in segmentation.SegmentSequence:
        number = int(entry.SegmentNumber)
        if number == 0:  # background of a LABELMAP
            continue
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True, dtype=np.uint8)
        colour = (255, 64, 64)
        if "RecommendedDisplayCIELabValue" in entry:
            colour = highdicom.color.CIELabColor.from_dicom_value(entry.RecommendedDisplayCIELabValue).to_rgb()
        panels.append(
            _Finding(
                label=str(entry.SegmentLabel),
                colour=colour,
                lines=lines.get(str(entry.get("TrackingUID", "")), ()),
                mask=volume.match_geometry(images).array > 0,
            )
        )
    return [finding for finding in panels if finding.mask.any()]


def _body(array: Array) -> tuple[slice, slice]:
    """Rows and columns that hold the patient."""
    step = max(1, len(array) // 16)
    bright = array[::step].max(0) > np.percentile(array[::step], 35) + 0.1 * np.ptp(
        np.percentile(array[::step], (35, 99))
    )
    labels, count = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    if not count:
        return slice(0, array.shape[1]), slice(0, array.shape[2])
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    box = ndimage.find_objects(labels)[largest - 1]
    rows, columns = (
        slice(max(s.start - MARGIN, 0), min(s.stop + MARGIN, n)) for s, n in zip(box, bright.shape, strict=True)
    )
    return rows, columns


def _finding_panel(
    images: Volume, finding: _Finding, others: Sequence[_Finding], box: tuple[slice, slice], source: Dataset
) -> Image.Image:
    k = finding.slice_number
    window = window_of(images.array[k], finding.mask[k], source)
    picture = render(images.array[k][box], images.spacing[1:], PANEL, window)
    for other in others:
        if other.mask[k].any():
            draw_outline(picture, other.mask[k][box], other.colour, 2)
    detail = detail_of(finding.mask[k], images.array[k][box].shape)
    if detail is not None:
        inset = render(images.array[k][detail], images.spacing[1:], INSET, window)
        draw_outline(inset, finding.mask[k][detail], finding.colour, 1)
        # The corner that is farthest from the finding hides least.
        row, column = ndimage.center_of_mass(finding.mask[k])
        left = 0 if column > (box[1].start + box[1].stop) / 2 else picture.width - inset.width
        top = 0 if row > (box[0].start + box[0].stop) / 2 else picture.height - inset.height
        picture.paste(inset, (left, top))
        ImageDraw.Draw(picture).rectangle((left, top, left + inset.width - 1, top + inset.height - 1), outline=FAINT)
    position = images.map_indices_to_reference(np.array([[k, *ndimage.center_of_mass(finding.mask[k])]]))[0]
    place = "LPS ({:.0f}, {:.0f}, {:.0f}) mm".format(*position)
    lines = textwrap.wrap(" · ".join(finding.lines), 66, max_lines=2, placeholder=" …")
    return _panel(picture, images, (f"{finding.label}   {place}", *lines, *[""] * (2 - len(lines))), finding.colour)


def _panel(
    picture: Image.Image,
    images: Volume,
    lines: Sequence[str],
    colour: tuple[int, int, int],
) -> Image.Image:
    """The picture with orientation letters, lines of text below, the first in ``colour``."""
    panel = Image.new("RGB", (PANEL, picture.height + LINE * len(lines) + 8), BACKGROUND)
    left, bottom = (PANEL - picture.width) // 2, picture.height
    panel.paste(picture, (left, 0))
    box = (left, 0, PANEL - left, bottom)
    draw_letters(panel, images.affine[:3, 2], images.affine[:3, 1], box)
    shortened = [line if len(line) <= 74 else line[:73] + "…" for line in lines]
    draw_lines(panel, (6, bottom + 4), [(line, FAINT if i else colour) for i, line in enumerate(shortened)], 14)
    return panel


def _page(panels: Sequence[Image.Image], title: str, source: Dataset) -> Image.Image:
    columns = min(len(panels), 2) if len(panels) != 3 else 3
    rows = -(-len(panels) // max(columns, 1))
    width = max(PANEL, columns * PANEL + (columns - 1) * 8)
    height = 34 + rows * (max((p.height for p in panels), default=0) + 8) + 26
    page = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for size in (17, 15, 13, 12):
        if draw.textlength(title, font=typeface(size)) <= width - 16:
            break
    while draw.textlength(title, font=typeface(size)) > width - 16:
        title = f"{title[:-2]}…"
    draw.text((8, 8), title, fill=INK, font=typeface(size))
    for i, panel in enumerate(panels):
        page.paste(panel, ((i % columns) * (PANEL + 8), 34 + (i // columns) * (panel.height + 8)))
    synthetic = " - synthetic data" if "SYNTHETIC" in str(source.get("ImageComments", "")).upper() else ""
    draw.text((8, height - 22), NOTICE + synthetic, fill=WARNING, font=typeface(14))
    return page
