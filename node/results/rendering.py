"""Rendering of pictures: windows, true proportions, outlines, orientation letters.

Values are arrays ``[row, column]``; pictures are Pillow images, whose points are (x, y).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset

from node.results.picture_text import typeface
from node.studies.source_image import orientation_of

Array = NDArray[Any]
Colour = tuple[int, int, int]
Window = tuple[float, float]
"""Centre and width, in the unit of the values."""

LUNG, SOFT = (-500.0, 1500.0), (40.0, 400.0)
"""CT windows in HU."""
_TISSUE = 3.0
"""A window for MR reaches from black to this many times the level of soft tissue."""
AIR_HU = -300.0
"""What surrounds a finding is lung when its mean is below."""
BACKGROUND, INK, FAINT, WARNING = (16, 18, 22), (235, 238, 242), (150, 156, 166), (255, 170, 90)
LETTER = (255, 221, 102)
HOT = (255, 90, 0)
_AXES = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""LPS vectors; the first letter of Patient Orientation is the main direction (PS3.3 C.7.6.1.1.1)."""
_OPPOSITE = dict(zip("LRPAHF", "RLAPFH", strict=True))


def percentiles(values: Array) -> Window:
    """A window over nearly all values."""
    low, high = np.percentile(values, (1, 99.3))
    return float(low + high) / 2, max(float(high - low), 1e-6)


def tissue(values: Array, mask: Array) -> Window:
    """A window for MR: soft tissue in the lower middle of the greys, so that what is bright stands out against it.

    Fat of scalp and skin, several times as bright as the brain, may saturate; what is inside ``mask`` may not.
    """
    low, middle, top = _levels(values)
    high = max(min(top, low + _TISSUE * (middle - low)), _brightest(values, mask))
    return (low + high) / 2, max(high - low, 1e-6)


def _levels(values: Array) -> tuple[float, float, float]:
    """Black, soft tissue and white of an MR image: tissue is the median of what is no air."""
    low, top = (float(v) for v in np.percentile(values, (1, 99.3)))
    inside = values[values > low + 0.1 * (top - low)]
    return low, float(np.median(inside)) if inside.size else top, top


def _brightest(values: Array, mask: Array) -> float:
    return float(np.percentile(values[mask], 98)) if mask.any() else -np.inf


def _shows_tissue(window: Window, values: Array, mask: Array) -> bool:
    """Whether a window leaves soft tissue neither black nor white, and does not saturate ``mask``."""
    grey = (_levels(values)[1] - window[0]) / window[1] + 0.5
    return 0.25 <= grey <= 0.6 and window[0] + window[1] / 2 >= _brightest(values, mask)


def window_of(values: Array, mask: Array, image: Dataset) -> Window:
    """A window that shows the surroundings of ``mask``: lung, else as ``image`` states it, else what is usual.

    The window that an MR image states is taken only where it shows tissue and finding: many are of the scanner's last
    adjustment, for another series.
    """
    if image.get("Modality") == "CT":
        ring = scipy.ndimage.binary_dilation(mask, iterations=6) & ~scipy.ndimage.binary_dilation(mask, iterations=3)
        if ring.any() and float(np.mean(values[ring])) < AIR_HU:
            return LUNG
    stated = [_first(image.get(keyword)) for keyword in ("WindowCenter", "WindowWidth")]
    if stated[0] is not None and stated[1] is not None and stated[1] > 1:
        own = stated[0], stated[1]
        if image.get("Modality") != "MR" or _shows_tissue(own, values, mask):
            return own
    if image.get("Modality") == "MR":
        return tissue(values, mask)
    return SOFT if image.get("Modality") == "CT" else percentiles(values)


def _first(value: Any) -> float | None:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return None if not values or values[0] is None or values[0] == "" else float(values[0])


def size_of(shape: tuple[int, ...], spacing: tuple[float, float], edge: int) -> tuple[int, int]:
    """Width and height of a picture in true proportions, the longer one ``edge``; ``spacing`` is (row, column) mm."""
    height, width = (n * mm for n, mm in zip(shape, spacing, strict=True))
    longest = max(width, height)
    return max(1, round(edge * width / longest)), max(1, round(edge * height / longest))


