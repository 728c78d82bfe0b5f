"""Recognition of text in pixels, for images that leave under pseudonyms: an optional package, RapidOCR, looks at them.

It finds most printed text and no handwriting; what it does not find is no proof that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.multival import MultiValue

from node.errors import InputError, PlatformError
from node.studies.pixel_size import check_pixel_size

_PACKAGE = "rapidocr_onnxruntime"
_MOST_FRAMES = 5
"""Of one image, evenly spaced: text that a device writes stands in all of them."""
_LEAST_LETTERS = 3
"""Of an alphabet, in all places of a frame together; one character of China, Japan or Korea is a name already."""
_MARKS = frozenset(
    {"ANT", "AP", "AXIAL", "CAUDAL", "CC", "CRANIAL", "ERECT", "EXPIRATION", "INSPIRATION", "LAT", "LATERAL", "LCC",
     "LEFT", "LML", "LMLO", "MLO", "OBLIQUE", "PA", "PORTABLE", "POST", "PRONE", "RCC", "RIGHT", "RML", "RMLO",
     "SEMIERECT", "SITTING", "STANDING", "SUPINE", "UPRIGHT"}
)  # fmt: skip
"""Words of sides and views, which belong into the image."""
_NO_LETTERS = re.compile(r"[\W_]+")
_IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_COLOUR = 3
"""Axes of a frame in colour, and its samples."""
_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
_LEAST_SIDE, _MOST_RATIO, _PADDED_RATIO, _REFUSED_RATIO = 8, 8, 2, 64
"""Pixels: a smaller frame has no room for letters. A longer strip is looked at in pieces, each made wider with black:
the recogniser scales the short side to some 700 pixels, and the long one with it."""


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

    Each frame is looked at as its window shows it, and from its darkest to its brightest values without padding.

    Raises ``InputError`` as ``check_pixel_size`` and for a form that cannot be looked at, ``PlatformError`` when the
    package is missing, and what pydicom raises for pixels that cannot be decoded.
    """
    check_pixel_size(dataset)
    pixels = dataset.pixel_array
    is_colour = int(dataset.get("SamplesPerPixel") or 1) > 1
    frames = pixels if pixels.ndim == (4 if is_colour else 3) else pixels[np.newaxis]
    chosen = np.unique(np.linspace(0, len(frames) - 1, _MOST_FRAMES).round().astype(int))
    return max(max(map(_places, shown_frames(frames[index], dataset))) for index in chosen)


def _places(picture: npt.NDArray[np.uint8]) -> int:
    """In how many places there is text, 0 when all of it together is no more than sides and views."""
    if min(picture.shape[:2]) < _LEAST_SIDE:
        return 0
    words: list[str] = []
    for piece in _pieces(picture):
        try:
            lines, _ = _engine()(piece)
        except PlatformError:
            raise
        except Exception as error:  # it meets whatever a stranger sent
            raise InputError(f"its pixels cannot be searched for text ({type(error).__name__})") from error
        words += [text for _, text, _ in lines or ()]
    return len([text for text in words if _letters(text)]) if is_text(words) else 0


def _pieces(picture: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Parts of a picture that are no longer than ``_MOST_RATIO`` times their width; they overlap by a half."""
    axis = int(picture.shape[1] > picture.shape[0])
    length, width = picture.shape[axis], picture.shape[1 - axis]
    if length > _REFUSED_RATIO * width:
        raise InputError(f"its pixels cannot be searched for text: {length} x {width} is too long a strip")
    most = _MOST_RATIO * width
    for start in range(0, length - most // 2, most // 2) if length > most else (0,):
        piece = picture.take(range(start, min(start + most, length)), axis)
        wider = max(0, piece.shape[axis] // _PADDED_RATIO - width)
        yield np.pad(piece, [(0, wider if at == 1 - axis else 0) for at in range(piece.ndim)])


def is_text(words: Iterable[str]) -> bool:
    """Whether texts of a frame may say more than sides and views."""
    letters = "".join(map(_letters, words))
    return len(letters) >= _LEAST_LETTERS or _IDEOGRAPHS.search(letters) is not None


def _letters(text: str) -> str:
    """Letters and digits of a text, without words of sides and views; a single letter, such as R, is one of them."""
    parts = [word for word in _NO_LETTERS.split(text) if word]
    if len(parts) == 1 and len(parts[0]) == 1 and not _IDEOGRAPHS.search(parts[0]):
        return ""
    return "".join(word for word in parts if word.upper() not in _MARKS)


def shown_frames(frame: npt.NDArray[Any], dataset: Dataset) -> Iterator[npt.NDArray[np.uint8]]:
    """8 bits of a frame ``[row, column]`` or ``[row, column, sample]`` in each way in which a reader may see it."""
    if frame.ndim == _COLOUR:
        yield np.ascontiguousarray(frame[..., :_COLOUR]).astype(np.uint8)
        return
    values = frame.astype(np.float32)
    padding = [float(dataset[keyword].value) for keyword in _PADDING if isinstance(_value(dataset, keyword), int)]
    seen = values[(values < min(padding)) | (values > max(padding))] if padding else values.ravel()
    seen = seen if seen.size else values.ravel()
    yield _stretched(values, float(seen.min()), float(seen.max()))
    yield _stretched(values, *map(float, np.percentile(seen, (1, 99))))
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if centre is not None and width is not None and width > 0:
        slope, intercept = _number(dataset, "RescaleSlope") or 1.0, _number(dataset, "RescaleIntercept") or 0.0
        yield _stretched(values * slope + intercept, centre - width / 2, centre + width / 2)


def _value(dataset: Dataset, keyword: str) -> object:
    return dataset[keyword].value if keyword in dataset else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    """The first of the values of an attribute; ``None``: there is no number."""
    value = _value(dataset, keyword)
    first = value[0] if isinstance(value, MultiValue) and value else value
    return float(first) if isinstance(first, int | float) else None


def _stretched(values: npt.NDArray[np.float32], lowest: float, highest: float) -> npt.NDArray[np.uint8]:
    return ((values - lowest) * (255 / max(highest - lowest, 1.0))).clip(0, 255).astype(np.uint8)
