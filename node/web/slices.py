"""Slices of a series as pictures with the outlines of a SEG, made from DICOM files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from scipy import ndimage

from node.errors import InputError
from node.pipeline import Unsuitable
from node.results.rendering import axis_of, draw_letters, tissue
from node.studies.pixel_size import check_pixel_size
from node.studies.pydicom_errors import NOT_DICOM, UNDECODABLE
from node.studies.source import SourceSeries

EDGE = 720
"""Longer side of a picture in pixels."""
LINE = 2
"""Width of an outline in pixels."""
_LETTER = 30
"""Height of the orientation letters in pixels: a phone shows a picture at half its size."""
WINDOWS = {"lung": (-500.0, 1500.0), "soft tissue": (40.0, 400.0), "bone": (400.0, 1800.0)}
"""CT windows: centre and width in HU."""
_RED = (255, 64, 64)
_KEPT = 6
"""Series and segmentations whose headers or masks stay in memory."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A series as the viewer shows it."""

    series: SourceSeries
    places: tuple[tuple[str, int], ...]
    """SOP Instance UID and frame (from 0) of each image, in the order in which one scrolls."""
    modality: str
    height_per_width: float
    """True proportions of a picture."""
    low: float
    """Black, in the unit of the series: the 1st percentile of some slices."""
    high: float
    """White: the 99.5th percentile; of MR so that soft tissue is well seen."""
    window: tuple[float, float] | None
    """Centre and width that the images ask for themselves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Where one segment lies on one image."""

    segment: int
    box: tuple[slice, slice]
    """Rows and columns of ``mask``."""
    mask: Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """A segmentation, by image."""

    colours: Mapping[int, tuple[int, int, int]]
    labels: Mapping[int, str]
    pieces: Mapping[tuple[str, int], tuple[Piece, ...]]
    """By SOP Instance UID and frame (from 0) of the image."""

    def largest(self, segment: int) -> tuple[str, int] | None:
        """The image on which a segment is largest."""
        areas = {
            key: int(piece.mask.sum())
            for key, pieces in self.pieces.items()
            for piece in pieces
            if piece.segment == segment
        }
        return max(areas, key=lambda key: areas[key]) if areas else None