def render(values: Array, spacing: tuple[float, float], edge: int, window: Window) -> Image.Image:
    """Values as a grey picture in true proportions, the longer side ``edge`` pixels."""
    grey = np.clip((values - window[0]) / window[1] + 0.5, 0, 1) * 255
    size = size_of(values.shape, spacing, edge)
    return Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def draw_outline(picture: Image.Image, mask: Array, colour: Colour, width: int) -> None:
    """Draw the border of ``mask`` (any size) over the whole ``picture``, outside of the mask."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    fine = np.asarray(grey.resize(picture.size, Image.Resampling.BILINEAR)) > 127
    pixels = np.array(picture)
    pixels[scipy.ndimage.binary_dilation(fine, iterations=width) & ~fine] = colour
    picture.paste(Image.fromarray(pixels))


def tint(picture: Image.Image, values: Array) -> None:
    """Colour the whole ``picture`` where ``values`` (any size, 0 to 1) are high; the grey below shows through."""
    opaque = Image.fromarray((np.clip(values, 0, 1) * 140).astype(np.uint8)).resize(picture.size)
    picture.paste(Image.new("RGB", picture.size, HOT), mask=opaque)


def detail_of(mask: Array, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """A square round a small finding, three times its size, within rows and columns of ``shape``.

    ``None`` when the finding is large enough to see.
    """
    box = scipy.ndimage.find_objects(mask.astype(np.int8))[0]
    side = max(3 * max(s.stop - s.start for s in box), 24)
    if side > 0.6 * min(shape):
        return None
    starts = [int(np.clip((s.start + s.stop - side) // 2, 0, n - side)) for s, n in zip(box, mask.shape, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def axis_of(image: Dataset, which: int) -> NDArray[np.float64]:
    """LPS direction in which columns (0) or rows (1) are counted."""
    return np.asarray(image.ImageOrientationPatient[3 * which : 3 * which + 3], float)


def letter(direction: Array) -> str:
    """Patient direction (L R A P H F) in which an LPS vector mainly points."""
    axis = int(np.abs(direction).argmax())
    return ("LPH" if direction[axis] > 0 else "RAF")[axis]


def patient_orientation(image: Dataset) -> tuple[str, str] | None:
    """Return the letters of ``directions_of``."""
    directions = directions_of(image)
    return None if directions is None else (letter(directions[0]), letter(directions[1]))


def directions_of(image: Dataset) -> tuple[Array, Array] | None:
    """LPS directions in which rows and columns run: of the geometry, else the main ones of Patient Orientation.

    ``None`` when neither is stated.
    """
    if image.get("ImageOrientationPatient") is not None:
        return axis_of(image, 0), axis_of(image, 1)
    stated = orientation_of(image)
    if stated is None or not all(value[0] in _AXES for value in stated):
        return None
    across, down = (np.array(_AXES[value[0]]) for value in stated)
    return across, down


def draw_letters(
    picture: Image.Image,
    rightwards: Array,
    downwards: Array,
    box: tuple[int, int, int, int] | None = None,
    size: int = 17,
) -> None:
    """Orientation letters at the edges of ``box``, by default of the whole picture; LPS vectors of its axes.

    ``size``: of the letters, in pixels.
    """
    left, top, right, bottom = box or (0, 0, picture.width, picture.height)
    draw = ImageDraw.Draw(picture)
    across, down = letter(rightwards), letter(downwards)
    level, middle = (top + bottom) // 2, (left + right) // 2
    for text, at, anchor in (
        (across, (right - 6, level), "rm"),
        (_OPPOSITE[across], (left + 6, level), "lm"),
        (down, (middle, bottom - 6), "md"),
        (_OPPOSITE[down], (middle, top + 6), "ma"),
    ):
        draw.text(at, text, fill=LETTER, font=typeface(size), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def draw_lines(picture: Image.Image, at: tuple[int, int], lines: Iterable[tuple[str, Colour]], size: int) -> None:
    """Lines of text below one another, 1.4 times as far apart as ``size``."""
    draw = ImageDraw.Draw(picture)
    for number, (text, colour) in enumerate(lines):
        shown = "".join(map(_drawn, text))
        draw.text((at[0], at[1] + round(1.4 * size) * number), shown, fill=colour, font=typeface(size))


def _drawn(letter: str) -> str:
    """Return a letter that the typeface has: not all have a raised 3. Wide punctuation of Chinese stays wide."""
    return letter if unicodedata.east_asian_width(letter) == "F" else unicodedata.normalize("NFKC", letter)
