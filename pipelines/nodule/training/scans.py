"""Real scans as backgrounds for inserted nodules: ``studies/`` of the data folder (DICOM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage

from node.pipeline import Volume
from pipelines.nodule.blobs import blobs
from pipelines.nodule.candidates import crop_lungs
from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.training.insertion import Array

TRAINING_SCANS = ("lung-pet-ct-dx-a0001/ct_kernel_l", "lung-pet-ct-dx-a0001/ct_kernel_b", "lidc-idri-0001-partial/ct")
HELD_OUT_SCAN = "lidc-idri-0063/ct"
IGNORED_LPS_MM: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "lung-pet-ct-dx-a0001": ((5.0, 157.0, -245.0), (76.0, 246.0, -176.0)),
    "lidc-idri-0001-partial": ((34.0, 64.0, -137.0), (79.0, 109.0, -94.0)),
}
"""Corner and opposite corner of the real tumours in the background scans: no loss is taken there, so that they stay
unseen as lesions (the mass of 0001 is one of the real checks)."""


def read_scan(folder: Path) -> Volume:
    """The CT series in ``folder`` as HU, oriented HPL. Raises ``FileNotFoundError`` when there is none."""
    datasets = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    if not datasets:
        raise FileNotFoundError(f"{folder} holds no *.dcm; give the folder of this project's data as --data")
    return highdicom.get_volume_from_series(datasets, dtype=np.float32).to_patient_orientation("HPL")


@dataclass(frozen=True, kw_only=True, eq=False)
class Background:
    """A real scan, cropped to the lungs or whole: native slices, about 1 mm in the plane."""

    hu: Array
    ignored: npt.NDArray[np.bool_]
    places: npt.NDArray[np.int32]
    """``[n, 3]`` slice, row, column of voxels inside the lungs."""
    near_wall: npt.NDArray[np.int32]
    near_vessel: npt.NDArray[np.int32]
    step_mm: float


def background(
    volume: Volume, ignored: Sequence[Sequence[float]] | None = None, in_plane_mm: float = 1.0, *, crop: bool = True
) -> Background:
    """``volume`` (HPL) with pixels taken for 1 mm after resampling to ``in_plane_mm``; ``ignored``: two LPS corners."""
    spacing = tuple(float(s) for s in volume.spacing)
    lungs = find_lungs(volume.array, (spacing[0], spacing[1], spacing[2]))
    if lungs is None:
        raise ValueError("background scan without lungs; choose another")
    planes = torch.from_numpy(np.ascontiguousarray(volume.array))[:, None]
    size = [round(n * s / in_plane_mm) for n, s in zip(volume.array.shape[1:], spacing[1:], strict=True)]
    hu = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
    mask = F.interpolate(torch.from_numpy(lungs.mask)[None, None].float(), size=hu.shape)[0, 0].numpy() > 0.5
    skip = np.zeros(hu.shape, bool)
    if ignored is not None:
        corners = volume.map_reference_to_indices(np.array(ignored, float)) * [
            1,
            *(np.array(size) / volume.array.shape[1:]),
        ]
        low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
        skip[low[0] : high[0] + 1, low[1] : high[1] + 1, low[2] : high[2] + 1] = True
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    keep = (
        np.s_[:, :, :]
        if not crop
        else (
            slice(max(0, box[0].start - 4), box[0].stop + 4),
            *(slice(max(0, s.start - 20), s.stop + 20) for s in box[1:]),
        )
    )
    hu, mask, skip = hu[keep].clip(-1024, 1500), mask[keep], skip[keep]
    inner = mask & (hu < -300)
    inner &= ndimage.binary_erosion(mask, iterations=1)
    wall = ndimage.binary_dilation(ndimage.binary_opening(hu > -300, np.ones((1, 9, 9))), np.ones((1, 5, 5)))
    vessel = ndimage.binary_dilation((hu > -450) & mask & ~wall, np.ones((1, 3, 3)))
    free = inner & ~skip
    return Background(
        hu=np.ascontiguousarray(hu, np.float32),
        ignored=skip,
        places=np.argwhere(free).astype(np.int32),
        near_wall=np.argwhere(free & wall).astype(np.int32),
        near_vessel=np.argwhere(free & vessel).astype(np.int32),
        step_mm=spacing[0],
    )


def backgrounds(
    data: Path, scans: Sequence[str] = TRAINING_SCANS, sizes: Sequence[float] = (0.88, 1.0, 1.12)
) -> list[Background]:
    """Each scan at several sizes of patient (mm of a pixel that is taken for 1 mm)."""
    grounds = []
    for scan in scans:
        volume = read_scan(data / "studies" / scan)
        box = IGNORED_LPS_MM.get(scan.split("/")[0])
        for in_plane_mm in sizes:
            thin = background(volume, box, in_plane_mm)
            # Twice: thin slices are what the detector meets most.
            grounds += [thin, thin] if thin.step_mm < 4 else [thin]
    return grounds


def bright_spots(ground: Background) -> npt.NDArray[np.int64]:
    """``[n, 3]`` slice, row, column of what the blob filter takes for candidates; nothing of what is ignored."""
    spacing = (ground.step_mm, 1.0, 1.0)
    lungs = find_lungs(ground.hu, spacing)
    if lungs is None:
        raise ValueError("background scan without lungs; choose another")
    at = np.array([b.centre for b in blobs(crop_lungs(ground.hu, spacing, lungs))])
    at = np.clip(np.round(at).astype(int), 0, np.array(ground.hu.shape) - 1)
    return at[~ground.ignored[tuple(at.T)]]