@lru_cache(maxsize=_KEPT)
def open_series(paths: tuple[Path, ...]) -> Shown:
    """Sort the images of a series. Raises ``InputError`` when a file cannot be read, or there is nothing to see."""
    series = SourceSeries.read(paths)
    if "Rows" not in series.datasets[0]:
        raise InputError(f"series {series.series_instance_uid}: none of its objects is an image")
    picks = np.linspace(0, len(series.datasets) - 1, 5).round().astype(int)
    sample = np.concatenate([pixels(series, index)[::4, ::4].ravel() for index in picks])
    low, high = np.percentile(sample, (1, 99.5))
    if series.modality == "MR":
        centre, width = tissue(sample, np.zeros(sample.shape, bool))
        low, high = centre - width / 2, centre + width / 2
    middle = series.datasets[len(series.datasets) // 2]
    return Shown(
        series=series,
        places=tuple((str(h.SOPInstanceUID), int(h.get("ReferencedFrameNumber") or 1) - 1) for h in series.datasets),
        modality=series.modality,
        height_per_width=_proportions(middle),
        low=float(low),
        high=float(high),
        window=_own_window(middle),
    )


@lru_cache(maxsize=_KEPT)
def open_segments(path: Path) -> Segments:
    """Read a SEG, BINARY or LABELMAP. Raises ``InputError`` when it cannot be read."""
    seg = _read(path)
    entries = {int(entry.SegmentNumber): entry for entry in seg.SegmentSequence}
    array = np.atleast_3d(_array(seg))
    array = array.reshape((-1, int(seg.Rows), int(seg.Columns)))
    shared = seg.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in seg else Dataset()
    pieces: dict[tuple[str, int], list[Piece]] = {}
    for frame, groups in zip(array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        key = _source(groups)
        if key is None:
            continue
        if seg.SegmentationType == "LABELMAP":
            masks = {int(number): frame == number for number in np.unique(frame) if number and number in entries}
        else:
            group = groups if "SegmentIdentificationSequence" in groups else shared
            masks = {int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber): frame > 0}
        pieces.setdefault(key, []).extend(_piece(number, mask) for number, mask in masks.items() if mask.any())
    return Segments(
        colours={number: _colour(entry) for number, entry in entries.items()},
        labels={number: str(entry.SegmentLabel) for number, entry in entries.items()},
        pieces={key: tuple(parts) for key, parts in pieces.items()},
    )


def window_of(shown: Shown, name: str, segments: Segments | None = None) -> tuple[float, float]:
    """Centre and width: a named CT window, or (``""``) the one in which the findings are seen best."""
    if name in WINDOWS and shown.modality == "CT":
        return WINDOWS[name]
    if shown.modality == "CT":
        if segments is not None and _in_lung(shown, segments):
            return WINDOWS["lung"]
        return shown.window or WINDOWS["soft tissue"]
    return (shown.low + shown.high) / 2, max(shown.high - shown.low, 1e-6)


def picture(shown: Shown, index: int, window: tuple[float, float], overlays: Sequence[Segments] = ()) -> bytes:
    """One slice as JPEG in true proportions, outlined. Raises ``InputError`` when its pixels cannot be decoded."""
    centre, width = window
    grey = np.clip((pixels(shown.series, index) - centre) / width + 0.5, 0, 1) * 255
    tall = shown.height_per_width > 1
    size = (round(EDGE / shown.height_per_width), EDGE) if tall else (EDGE, round(EDGE * shown.height_per_width))
    image = Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    header = shown.series.datasets[index]
    if header.get("ImageOrientationPatient"):
        draw_letters(image, axis_of(header, 0), axis_of(header, 1), size=_LETTER)
    for segments in overlays:
        for piece in segments.pieces.get(shown.places[index], ()):
            image = _outlined(image, piece, grey.shape, segments.colours[piece.segment])
    out = BytesIO()
    image.save(out, "JPEG", quality=90, subsampling=0)
    return out.getvalue()


def pixels(series: SourceSeries, index: int) -> npt.NDArray[np.float32]:
    """``[row, column]`` with the Modality LUT applied, bright as it is seen. Raises ``InputError``, also for colour."""
    try:
        values = np.asarray(series.image(index), np.float32)
    except Unsuitable as reason:
        raise InputError(str(reason)) from None
    inverted = series.datasets[index].get("PhotometricInterpretation") == "MONOCHROME1"
    return values.max() - values + values.min() if inverted else values


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except NOT_DICOM as error:
        raise InputError(f"{path.name}: cannot be read ({error})") from error


def _array(dataset: Dataset) -> npt.NDArray[Any]:
    check_pixel_size(dataset)
    try:
        return dataset.pixel_array
    except UNDECODABLE as error:
        raise InputError(f"PixelData of {dataset.get('SOPInstanceUID')} cannot be decoded ({error})") from error


def _proportions(header: Dataset) -> float:
    row, column = (float(v) for v in header.get("PixelSpacing") or header.get("ImagerPixelSpacing") or (1, 1))
    return float(np.clip(int(header.Rows) * row / (int(header.Columns) * column), 0.2, 5.0))


def _own_window(header: Dataset) -> tuple[float, float] | None:
    centre, width = (_first(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    return None if centre is None or not width else (float(centre), float(width))


def _source(groups: Dataset) -> tuple[str, int] | None:
    for derivation in groups.get("DerivationImageSequence", ()):
        for source in derivation.get("SourceImageSequence", ()):
            return str(source.ReferencedSOPInstanceUID), int(_first(source.get("ReferencedFrameNumber")) or 1) - 1
    return None


def _first(value: Any) -> Any:
    """Of a value that may have several, or none."""
    return (value[0] if len(value) else None) if isinstance(value, MultiValue) else value


def _piece(segment: int, mask: Mask) -> Piece:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return Piece(segment=segment, box=box, mask=mask[box].copy())


def _colour(entry: Dataset) -> tuple[int, int, int]:
    if "RecommendedDisplayCIELabValue" not in entry:
        return _RED
    return CIELabColor.from_dicom_value(entry.RecommendedDisplayCIELabValue).to_rgb()


def _in_lung(shown: Shown, segments: Segments) -> bool:
    """Whether the surroundings of the first finding are air."""
    for index, place in enumerate(shown.places):
        pieces = segments.pieces.get(place)
        if pieces:
            image = pixels(shown.series, index)
            whole = np.zeros(image.shape, bool)
            whole[pieces[0].box] = pieces[0].mask
            ring = ndimage.binary_dilation(whole, iterations=6) & ~ndimage.binary_dilation(whole, iterations=3)
            return bool(ring.any()) and float(image[ring].mean()) < -300
    return False


def _outlined(image: Image.Image, piece: Piece, shape: tuple[int, ...], colour: tuple[int, int, int]) -> Image.Image:
    """Draw the border of a mask, given on the image's own grid, on the enlarged picture."""
    whole = np.zeros(shape, np.uint8)
    whole[piece.box] = piece.mask * 255
    fine = np.asarray(Image.fromarray(whole).resize(image.size, Image.Resampling.BILINEAR)) > 127
    drawn = np.array(image)
    drawn[ndimage.binary_dilation(fine, iterations=LINE) & ~fine] = colour
    return Image.fromarray(drawn)
