"""From a candidate to its mask: ``OutlineNet`` on the native slices round it, then one connected body in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage

from pipelines.nodule.candidates import Candidate
from pipelines.nodule.network import OutlineNet
from pipelines.nodule.outlines import CROP, NEIGHBOUR_MM, PIXEL_MM, stretched

SMALL_FIELD, LARGE_FIELD = 64, 96
"""Pixels that the network sees: for candidates up to 20 mm, and for larger ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """The mask of one candidate."""

    box: tuple[slice, slice, slice]
    """Where ``mask`` lies in the volume."""
    mask: npt.NDArray[np.bool_]
    diameter_mm: float
    """Of the sphere of the same volume."""
    certainty: float
    """Mean probability of the mask's surest half, 0 (nothing outlined) to 1."""


def _window(centre: float, half: float, count: int) -> tuple[int, int]:
    return max(0, int(np.floor(centre - half))), min(count, int(np.ceil(centre + half)) + 1)


@torch.inference_mode()
def outline(
    network: OutlineNet, hu: npt.NDArray[np.float32], spacing: Sequence[float], candidate: Candidate, device: str
) -> Outline | None:
    """Mask of ``candidate`` on the grid of ``hu`` (``[slice, row, column]``, axial); ``None``: no nodule seen."""
    gap = max(1, round(NEIGHBOUR_MM / spacing[0]))
    reach = candidate.diameter_mm * 0.8 + 5.0
    first, last = _window(candidate.centre[0], reach / spacing[0], hu.shape[0])
    wide = [round(CROP * PIXEL_MM / s) for s in spacing[1:]]
    corner = [round(c - w / 2) for c, w in zip(candidate.centre[1:], wide, strict=True)]
    rows, columns = (np.clip(np.arange(o, o + w), 0, n - 1) for o, w, n in zip(corner, wide, hu.shape[1:], strict=True))
    needed = np.clip(np.arange(first - gap, last + gap), 0, hu.shape[0] - 1)
    native = torch.from_numpy(hu[np.ix_(needed, rows, columns)])[:, None]
    planes = F.interpolate(native, size=(CROP, CROP), mode="bilinear", align_corners=False)[:, 0].numpy()
    grey = torch.from_numpy(stretched(planes))
    field = SMALL_FIELD if candidate.diameter_mm <= 20 else LARGE_FIELD
    edge = (CROP - field) // 2
    grey = grey[:, edge : edge + field, edge : edge + field]
    count = last - first
    triples = torch.stack([grey[:count], grey[gap : gap + count], grey[2 * gap : 2 * gap + count]], 1)
    logits = torch.cat([network(part.to(device)).float().cpu() for part in triples.split(16)])
    full = F.pad(logits, (edge, edge, edge, edge), value=-20.0)
    chance = F.interpolate(full, size=tuple(wide), mode="bilinear", align_corners=False).sigmoid()[:, 0].numpy()
    low = [max(0, -o) for o in corner]
    high = [min(w, n - o) for w, o, n in zip(wide, corner, hu.shape[1:], strict=True)]
    chance = chance[:, low[0] : high[0], low[1] : high[1]]
    origin = np.array([first, max(0, corner[0]), max(0, corner[1])])
    body = _body(chance, np.array(candidate.centre) - origin, spacing, candidate.diameter_mm)
    if body is None:
        return None
    tight = ndimage.find_objects(body.astype(np.int8))[0]
    volume = float(body.sum() * np.prod(spacing))
    sure = np.sort(chance[body])[body.sum() // 2 :]
    return Outline(
        box=tuple(slice(int(s.start + o), int(s.stop + o)) for s, o in zip(tight, origin, strict=True)),  # type: ignore[arg-type]
        mask=body[tight],
        diameter_mm=2 * (3 * volume / (4 * np.pi)) ** (1 / 3),
        certainty=float(sure.mean()),
    )


def _body(
    chance: npt.NDArray[np.float32], centre: npt.NDArray[np.float64], spacing: Sequence[float], diameter_mm: float
) -> npt.NDArray[np.bool_] | None:
    """The connected part of ``chance > 0.5`` at the candidate's centre, filled slice by slice."""
    labels, count = ndimage.label(chance > 0.5)
    if not count:
        return None
    index = np.argwhere(labels > 0)
    away = np.linalg.norm((index - centre) * spacing, axis=1)
    nearest = int(away.argmin())
    if away[nearest] > max(3.0, diameter_mm / 2):
        return None
    body = labels == labels[tuple(index[nearest])]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])
