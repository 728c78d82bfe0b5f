"""Writes the phantoms as DICOM series, clearly labelled as synthetic, and says what is in them.

The pictures are the same every time (fixed seed); all UIDs are new, so that every run is a new study.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage, MRImageStorage
from scipy import ndimage

from node.demo.brain import LESION_CENTRE, flair
from node.demo.chest import NODULES, chest_hu
from node.demo.images import Grid, TrueLesion, Truth, base_of, describe_ct, stored_ct, write_series
from node.demo.shapes import Array

SEED = 20260101
CT_SLICE_MM, CT_FIELD_MM, CT_SLICES, CT_FIRST_MM = 2.5, 400.0, 120, -150.0
MR_SLICE_MM, MR_FIELD_MM, MR_SLICES, MR_FIRST_MM = 5.0, 230.4, 28, -62.0


def write_chest_ct(folder: Path, *, matrix: int = 512, slice_mm: float = CT_SLICE_MM) -> Truth:
    """Write a chest CT of 120 axial slices of 2.5 mm with four nodules into ``folder`` (made when missing).

    ``matrix``: rows and columns; 128 makes a phantom in a second, with large pixels. ``slice_mm``: the same chest in
    slices of another thickness.
    """
    zs = _axis(CT_FIRST_MM, slice_mm, round(CT_SLICES * CT_SLICE_MM / slice_mm))
    plane = _plane(CT_FIELD_MM, matrix)
    base = base_of("CT", CTImageStorage, "CHEST")
    base.SeriesDescription = f"Chest {slice_mm:g} mm, synthetic phantom"
    describe_ct(base)
    lesions = tuple(TrueLesion(n.name, n.centre, n.diameter_mm) for n in NODULES)
    stored = stored_ct(chest_hu(zs, plane, plane, SEED))
    return write_series(folder, base, stored, _axial(zs, plane), lesions)


def write_brain_flair(folder: Path, *, matrix: int = 256) -> Truth:
    """Write a brain FLAIR of 28 axial slices of 5 mm with one lesion on the left into ``folder``."""
    zs, plane = _axis(MR_FIRST_MM, MR_SLICE_MM, MR_SLICES), _plane(MR_FIELD_MM, matrix)
    signal, share = flair(zs, plane, plane, SEED)
    stored = np.clip(np.rint(signal), 0, 4095).astype(np.uint16)
    base = base_of("MR", MRImageStorage, "BRAIN")
    base.SeriesDescription = "AX FLAIR, synthetic phantom"
    base.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    base.ScanningSequence, base.SequenceVariant, base.ScanOptions = ["SE", "IR"], "SK", ""
    base.MRAcquisitionType, base.EchoTrainLength = "2D", "16"
    base.RepetitionTime, base.EchoTime, base.InversionTime = "9000", "120", "2500"
    base.MagneticFieldStrength, base.SpacingBetweenSlices = "1.5", str(MR_SLICE_MM)
    base.WindowCenter, base.WindowWidth = "500", "1000"
    return write_series(folder, base, stored, _axial(zs, plane), (_flair_truth(share, zs, plane),))


def _flair_truth(share: Array, zs: Array, plane: Array) -> TrueLesion:
    middle = ndimage.center_of_mass(share)
    at = [float(np.interp(m, range(len(a)), a)) for m, a in zip(middle, (zs, plane, plane), strict=True)]
    volume = float(share.sum(dtype=np.float64)) * MR_SLICE_MM * float(plane[1] - plane[0]) ** 2
    side = "left" if LESION_CENTRE[0] > 0 else "right"
    return TrueLesion(f"{side} parietal lobe", (at[2], at[1], at[0]), (6 * volume / np.pi) ** (1 / 3))


def _axis(first: float, step: float, count: int) -> Array:
    return (first + step * np.arange(count)).astype(np.float32)


def _plane(field_mm: float, matrix: int) -> Array:
    """Pixel centres of a square field of view round the origin."""
    pixel = field_mm / matrix
    return ((np.arange(matrix) - (matrix - 1) / 2) * pixel).astype(np.float32)


def _axial(zs: Array, plane: Array) -> Grid:
    first = np.array([plane[0], plane[0], zs[0]], float)
    right, down = np.eye(3)[:2]
    return Grid(right, down, first, pixel_mm=float(plane[1] - plane[0]), slice_mm=float(zs[1] - zs[0]))
