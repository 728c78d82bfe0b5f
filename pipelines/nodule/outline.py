"""From a candidate to its mask: ``OutlineNet`` on the native slices round it, then one connected body in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage

from pipelines.explain import mirrored
from pipelines.nodule.candidates import Candidate
from pipelines.nodule.crops import CROP, Window, gap, nearness
from pipelines.nodule.network import OutlineNet

LEAST_SHARE = 0.4
"""Of the candidate's diameter: an outline smaller than this is not of the whole thing (the wall of a cavity, say)."""
DENSE_HU = -500.0
"""Half way between lung and soft tissue."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """The mask of one candidate."""

    box: tuple[slice, slice, slice]
    """Where ``mask`` lies in the volume."""
    mask: npt.NDArray[np.bool_]
    diameter_mm: float
    """Of the sphere of the same volume."""
    certainty: float
    """Mean probability of the mask's surest half; 0: the network saw nothing, the mask is what is dense."""


def field_of(diameter_mm: float) -> int:
    """Pixels, of ``PIXEL_MM``, that the network sees of a candidate."""
    return 64 if diameter_mm <= 20 else 96


def _window(centre: float, half: float, count: int) -> tuple[int, int]:
    return max(0, int(np.floor(centre - half))), min(count, int(np.ceil(centre + half)) + 1)


def logits_of(network: OutlineNet, planes: torch.Tensor) -> torch.Tensor:
    """Mean over the four mirror images, and the same turned by a quarter."""
    turned = planes.transpose(2, 3)
    copies = [*mirrored(network, planes, (2, 3)), *(c.transpose(2, 3) for c in mirrored(network, turned, (2, 3)))]
    return torch.stack(copies).float().mean(0)


@torch.inference_mode()
def outline(
    network: OutlineNet, hu: npt.NDArray[np.float32], spacing: Sequence[float], candidate: Candidate, device: str
) -> Outline | None:
    """Mask of ``candidate`` on the grid of ``hu`` (``[slice, row, column]``, axial); ``None``: no nodule seen."""
    step = gap(spacing[0])
    reach = candidate.diameter_mm * 0.8 + 5.0
    first, last = _window(candidate.centre[0], reach / spacing[0], hu.shape[0])
    window = Window.round(candidate.centre[1], candidate.centre[2], spacing)
    grey = window.cut(hu, np.arange(first - step, last + step))
    field = field_of(candidate.diameter_mm)
    edge = (CROP - field) // 2
    grey = grey[:, edge : edge + field, edge : edge + field]
    count = last - first
    away = window.distance_mm(np.arange(first, last), candidate.centre, spacing)
    near = torch.from_numpy(nearness(away))[:, edge : edge + field, edge : edge + field]
    planes = torch.stack([grey[:count], grey[step : step + count], grey[2 * step : 2 * step + count], near], 1)
    logits = torch.cat([logits_of(network, part.to(device)).cpu() for part in planes.split(16)])
    full = F.pad(logits, (edge, edge, edge, edge), value=-20.0)
    chance = F.interpolate(full, size=window.size, mode="bilinear", align_corners=False).sigmoid()[:, 0].numpy()
    low = [max(0, -o) for o in window.corner]
    high = [min(w, n - o) for w, o, n in zip(window.size, window.corner, hu.shape[1:], strict=True)]
    chance = chance[:, low[0] : high[0], low[1] : high[1]]
    origin = np.array([first, max(0, window.corner[0]), max(0, window.corner[1])])
    body = body_at(chance > 0.5, np.array(candidate.centre) - origin, spacing, candidate.diameter_mm)
    if body is not None and _diameter(body, spacing) >= LEAST_SHARE * candidate.diameter_mm:
        sure = np.sort(chance[body])[body.sum() // 2 :]
        return _outline(body, origin, spacing, float(sure.mean()))
    return by_density(hu, spacing, candidate)


def by_density(hu: npt.NDArray[np.float32], spacing: Sequence[float], candidate: Candidate) -> Outline | None:
    """What is denser than lung within 3/4 of ``candidate``'s diameter, with what it encloses; ``None``: nothing."""
    reach = candidate.diameter_mm * 0.75
    spans = [_window(c, reach / s, n) for c, s, n in zip(candidate.centre, spacing, hu.shape, strict=True)]
    origin = np.array([low for low, _ in spans])
    cut = hu[tuple(slice(*span) for span in spans)]
    centre = np.array(candidate.centre) - origin
    away = np.linalg.norm((np.moveaxis(np.indices(cut.shape), 0, -1) - centre) * spacing, axis=-1)
    dense = np.stack([ndimage.binary_fill_holes(plane) for plane in (cut > DENSE_HU) & (away <= reach)])
    body = body_at(dense, centre, spacing, candidate.diameter_mm)
    return None if body is None else _outline(body, origin, spacing, 0.0)


def _diameter(body: npt.NDArray[np.bool_], spacing: Sequence[float]) -> float:
    return float(2 * (3 * body.sum() * np.prod(spacing) / (4 * np.pi)) ** (1 / 3))


def _outline(
    body: npt.NDArray[np.bool_], origin: npt.NDArray[np.int64], spacing: Sequence[float], certainty: float
) -> Outline:
    tight = ndimage.find_objects(body.astype(np.int8))[0]
    return Outline(
        box=tuple(slice(int(s.start + o), int(s.stop + o)) for s, o in zip(tight, origin, strict=True)),  # type: ignore[arg-type]
        mask=body[tight],
        diameter_mm=_diameter(body, spacing),
        certainty=certainty,
    )


def body_at(
    inside: npt.NDArray[np.bool_], centre: npt.NDArray[np.float64], spacing: Sequence[float], diameter_mm: float
) -> npt.NDArray[np.bool_] | None:
    """The connected part of ``inside`` at the candidate's centre, filled slice by slice."""
    labels, count = ndimage.label(inside)
    if not count:
        return None
    index = np.argwhere(labels > 0)
    away = np.linalg.norm((index - centre) * spacing, axis=1)
    nearest = int(away.argmin())
    if away[nearest] > max(3.0, diameter_mm / 2):
        return None
    body = labels == labels[tuple(index[nearest])]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])
