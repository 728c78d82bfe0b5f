"""From a CT volume to candidate centres: lung crop, 1 mm grid, halo slabs through ``CandidateNet``, peaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage

from pipelines.device import autocast, to_device
from pipelines.explain import mirrored, spread
from pipelines.nodule.lungs import Lungs, to_grid
from pipelines.nodule.network import CELL_MM, CandidateNet, scale_hu

MARGIN_MM = 18.0
"""Context kept round the lungs' bounding box."""
SLABS = (96, 48, 16)
"""Voxels (mm) of a slab that are kept; less where memory does not suffice."""
HALO = 32
"""Voxels (mm) that are computed on either side of a slab and thrown away."""
MAX_CANDIDATES = 60
EXPLAINED = 64
"""Voxels (mm) along each axis of the surroundings in which a finding's spread is measured."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A point that may be the centre of a nodule."""

    centre: tuple[float, float, float]
    """Index ``(slice, row, column)`` in the volume that was searched; whole numbers are voxel centres."""
    diameter_mm: float
    score: float = 0.0
    """The heat map's, 0 to 1; 0 where only the blob filter proposes it."""
    bulge_hu: float = 0.0
    """The blob filter's response; 0 where only the heat map proposes it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """The lungs' box on the 1 mm grid, and the way back."""

    hu: torch.Tensor
    """``[z, y, x]`` padded to multiples of 16."""
    inside: npt.NDArray[np.bool_]
    """Per heat-map cell: may hold a nodule's centre."""
    origin: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    def to_source(self, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Index on the 1 mm grid to index in the source volume."""
        return (grid + 0.5) * self.scale - 0.5 + self.origin

    def cell_of(self, centre: Sequence[float]) -> npt.NDArray[np.int64]:
        """Heat-map cell that holds an index of the source volume."""
        cell = (np.asarray(centre) - self.origin + 0.5) / self.scale // CELL_MM
        return np.clip(cell, 0, np.array(self.inside.shape) - 1).astype(np.int64)

    def cells_to_source(self) -> npt.NDArray[np.float64]:
        """4 x 4 matrix from the index of a heat-map cell to that in the source volume."""
        matrix = np.diag([*(self.scale * CELL_MM), 1.0])
        matrix[:3, 3] = self.to_source(np.full(3, CELL_MM / 2 - 0.5))
        return matrix


def crop_lungs(hu: npt.NDArray[np.float32], spacing: Sequence[float], lungs: Lungs) -> Crop:
    """Cut out the lungs with ``MARGIN_MM`` and resample to 1 mm."""
    box = ndimage.find_objects(lungs.mask.astype(np.int8))[0]
    keep = []
    for part, cells, count, step in zip(box, lungs.mask.shape, hu.shape, spacing, strict=True):
        per_cell = count / cells
        margin = MARGIN_MM / step
        keep.append(
            slice(max(0, int(part.start * per_cell - margin)), min(count, int(np.ceil(part.stop * per_cell + margin))))
        )
    cut = hu[tuple(keep)]
    fine = to_grid(cut, (spacing[0], spacing[1], spacing[2]), 1.0)
    scale = np.array(cut.shape) / np.array(fine.shape)
    padding = [(-n) % 16 for n in fine.shape]
    padded = F.pad(fine[None], (0, padding[2], 0, padding[1], 0, padding[0]), mode="replicate")[0]
    origin = np.array([part.start for part in keep], float)
    cells = np.array(padded.shape) // int(CELL_MM)
    # Nearest lung-grid cell of each heat-map cell's middle; beyond the unpadded box there is nothing to find.
    index = [
        np.clip((((np.arange(n) + 0.5) * CELL_MM * s + o) * m / c).astype(int), 0, m - 1)
        for n, s, o, m, c in zip(cells, scale, origin, lungs.mask.shape, hu.shape, strict=True)
    ]
    inside = lungs.mask[np.ix_(*index)]
    real = [np.arange(n) * CELL_MM < size for n, size in zip(cells, fine.shape, strict=True)]
    inside = inside & np.logical_and.outer(np.logical_and.outer(real[0], real[1]), real[2])
    return Crop(hu=padded, inside=inside, origin=origin, scale=scale)


def slabs(length: int, kept: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cover ``length`` voxels by slabs of ``kept``.

    Each: what to compute, what of the answer to keep, and where it goes (the last two in cells).
    """
    cell = int(CELL_MM)
    for start in range(0, length, kept):
        stop = min(start + kept, length)
        low, high = max(0, start - HALO), min(length, stop + HALO)
        yield slice(low, high), slice((start - low) // cell, (stop - low) // cell), slice(start // cell, stop // cell)


@torch.inference_mode()
def heat_map(
    network: CandidateNet, crop: Crop, device: str, *, kept: int = SLABS[0], precision: str = "fp32"
) -> npt.NDArray[np.float32]:
    """``[5, z/4, y/4, x/4]`` as ``CandidateNet`` gives it; slabs without lung stay at "nothing here"."""
    shape = tuple(n // int(CELL_MM) for n in crop.hu.shape)
    out = np.full((5, *shape), -20.0, np.float32)
    for compute, keep, place in slabs(crop.hu.shape[0], kept):
        if not crop.inside[place].any():
            continue
        columns = [np.flatnonzero(crop.inside[place].any(axes)) for axes in ((0, 2), (0, 1))]
        # In the plane, too, only the lungs of this slab and a halo.
        low = [max(0, int(c[0]) * 4 - HALO) // 16 * 16 for c in columns]
        high = [
            min(n, -(-(int(c[-1]) * 4 + 4 + HALO) // 16) * 16) for c, n in zip(columns, crop.hu.shape[1:], strict=True)
        ]
        block = to_device(scale_hu(crop.hu[compute, low[0] : high[0], low[1] : high[1]])[None, None], device)
        with autocast(device, precision):
            seen = network(block.contiguous(memory_format=torch.channels_last_3d))[0, :, keep]
        out[:, place, low[0] // 4 : high[0] // 4, low[1] // 4 : high[1] // 4] = seen.float().cpu().numpy()
    return out


@torch.inference_mode()
def spread_at(
    network: CandidateNet, crop: Crop, centre: Sequence[float], device: str
) -> tuple[npt.NDArray[np.float32], tuple[slice, slice, slice]]:
    """How far the score in the cells round ``centre`` differs between the eight mirror images of what surrounds it.

    ``centre`` is an index in the source volume. Returns the standard deviation and the cells of the heat map it is for.
    """
    middle = (np.asarray(centre) - crop.origin + 0.5) / crop.scale
    sides = [min(EXPLAINED, n) for n in crop.hu.shape]
    starts = [
        int(np.clip(round((m - s / 2) / 16) * 16, 0, n - s))
        for m, s, n in zip(middle, sides, crop.hu.shape, strict=True)
    ]
    part = tuple(slice(a, a + s) for a, s in zip(starts, sides, strict=True))
    block = scale_hu(crop.hu[part])[None, None].to(device)
    copies = mirrored(lambda x: network.to(device)(x)[:, :1].float().sigmoid(), block, (2, 3, 4))
    cells = [slice(p.start // int(CELL_MM), p.stop // int(CELL_MM)) for p in part]
    return spread(copies)[0, 0].cpu().numpy(), (cells[0], cells[1], cells[2])


def peaks(heat: npt.NDArray[np.float32], crop: Crop, lowest: float) -> list[Candidate]:
    """Local maxima with a score of ``lowest`` at least, best first; of two that overlap the better one."""
    logit = np.where(crop.inside, heat[0], -20.0)
    summit = (logit == ndimage.maximum_filter(logit, 3)) & (logit > np.log(lowest / (1 - lowest)))
    cells = np.argwhere(summit)
    cells = cells[np.argsort(-logit[tuple(cells.T)])]
    accepted: list[tuple[npt.NDArray[np.float64], float, float]] = []
    for cell in cells:
        _, size, *offset = heat[(slice(None), *cell)]
        middle = (cell + 0.5 + np.clip(offset, -1.5, 1.5)) * CELL_MM - 0.5
        diameter = float(np.clip(np.exp(size), 2.0, 60.0))
        near = any(np.linalg.norm(middle - m) < max(3.0, 0.5 * max(diameter, d)) for m, d, _ in accepted)
        if not near:
            accepted.append((middle, diameter, float(1 / (1 + np.exp(-logit[tuple(cell)])))))
        if len(accepted) == MAX_CANDIDATES:
            break
    candidates = []
    for middle, diameter, score in accepted:
        z, y, x = crop.to_source(middle)
        candidates.append(Candidate(centre=(float(z), float(y), float(x)), diameter_mm=diameter, score=score))
    return candidates
