"""One image of a series, for pipelines that need no volume: radiographs, mammograms, ultrasound, angiography."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class PixelSpacing(NamedTuple):
    """Distance between the centres of neighbouring pixels (PS3.3 10.7)."""

    row_mm: float
    """Between rows, which is down the image."""
    column_mm: float
    """Between columns, which is across it."""
    at: Literal["patient", "detector"]
    """``"patient"``: of slices, or calibrated for the depth of something in the patient. ``"detector"``: at the
    detector, where what lies before it is magnified: lengths in the patient are shorter by an unknown factor."""


class SeriesImage(Protocol):
    """One image, or one frame of a multi-frame image."""

    @property
    def sop_instance_uid(self) -> str:
        """Which image it is: give it to a shape as ``on=image``."""

    @property
    def frame(self) -> int | None:
        """Frame number, from 1; ``None`` of an image without frames."""

    @property
    def rows(self) -> int: ...

    @property
    def columns(self) -> int: ...

    @property
    def view(self) -> str:
        """View Position (0018,5101), or the value that means the same as the View Code; ``""`` when neither is stated.

        For example ``"PA"``, ``"AP"``, ``"LL"``, ``"CC"``, ``"MLO"``.
        """

    @property
    def laterality(self) -> str:
        """``"L"``, ``"R"`` or ``"B"`` of a paired body part, by Image Laterality or Laterality; else ``""``."""

    @property
    def orientation(self) -> tuple[str, str] | None:
        """Patient Orientation (0020,0020); ``None`` when it is not stated.

        Directions in which a row, and a column, of pixels runs, such as ``("L", "F")`` of a chest PA.
        """

    @property
    def pixel_spacing(self) -> PixelSpacing | None:
        """``None`` when it is not stated."""

    def attribute(self, keyword: str) -> Any:
        """Value of a DICOM attribute by keyword, ``None`` when absent."""

    def values(self) -> NDArray[np.float32]:
        """Pixels ``[row, column]`` after the Modality LUT, in the unit of the device.

        Whether high values are bright depends on Photometric Interpretation (0028,0004). Raises ``Unsuitable`` for
        images in colour, as ``grey`` does.
        """

    def grey(self) -> NDArray[np.float32]:
        """Pixels ``[row, column]`` as a viewer first shows them, from 0 (black) to 1 (white).

        Modality LUT, first VOI LUT or window, MONOCHROME1 inverted; without a window, from the least value to the
        greatest.
        """

    def rgb(self) -> NDArray[np.uint8]:
        """Pixels ``[row, column, 3]``; grey images as ``grey`` in three equal samples."""
