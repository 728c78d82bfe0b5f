"""CT series of the synthetic chest of ``node.demo``, whose pixels the network knows as a chest."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from dicom_files import ct_series
from pydicom import FileDataset

from node.demo.chest import chest_hu

_SPACING = (6.0, 4.0, 4.0)
HEIGHTS = np.arange(-44.0, 3.0, _SPACING[0], np.float32)
"""Of the slices, mm: between the hilum and the diaphragm."""


@cache
def _volume() -> np.ndarray:
    across = np.arange(-190.0, 191.0, _SPACING[1], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nodules that lie above
        return chest_hu(HEIGHTS, across, across, 1).clip(-1024.0)  # as a scanner stores air


def chest_series(study: str = "", **attributes: Any) -> list[FileDataset]:
    """Return 8 slices; ``attributes`` are set in each."""
    images = ct_series(volume=_volume(), spacing=_SPACING, origin=(-190.0, -190.0, float(HEIGHTS[0])), study=study)
    for image in images:
        for keyword, value in {"BodyPartExamined": "CHEST", **attributes}.items():
            setattr(image, keyword, value)
    return images
