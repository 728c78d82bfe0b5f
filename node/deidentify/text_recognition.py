"""Recognition of text in pixels, for images that leave under pseudonyms: an optional package, RapidOCR, looks at them.

It finds most printed text and no handwriting; what it does not find is no proof that there is none.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset

from node.errors import PlatformError
from node.studies.pixel_size import check_pixel_size

_PACKAGE = "rapidocr_onnxruntime"
_MOST_FRAMES = 5
"""Of one image, evenly spaced: text that a device writes stands in all of them."""
_LEAST_LETTERS = 3
_MARKS = frozenset(
    {"ANT", "AP", "AXIAL", "CAUDAL", "CC", "CRANIAL", "ERECT", "EXPIRATION", "INSPIRATION", "LAT", "LATERAL", "LCC",
     "LEFT", "LML", "LMLO", "MLO", "OBLIQUE", "PA", "PORTABLE", "POST", "PRONE", "RCC", "RIGHT", "RML", "RMLO",
     "SEMIERECT", "SITTING", "STANDING", "SUPINE", "UPRIGHT"}
)  # fmt: skip
"""Words of sides and views, which belong into the image."""
_NO_LETTERS = re.compile(r"[\W_]+")


@cache
def _engine() -> Any:
    """One for the process. Raises ``PlatformError`` when it cannot be loaded."""
    if fault := missing_package():
        raise PlatformError(fault)
    return import_module(_PACKAGE).RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


def missing_package() -> str:
    """Return why text cannot be recognised here, with the remedy; empty when it can."""
    try:
        import_module(_PACKAGE)
    except ImportError as error:
        remedy = "apt-get install libgl1" if "libGL" in str(error) else "pip install 'ainode[ocr]'"
        return f"[deidentify] read_text cannot be done: {error}; {remedy}"
    return ""


def places_with_text(dataset: FileDataset) -> int:
    """Return in how many places of an image text is read, sides and views not counted.

    Raises ``InputError`` as ``check_pixel_size``, ``PlatformError`` when the package is missing, and what pydicom
    raises for pixels that cannot be decoded.
    """
    check_pixel_size(dataset)
    pixels = dataset.pixel_array
    frames = pixels if int(dataset.get("NumberOfFrames") or 1) > 1 else pixels[np.newaxis]
    chosen = np.unique(np.linspace(0, len(frames) - 1, _MOST_FRAMES).round().astype(int))
    return max(_places(_shown(frames[index])) for index in chosen)


def _places(picture: npt.NDArray[np.uint8]) -> int:
    found, _ = _engine()(picture)
    return sum(is_text(words) for _, words, _ in found or ())


def is_text(words: str) -> bool:
    """Whether a text may say more than a side or a view."""
    letters = _NO_LETTERS.sub("", words)
    return len(letters) >= _LEAST_LETTERS and any(
        len(word) > 1 and word.upper() not in _MARKS for word in _NO_LETTERS.split(words)
    )


def _shown(frame: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """8 bits of a frame ``[row, column]`` or ``[row, column, sample]``, from its darkest to its brightest values."""
    if frame.dtype == np.uint8:
        return frame
    lowest, highest = np.percentile(frame, (1, 99.9))
    scaled = (frame.astype(np.float32) - lowest) * (255 / max(float(highest - lowest), 1.0))
    return scaled.clip(0, 255).astype(np.uint8)
