"""Training cubes (a real background, real and synthetic nodules and vessels inserted on its slices) and the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from scipy import ndimage
from torch import Tensor

from pipelines.nodule.network import CELL_MM
from pipelines.nodule.training.insertion import Array, Shape, insert, spheroid, tube
from pipelines.nodule.training.scans import Background

PATCH = 80
"""Edge of a training cube in mm (= voxels)."""


def turned(rng: np.random.Generator, shape: Shape) -> Shape:
    """A bank nodule flipped, turned and scaled."""
    scale = float(rng.uniform(0.8, 1.3))
    both = torch.from_numpy(np.stack([shape.cover, shape.texture]))[None]
    size = int(shape.cover.shape[0] * scale) | 1
    cover, texture = F.interpolate(both, size=(size,) * 3, mode="trilinear", align_corners=False)[0].numpy()
    turns, flips = int(rng.integers(4)), tuple(int(a) for a in np.flatnonzero(rng.random(3) < 0.5))
    cover, texture = (np.flip(np.rot90(a, turns, (1, 2)), flips) for a in (cover, texture))
    return Shape(cover=cover, texture=texture + np.float32(rng.normal(0, 25)), diameter_mm=shape.diameter_mm * scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cube:
    """One training example: ``hu`` of 1 mm voxels, nodules as ``[n, 4]`` z, y, x (voxel centres), diameter mm."""

    hu: Array
    nodules: Array
    ignored: npt.NDArray[np.bool_]


def make_cube(
    rng: np.random.Generator, backgrounds: Sequence[Background], bank: Sequence[Shape], edge: int = PATCH
) -> Cube:
    """A random cube from a random background, with nodules and vessels inserted on its native slices."""
    ground = backgrounds[int(rng.integers(len(backgrounds)))]
    step = ground.step_mm * float(rng.uniform(0.85, 1.15))
    source, ignored = ground.hu, ground.ignored
    count = int(np.ceil(edge / step)) + 2
    middle = ground.places[int(rng.integers(len(ground.places)))] + rng.integers(-8, 9, 3) * [0, 1, 1]
    origin = middle - [count // 2, edge // 2, edge // 2]
    box = tuple(
        np.clip(np.arange(o, o + n), 0, s - 1)
        for o, n, s in zip(origin, (count, edge, edge), source.shape, strict=True)
    )
    slices, skip = source[np.ix_(*box)].copy(), ignored[np.ix_(*box)]
    offset = float(rng.uniform(0, (count - 1) * step - (edge - 1)))
    thickness = max(1.0, step * float(rng.uniform(0.8, 1.1)))
    nodules: list[tuple[float, float, float, float]] = []
    for kind in ["nodule"] * int(rng.choice([0, 1, 2, 3], p=[0.2, 0.35, 0.3, 0.15])) + ["tube"] * int(
        rng.integers(0, 3)
    ):
        places = (ground.places, ground.near_wall, ground.near_vessel)[int(rng.choice(3, p=[0.5, 0.25, 0.25]))]
        local = places - origin
        fits = local[((local >= 0) & (local < (count, edge, edge))).all(1)]
        if not len(fits):
            continue
        at = fits[int(rng.integers(len(fits)))]
        z = float(at[0]) * step + float(rng.uniform(-0.5, 0.5)) * step
        if kind == "tube":
            insert(slices, tube(rng), (z, int(at[1]), int(at[2])), step, thickness)
            continue
        diameter = (
            float(np.exp(rng.uniform(np.log(3.0), np.log(14.0)))) if rng.random() < 0.8 else float(rng.uniform(12, 40))
        )
        shape = (
            turned(rng, bank[int(rng.integers(len(bank)))]) if bank and rng.random() < 0.5 else spheroid(rng, diameter)
        )
        if any(
            np.linalg.norm(np.subtract(n[:3], (z - offset, at[1], at[2]))) < (n[3] + shape.diameter_mm) / 2
            for n in nodules
        ):
            continue
        insert(slices, shape, (z, int(at[1]), int(at[2])), step, thickness)
        nodules.append((z - offset, float(at[1]), float(at[2]), shape.diameter_mm))
    # Linear interpolation between slices, as inference does it.
    position = (np.arange(edge) + offset) / step
    below = np.clip(np.floor(position).astype(int), 0, count - 2)
    part = (position - below).astype(np.float32)[:, None, None]
    hu = slices[below] * (1 - part) + slices[below + 1] * part
    return _augmented(rng, hu, np.array(nodules, np.float32).reshape(-1, 4), skip[np.round(position).astype(int)])


def _augmented(rng: np.random.Generator, hu: Array, nodules: Array, ignored: npt.NDArray[np.bool_]) -> Cube:
    """Flips, quarter turns in the plane, noise, blur, shift and gain of the HU scale."""
    edge = hu.shape[0]
    for axis in range(3):
        if rng.random() < 0.5:
            hu, ignored = np.flip(hu, axis), np.flip(ignored, axis)
            nodules[:, axis] = edge - 1 - nodules[:, axis]
    if rng.random() < 0.5:
        hu, ignored = hu.swapaxes(1, 2), ignored.swapaxes(1, 2)
        nodules = nodules[:, [0, 2, 1, 3]]
    if rng.random() < 0.25:
        hu = ndimage.gaussian_filter(hu, (0, *(rng.uniform(0.3, 0.9, 1).repeat(2))))
    if rng.random() < 0.6:
        noise = rng.standard_normal(hu.shape, dtype=np.float32)
        if rng.random() < 0.7:
            noise = ndimage.gaussian_filter(noise, (0.8, 0.6, 0.6)) * 3.0
        hu = hu + noise * rng.uniform(5, 45)
    hu = (hu + 1000) * rng.uniform(0.95, 1.05) - 1000 + rng.normal(0, 15)
    return Cube(hu=np.ascontiguousarray(hu, np.float32), nodules=nodules, ignored=np.ascontiguousarray(ignored))


def targets(cube: Cube) -> tuple[Array, Array, Array]:
    """Heat map ``[z, y, x]``, regression values ``[4, z, y, x]`` and weight (1 learn, 0 ignore) per cell."""
    cells = cube.hu.shape[0] // int(CELL_MM)
    heat = np.zeros((cells,) * 3, np.float32)
    values = np.zeros((4, cells, cells, cells), np.float32)
    axis = np.arange(cells, dtype=np.float32)
    for z, y, x, diameter in cube.nodules:
        place = (np.array([z, y, x]) + 0.5) / CELL_MM - 0.5
        nearest = np.round(place).astype(int)
        if (nearest < 0).any() or (nearest >= cells).any():
            continue
        far = sum(np.meshgrid(*((axis - p) ** 2 for p in place), indexing="ij"))
        bump = np.exp(-far / (2 * max(0.7, diameter / CELL_MM / 5) ** 2)).astype(np.float32)
        owned = bump > np.maximum(heat, 0.3)
        heat = np.maximum(heat, bump)
        heat[tuple(nearest)] = 1.0
        owned[tuple(nearest)] = True
        values[0][owned] = np.log(diameter)
        for i in range(3):
            grid = axis.reshape([-1 if j == i else 1 for j in range(3)])
            values[1 + i][owned] = np.broadcast_to(place[i] - grid, heat.shape)[owned]
    weight = 1.0 - ndimage.maximum_filter(cube.ignored, 5)[2::4, 2::4, 2::4].astype(np.float32)
    weight[heat > 0.5] = 1.0
    return heat, values, weight


def cube_batches(
    seed: int, backgrounds: Sequence[Background], bank: Sequence[Shape], size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Endless batches ``hu [n,1,z,y,x]``, ``heat``, ``values``, ``weight``."""
    rng = np.random.default_rng(seed)
    while True:
        cubes = [make_cube(rng, backgrounds, bank) for _ in range(size)]
        heat, values, weight = (torch.from_numpy(np.stack(a)) for a in zip(*map(targets, cubes), strict=True))
        yield torch.from_numpy(np.stack([c.hu for c in cubes]))[:, None], heat, values, weight


def candidate_loss(output: Tensor, heat: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Penalty-reduced focal loss of the heat map (CornerNet, Law and Deng 2018) and L1 of size and offset."""
    logit = output[:, 0].float()
    chance = logit.sigmoid()
    peak = heat >= 1.0
    gain = -(((1 - chance) ** 2) * F.logsigmoid(logit))[peak].sum()
    cost = -(((1 - heat) ** 4) * chance**2 * F.logsigmoid(-logit) * weight)[~peak].sum()
    known = (values[:, 0] != 0) & (weight > 0)
    count = peak.sum().clamp(min=1)
    regression = (output[:, 1:].float() - values).abs().movedim(1, -1)[known]
    far = (regression * output.new_tensor([1.0, 0.5, 0.5, 0.5], dtype=torch.float32)).sum() / known.sum().clamp(min=1)
    return (gain + cost) / count + far
