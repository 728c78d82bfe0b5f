"""Two studies of one patient: the same body, turned and shifted between them, with balls of known growth in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ct_series
from pydicom import FileDataset
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from node.demo.chest import chest_hu
from node.studies.source import SourceSeries

DAYS = 120
SPACING = np.array((2.5, 2.0, 2.0))
"""Between slices, rows, columns: mm."""
BRIGHT_HU, MOST_HU = 1500.0, 800.0
"""Of the balls; and the most that the body itself may have."""
TURN = Rotation.from_euler("xyz", (1.5, -2.0, 3.0), degrees=True).as_matrix()
SHIFT_MM = np.array((11.0, -7.0, 18.0))
"""The patient lies otherwise the second time: LPS mm, about the middle of the body."""


@dataclass(frozen=True, kw_only=True)
class Ball:
    """A lesion; a radius of 0: it is not there. ``place_mm``: from the middle of the body, LPS."""

    name: str
    place_mm: tuple[float, float, float]
    radius_then: float
    radius_now: float

    def volume(self, radius: float) -> float:
        return 4.0 / 3.0 * np.pi * radius**3


BALLS = (
    Ball(name="doubled", place_mm=(-70.0, -10.0, 30.0), radius_then=9.0, radius_now=9.0 * 2 ** (1 / 3)),
    Ball(name="shrunk", place_mm=(70.0, 20.0, -40.0), radius_then=12.0, radius_now=9.0),
    Ball(name="as it was", place_mm=(-70.0, -40.0, 30.0), radius_then=8.0, radius_now=8.0),  # 30 mm from the first
    Ball(name="gone", place_mm=(75.0, 0.0, 40.0), radius_then=7.0, radius_now=0.0),
    Ball(name="new", place_mm=(-80.0, 30.0, -50.0), radius_then=0.0, radius_now=7.0),
)


def phantom() -> np.ndarray:
    """A synthetic chest on ``SPACING``: HU, slices from the feet to the head."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip((72, 130, 160), SPACING, strict=True)]
    return np.asarray(chest_hu(*axes, seed=5), float)


def real_chest() -> np.ndarray:
    """LIDC-IDRI-0063 on ``SPACING``; skips the test where ``AINODE_DATA`` names no data folder."""
    folder = Path(os.environ.get("AINODE_DATA", "")) / "studies" / "lidc-idri-0063" / "ct"
    if "AINODE_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("AINODE_DATA names no data folder")
    volume = SourceSeries.read(sorted(folder.glob("*.dcm"))).volume("HPL")
    steps = SPACING / np.asarray(volume.spacing)
    shape = tuple(int(n) for n in np.array(volume.array.shape) / steps)
    return np.asarray(affine_transform(volume.array, steps, output_shape=shape, order=1), float)


def _moved(body: np.ndarray) -> np.ndarray:
    """The body turned by ``TURN`` and shifted by ``SHIFT_MM``."""
    matrix = TURN[::-1, ::-1].T * SPACING / SPACING[:, None]  # array indices run z, y, x
    middle = (np.array(body.shape) - 1) / 2
    offset = middle - matrix @ (middle + SHIFT_MM[::-1] / SPACING)
    return np.asarray(affine_transform(body, matrix, offset, order=1, mode="nearest"))


def _draw(hu: np.ndarray, centre_mm: np.ndarray, radius: float) -> None:
    middle = (np.array(hu.shape) - 1) / 2 + centre_mm[::-1] / SPACING
    low = np.maximum(np.floor(middle - radius / SPACING), 0).astype(int)
    box = tuple(slice(a, int(b) + 2) for a, b in zip(low, middle + radius / SPACING, strict=True))
    at = np.moveaxis(np.indices(hu[box].shape), 0, -1) + low
    hu[box][np.linalg.norm((at - middle) * SPACING, axis=-1) < radius] = BRIGHT_HU


def study(body: np.ndarray, *, later: bool) -> list[FileDataset]:
    """The CT of one of the two days, with its balls; every UID is its own."""
    hu = np.clip(_moved(body) if later else body, -1024.0, MOST_HU)
    for ball in BALLS:
        centre = np.array(ball.place_mm)
        _draw(hu, TURN @ centre + SHIFT_MM if later else centre, ball.radius_now if later else ball.radius_then)
    origin = (-130.0, -150.0, 1200.0) if later else (-160.0, -140.0, -400.0)
    images = ct_series(volume=np.rint(hu).astype(np.int32), spacing=tuple(map(float, SPACING)), origin=origin)
    for image in images:
        image.StudyDate = image.SeriesDate = image.ContentDate = "20250901" if later else "20250504"
    return images
