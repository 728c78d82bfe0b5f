"""Pictures of images as viewers first show them (PS3.18 8.3.5), for a confined process."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.errors import InputError, NotFoundError

if TYPE_CHECKING:  # the confined process alone imports what reads pixels
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from pydicom import Dataset

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
MEDIA_TYPES = tuple(_FORMATS)
"""That images are rendered to (PS3.18 table 8.7.4-1), the default first."""
LARGEST_MIB = 32
"""Of a picture."""
_FLATTEST = 0.1
"""Proportion of a pixel beyond which it is taken for an error."""


@dataclass(frozen=True, kw_only=True)
class Viewport:
    """The size of a picture, and which region of the image it shows (PS3.18 8.3.5.1.3)."""

    width: int
    """Of the picture at most, in pixels; the image is scaled to fit."""
    height: int
    left: float = 0.0
    """Of the region, in pixels of the image."""
    top: float = 0.0
    columns: float | None = None
    """Of the region; below 0: the picture is flipped; ``None``: to the right edge."""
    rows: float | None = None


@dataclass(frozen=True, kw_only=True)
class Window:
    """A VOI window (PS3.3 C.11.2)."""

    centre: float
    width: float
    function: str
    """VOI LUT Function: LINEAR, LINEAR_EXACT or SIGMOID."""


_SOFT_TISSUE = Window(centre=40.0, width=400.0, function="LINEAR")
"""Of a CT, in HU, as the dashboard has it."""
_OF_MR = (1.0, 99.5)
"""Percentiles of the values of an MR that are black and white, as the dashboard has them."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How a picture is made."""

    media_type: str
    quality: int = 90
    """Of a JPEG, 1 to 100."""
    viewport: Viewport | None = None
    """``None``: of the size of the image."""
    window: Window | None = None
    """``None``: VOI LUT or window of the image, else the usual one of its modality, else all of its values."""


def picture_of(path: Path, frame: int, rendering: Rendering) -> bytes:
    """Return one frame (from 1) as a picture with square pixels, without annotations and metadata.

    Raises ``NotFoundError`` when the image has no such frame, ``InputError`` when it is none or cannot be decoded.
    """
    from node.studies.pydicom_errors import UNDECODABLE

    try:
        return _picture(path, frame, rendering)
    except UNDECODABLE as error:  # a value that its VR does not allow, for example
        raise InputError(f"the image cannot be rendered: {error}") from error


def _picture(path: Path, frame: int, rendering: Rendering) -> bytes:
    from PIL import Image

    from node.studies.header import read_header

    header = read_header(path)
    if "Rows" not in header or "Columns" not in header:
        raise InputError("the object is no image")
    count = int(header.get("NumberOfFrames") or 1)
    if not 1 <= frame <= count:
        raise NotFoundError(f"the object has {count} frames")
    of_frame = _header_of(header, frame, count)
    if rendering.window is not None:
        _set_window(of_frame, rendering.window)
    pixels = _pixels(path, of_frame)
    image = _placed(Image.fromarray(pixels), of_frame, rendering.viewport)
    out = BytesIO()
    settings = {"quality": rendering.quality, "subsampling": 0} if rendering.media_type == MEDIA_TYPES[0] else {}
    image.save(out, _FORMATS[rendering.media_type], **settings)
    if out.tell() > LARGEST_MIB << 20:  # a client that reads slowly has it in memory here
        raise InputError(f"the picture has more than {LARGEST_MIB} MiB; ask for a smaller viewport")
    return out.getvalue()


def _header_of(header: Dataset, frame: int, count: int) -> Dataset:
    """Return the header of one frame, with the values of its functional groups."""
    from node.studies.frames import split_frames, split_plain_frames

    split = split_frames if "PerFrameFunctionalGroupsSequence" in header else split_plain_frames
    headers = split(header)
    if len(headers) == count:
        return headers[frame - 1]
    header.add_new("ReferencedFrameNumber", "IS", frame)  # its functional groups are not one for each frame
    return header


def _set_window(header: Dataset, window: Window) -> None:
    from pydicom.valuerep import format_number_as_ds

    if "VOILUTSequence" in header:
        del header.VOILUTSequence
    header.add_new("WindowCenter", "DS", format_number_as_ds(window.centre))
    header.add_new("WindowWidth", "DS", format_number_as_ds(window.width))
    header.add_new("VOILUTFunction", "CS", window.function)


def _pixels(path: Path, header: Dataset) -> NDArray[np.uint8]:
    """Return ``[row, column]`` of a grey image and ``[row, column, 3]`` of others."""
    from node.studies.pixel_data import in_colour, read_pixels

    stored = next(read_pixels(path, [header], lambda values, _: values, colour=True))
    is_grey = str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
    if is_grey and "VOILUTSequence" not in header and header.get("WindowCenter") is None:
        _set_usual_window(header, stored)
    pixels = in_colour(stored, header)
    return pixels[:, :, 0] if is_grey else pixels


def _set_usual_window(header: Dataset, stored: NDArray[Any]) -> None:
    """Set the window of an image that states none; of modalities without a usual one all values are seen."""
    import numpy as np

    from node.studies.pixel_data import sampled

    if header.get("BitsAllocated") == 1:  # a mask that is empty or full has no range of values
        _set_window(header, Window(centre=0.5, width=1.0, function="LINEAR_EXACT"))
    elif header.get("Modality") == "CT":
        _set_window(header, _SOFT_TISSUE)
    elif header.get("Modality") == "MR" and (values := sampled(stored, header)).size:
        low, high = (float(value) for value in np.percentile(values, _OF_MR))
        function = "LINEAR" if high - low >= 1 else "LINEAR_EXACT"  # the other one is at least 1 wide
        _set_window(header, Window(centre=(low + high) / 2, width=high - low or 1.0, function=function))


def _placed(image: Image.Image, header: Dataset, viewport: Viewport | None) -> Image.Image:
    """Return the region of a viewport, scaled to fit; with square pixels."""
    from PIL import Image, ImageOps

    view = viewport or Viewport(width=0, height=0)
    columns = image.width - view.left if view.columns is None else view.columns
    rows = image.height - view.top if view.rows is None else view.rows
    right, bottom = min(view.left + abs(columns), image.width), min(view.top + abs(rows), image.height)
    if right - view.left < 1 or bottom - view.top < 1:
        raise InputError(f"the region has no pixel of the image, which is {image.width} x {image.height}")
    box = (view.left, view.top, right, bottom)
    height_per_width = _height_per_width(header)
    width, height = (right - view.left) * max(1 / height_per_width, 1), (bottom - view.top) * max(height_per_width, 1)
    scale = 1.0 if viewport is None else min(viewport.width / width, viewport.height / height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if size != image.size or box != (0, 0, *image.size):
        image = image.resize(size, Image.Resampling.BICUBIC, box)
    image = ImageOps.mirror(image) if columns < 0 else image
    return ImageOps.flip(image) if rows < 0 else image


def _height_per_width(header: Dataset) -> float:
    """Return the proportion of a pixel; 1 where the image states none, or none that can be."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        value = header.get(keyword)
        if value is not None and len(value) == 2 and all(float(number) > 0 for number in value):
            height_per_width = float(value[0]) / float(value[1])
            return height_per_width if _FLATTEST <= height_per_width <= 1 / _FLATTEST else 1.0
    return 1.0
