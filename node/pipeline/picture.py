"""Pictures that a pipeline made itself, such as a chart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.pipeline.measurement import check_label

LARGEST_EDGE = 4096
"""Pixels along the longer side."""
MOST_PICTURES = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture in colour; the node shows it unchanged, and says beside it who made it. It says nothing itself."""

    label: str
    """Unique within the findings, at most 64 characters, for example ``"Volumes over time"``."""
    pixels: NDArray[np.uint8]
    """sRGB ``[row, column, 3]``. Whatever is written in it is the pipeline's: it should name no patient."""

    def __post_init__(self) -> None:
        check_label("Picture", self.label)
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or not min(shape) >= 1:
            raise ValueError(
                f"Picture.pixels of {self.label!r} is {self.pixels.dtype} {shape}; give uint8 [row, column, 3]"
            )
        if max(shape) > LARGEST_EDGE:
            raise ValueError(f"Picture.pixels of {self.label!r} is {shape}; give at most {LARGEST_EDGE} pixels a side")
