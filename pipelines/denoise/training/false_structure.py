"""Structure that a chain invents: spots like lesions in its error where the noise of the input shows none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from pipelines.denoise.training.scenes import REGION, disc

FloatArray = NDArray[np.float32]

SHARE = 0.5
"""Invented is a spot of which the input has less than this share at the same place."""


def apparent_contrast(error: FloatArray, diameter: float) -> FloatArray:
    """Contrast in HU of the disc that fits the surroundings of each pixel best; ``[row, column]``.

    The fit allows for a constant: it is the correlation with the disc less its mean over 37 x 37 pixels.
    """
    lesion = disc(diameter, REGION)
    template = lesion - lesion.mean()
    fitted: FloatArray = signal.fftconvolve(error, template / float((template * lesion).sum()), mode="same")
    return fitted.astype(np.float32)


def spots(
    output: FloatArray, low: FloatArray, truth: FloatArray, where: NDArray[np.bool_], *, diameter: float, limit: float
) -> tuple[int, int]:
    """``(false, invented)``: spots of at least ``limit`` HU, bright or dark, and those that the input does not have.

    Counted are local extremes inside ``where``, of the difference between ``output`` and ``truth``; ``low`` is the
    input of the chain. All ``[row, column]`` in HU.
    """
    after, before = apparent_contrast(output - truth, diameter), apparent_contrast(low - truth, diameter)
    size = np.abs(after)
    extreme = (size == ndimage.maximum_filter(size, round(diameter) + 1)) & (size >= limit) & where
    missing = before * np.sign(after) < SHARE * size
    return int(extreme.sum()), int((extreme & missing).sum())
