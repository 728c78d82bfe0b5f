"""Pictures of results, drawn from DICOM objects alone: a SEG outlined over its images, a derived series and its source.

They show what the archive holds, not what a pipeline meant: every picture is a test by eye of identity and geometry.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from highdicom import Volume
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from scipy import ndimage

from node.demo.shapes import Array

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
NOTICE = "AI result - not for diagnosis"
LUNG, SOFT = (-500.0, 1500.0), (40.0, 400.0)
"""CT windows: centre and width in HU."""
BACKGROUND, INK, FAINT = (16, 18, 22), (235, 238, 242), (150, 156, 166)

Pixels = npt.NDArray[np.uint8]


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
    panels = [_finding_panel(images, finding, findings, box, sources[0].Modality) for finding in shown]
    series = sources[0].get("SeriesDescription") or sources[0].Modality
    title = f"{seg.get('SeriesDescription', 'Segmentation')} on {series}"
    more = f"  ({len(findings) - len(shown)} smaller not shown)" if len(findings) > len(shown) else ""
    return _page(panels, title + more, sources[0])


def comparison(before: Sequence[Dataset], after: Sequence[Dataset]) -> Image.Image:
    """The middle image of a source series, the same of a derived series, and their difference (+-60 units grey)."""
    first, second = (highdicom.get_volume_from_series(list(s), dtype=np.float32) for s in (before, after))
    second = second.match_geometry(first)
    box, k = _body(first.array), first.array.shape[0] // 2
    centre, width = SOFT if before[0].Modality == "CT" else _percentiles(first.array)
    change = second.array[k] - first.array[k]
    spread = float(np.std(change[first.array[k] > np.median(first.array[k])]))
    panels = []
    for pixels, window, lines in (
        (first.array[k], (centre, width), ("Source", str(before[0].get("SeriesDescription", "")))),
        (second.array[k], (centre, width), ("Derived", str(after[0].get("SeriesDescription", "")))),
        (change, (0.0, 120.0), ("Difference", f"standard deviation {spread:.1f}")),
    ):
        picture = _scaled(pixels, first, box, window)
        panels.append(_panel(picture, first, lines, INK))
    return _page(panels, str(after[0].get("SeriesDescription", "Derived series")), before[0])


def _findings(seg: Dataset, images: Volume, lines: Mapping[str, tuple[str, ...]]) -> list[_Finding]:
    segmentation = highdicom.seg.Segmentation.from_dataset(seg)
    found = []
    for entry in segmentation.SegmentSequence:
        number = int(entry.SegmentNumber)
        if number == 0:  # background of a LABELMAP
            continue
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True, dtype=np.uint8)
        colour = (255, 64, 64)
        if "RecommendedDisplayCIELabValue" in entry:
            colour = highdicom.color.CIELabColor.from_dicom_value(entry.RecommendedDisplayCIELabValue).to_rgb()
        found.append(
            _Finding(
                label=str(entry.SegmentLabel),
                colour=colour,
                lines=lines.get(str(entry.get("TrackingUID", "")), ()),
                mask=volume.match_geometry(images).array > 0,
            )
        )
    return [finding for finding in found if finding.mask.any()]


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


def _percentiles(array: Array) -> tuple[float, float]:
    low, high = np.percentile(array[:: max(1, len(array) // 16)], (1, 99.3))
    return float(low + high) / 2, float(high - low)


def _window(array: Array, finding: _Finding, modality: str) -> tuple[float, float]:
    """Centre and width that show the surroundings of a finding: lung or soft tissue, or what the image spans."""
    if modality != "CT":
        return _percentiles(array)
    k = finding.slice_number
    ring = ndimage.binary_dilation(finding.mask[k], iterations=6) & ~ndimage.binary_dilation(
        finding.mask[k], iterations=3
    )
    return LUNG if ring.any() and float(np.mean(array[k][ring])) < -300 else SOFT


def _scaled(pixels: Array, images: Volume, box: tuple[slice, slice], window: tuple[float, float]) -> Image.Image:
    """A part of one slice, grey, ``PANEL`` wide, in true proportions."""
    grey = np.clip((pixels[box] - window[0]) / window[1] + 0.5, 0, 1) * 255
    return Image.fromarray(grey.astype(np.uint8)).resize(_size(images, box), Image.Resampling.BICUBIC).convert("RGB")


def _size(images: Volume, box: tuple[slice, slice]) -> tuple[int, int]:
    height, width = ((s.stop - s.start) * mm for s, mm in zip(box, images.spacing[1:], strict=True))
    return round(PANEL * width / max(width, height)), round(PANEL * height / max(width, height))


def _outline(picture: Image.Image, mask: npt.NDArray[np.bool_], colour: tuple[int, int, int], width: int) -> None:
    """Draw the border of ``mask`` (any size) over the whole ``picture``."""
    fine = (
        np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)) > 127
    )
    rim = ndimage.binary_dilation(fine, iterations=width) & ~fine
    pixels = np.array(picture)
    pixels[rim] = colour
    picture.paste(Image.fromarray(pixels))


def _finding_panel(
    images: Volume, finding: _Finding, others: Sequence[_Finding], box: tuple[slice, slice], modality: str
) -> Image.Image:
    k = finding.slice_number
    window = _window(images.array, finding, modality)
    picture = _scaled(images.array[k], images, box, window)
    for other in others:
        if other.mask[k].any():
            _outline(picture, other.mask[k][box], other.colour, 2)
    detail = _detail(finding.mask[k], box)
    if detail is not None:
        inset = _scaled(images.array[k], images, detail, window).resize((INSET, INSET), Image.Resampling.BICUBIC)
        _outline(inset, finding.mask[k][detail], finding.colour, 1)
        # The corner that is farthest from the finding hides least.
        row, column = ndimage.center_of_mass(finding.mask[k])
        left = 0 if column > (box[1].start + box[1].stop) / 2 else picture.width - INSET
        top = 0 if row > (box[0].start + box[0].stop) / 2 else picture.height - INSET
        picture.paste(inset, (left, top))
        ImageDraw.Draw(picture).rectangle((left, top, left + INSET - 1, top + INSET - 1), outline=FAINT)
    position = images.map_indices_to_reference(np.array([[k, *ndimage.center_of_mass(finding.mask[k])]]))[0]
    place = "LPS ({:.0f}, {:.0f}, {:.0f}) mm".format(*position)
    said = textwrap.wrap(" · ".join(finding.lines), 66, max_lines=2, placeholder=" …")
    return _panel(picture, images, (f"{finding.label}   {place}", *said, *[""] * (2 - len(said))), finding.colour)


def _detail(mask: npt.NDArray[np.bool_], box: tuple[slice, slice]) -> tuple[slice, slice] | None:
    """A square round a small finding, three times its size; ``None`` when it is large enough to see."""
    found = ndimage.find_objects(mask.astype(np.int8))[0]
    side = 3 * max(s.stop - s.start for s in found)
    if side > 0.6 * (box[0].stop - box[0].start):
        return None
    starts = [int(np.clip((s.start + s.stop - side) // 2, 0, n - side)) for s, n in zip(found, mask.shape, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _panel(
    picture: Image.Image,
    images: Volume,
    lines: Sequence[str],
    colour: tuple[int, int, int],
) -> Image.Image:
    """The picture with orientation letters, lines of text below, the first in ``colour``."""
    panel = Image.new("RGB", (PANEL, picture.height + LINE * len(lines) + 8), BACKGROUND)
    left, bottom, level = (PANEL - picture.width) // 2, picture.height, picture.height // 2
    panel.paste(picture, (left, 0))
    draw = ImageDraw.Draw(panel)
    right, down = _letter(images.affine[:3, 2]), _letter(images.affine[:3, 1])
    opposite = dict(zip("LRPAHF", "RLAPFH", strict=True))
    middle = PANEL // 2
    for text, at, anchor in (
        (right, (PANEL - left - 6, level), "rm"),
        (opposite[right], (left + 6, level), "lm"),
        (down, (middle, bottom - 6), "md"),
        (opposite[down], (middle, 6), "ma"),
    ):
        draw.text(at, text, fill=(255, 221, 102), font=_font(17), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    for i, line in enumerate(lines):
        text = line if len(line) <= 74 else line[:73] + "…"
        draw.text((6, bottom + 4 + LINE * i), text, fill=colour if i == 0 else FAINT, font=_font(14))
    return panel


def _letter(direction: Any) -> str:
    """Patient direction in which an axis of the image mainly grows."""
    axis = int(np.abs(direction).argmax())
    return ("LPH" if direction[axis] > 0 else "RAF")[axis]


def _page(panels: Sequence[Image.Image], title: str, source: Dataset) -> Image.Image:
    columns = min(len(panels), 2) if len(panels) != 3 else 3
    rows = -(-len(panels) // max(columns, 1))
    width = max(PANEL, columns * PANEL + (columns - 1) * 8)
    height = 34 + rows * (max((p.height for p in panels), default=0) + 8) + 26
    page = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    draw.text((8, 8), title, fill=INK, font=_font(17))
    for i, panel in enumerate(panels):
        page.paste(panel, ((i % columns) * (PANEL + 8), 34 + (i // columns) * (panel.height + 8)))
    synthetic = " - synthetic data" if "SYNTHETIC" in str(source.get("ImageComments", "")).upper() else ""
    draw.text((8, height - 22), NOTICE + synthetic, fill=(255, 170, 90), font=_font(14))
    return page


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
