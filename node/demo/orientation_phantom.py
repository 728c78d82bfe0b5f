"""The orientation phantom: which side is which can be read off the images themselves, in any plane.

Balls stand 60 mm from the centre in each of the six directions of the patient, in a row: one on the left, two on the
right, three in front, four at the back, five towards the head, six towards the feet. Beside each row stands its letter,
upright when the picture is shown as it is stored. Positions are LPS mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage

from node.demo.images import Grid, TrueLesion, Truth, base_of, describe_ct, stored_ct, write_series
from node.demo.shapes import Array

PATIENT_ID = "PHANTOM-ORIENTATION"
COUNTS: Mapping[str, int] = {"L": 1, "R": 2, "A": 3, "P": 4, "H": 5, "F": 6}
"""Balls in each direction of the patient."""
DIRECTIONS: Mapping[str, tuple[float, float, float]] = {
    "L": (1, 0, 0),
    "R": (-1, 0, 0),
    "A": (0, -1, 0),
    "P": (0, 1, 0),
    "H": (0, 0, 1),
    "F": (0, 0, -1),
}
AIR_HU, BODY_HU, BALL_HU, LETTER_HU = -1000.0, 0.0, 200.0, 400.0
OUT_MM, PITCH_MM, BALL_MM = 60.0, 14.0, 10.0
"""Distance of a row from the centre, of two balls, diameter of a ball."""
_LETTER_OUT_MM, _DOT_MM, _BODY_MM = 102.0, 4.0, 130.0
_MATRIX, _PIXEL_MM, _SLICES, _SLICE_MM = 192, 1.4, 64, 2.5
_GLYPHS = {
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "F": "11111 10000 10000 11110 10000 10000 10000",
}
"""Rows of dots, from above."""


def _oblique() -> tuple[Array, Array]:
    tilt, turn = np.radians((20.0, 15.0))
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    right, down = (about_x @ about_z).T[:2]
    return right, down


PLANES: Mapping[str, tuple[Array, Array]] = {
    "axial": (np.array([1.0, 0, 0]), np.array([0, 1.0, 0])),
    "coronal": (np.array([1.0, 0, 0]), np.array([0, 0, -1.0])),
    "sagittal": (np.array([0, 1.0, 0]), np.array([0, 0, -1.0])),
    "oblique": _oblique(),
}
"""Directions in which columns and rows are counted."""


def write_orientation(folder: Path, plane: str) -> Truth:
    """Write the phantom as a CT of 64 images in a plane of ``PLANES``; the balls are its lesions, by letter."""
    right, down = PLANES[plane]
    normal = np.cross(right, down)
    corner = -(right + down) * (_MATRIX - 1) / 2 * _PIXEL_MM - normal * (_SLICES - 1) / 2 * _SLICE_MM
    grid = Grid(right, down, corner, pixel_mm=_PIXEL_MM, slice_mm=_SLICE_MM)
    base = base_of("CT", CTImageStorage, "ORIENTATION")
    describe_ct(base)
    base.PatientID, base.BodyPartExamined = PATIENT_ID, "WHOLEBODY"  # a term that validators know
    base.StudyDescription = "Orientation phantom: L1 R2 A3 P4 H5 F6"
    base.SeriesDescription = f"Orientation phantom, {plane}"
    base.WindowCenter, base.WindowWidth = "0", "1000"
    stored = stored_ct(np.stack([_slice(grid, index) for index in range(_SLICES)]))
    diameter = {letter: BALL_MM * count ** (1 / 3) for letter, count in COUNTS.items()}
    rows = tuple(TrueLesion(d, _point(OUT_MM * np.array(v)), diameter[d]) for d, v in DIRECTIONS.items())
    return write_series(folder, base, stored, grid, rows)


def _point(place: Array) -> tuple[float, float, float]:
    x, y, z = place.tolist()
    return x, y, z


def _slice(grid: Grid, index: int) -> Array:
    """HU ``[row, column]``."""
    along = np.arange(_MATRIX) * grid.pixel_mm
    place = grid.first + grid.normal * index * grid.slice_mm
    points = place + along[:, None, None] * grid.down + along[None, :, None] * grid.right
    image = np.where(np.linalg.norm(points, axis=-1) < _BODY_MM, BODY_HU, AIR_HU)
    for letter, direction in DIRECTIONS.items():
        out = np.array(direction)
        image[_glyph(points - _letter_place(grid, out), grid, letter)] = LETTER_HU
        for ball in range(COUNTS[letter]):
            centre = OUT_MM * out + (ball - (COUNTS[letter] - 1) / 2) * PITCH_MM * grid.right
            image[np.linalg.norm(points - centre, axis=-1) < BALL_MM / 2] = BALL_HU
    return image


def _letter_place(grid: Grid, out: Array) -> Array:
    """Farther out than the balls; towards and away from the viewer there is no room: below them."""
    return OUT_MM * out + 35 * grid.down if abs(out @ grid.normal) > 0.7 else _LETTER_OUT_MM * out


def _glyph(from_centre: Array, grid: Grid, letter: str) -> Array:
    """Which points lie in the letter, 20 x 28 mm in the plane of the images and 20 mm deep."""
    dots = np.array([[int(dot) for dot in row] for row in _GLYPHS[letter].split()], bool)
    column = np.floor(from_centre @ grid.right / _DOT_MM + 2.5).astype(int)
    row = np.floor(from_centre @ grid.down / _DOT_MM + 3.5).astype(int)
    inside = (column >= 0) & (column < 5) & (row >= 0) & (row < 7) & (np.abs(from_centre @ grid.normal) < 10)
    return inside & dots[np.clip(row, 0, 6), np.clip(column, 0, 4)]
