"""Physically plausible nodules for training: shapes on a 1 mm grid, blurred and averaged as the scanner would.

A shape is a pair of arrays on a cubic 1 mm grid: ``cover`` (0 to 1, how much of the voxel is nodule, already blurred
in the plane by the scanner's point spread) and ``texture`` (HU of the nodule's own matter). ``insert`` averages both
over the slice thickness and blends them into real slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """One thing to insert; ``diameter_mm`` is 0 for what is no nodule (a vessel)."""

    cover: Array
    texture: Array
    diameter_mm: float


def grid(half: int) -> Array:
    """``[z, y, x, 3]`` of distances in mm from the middle, ``half`` on either side."""
    axis = np.arange(-half, half + 1, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)


def texture(rng: np.random.Generator, cover: Array, core: Array, ground_glass: float, solid: float) -> Array:
    """HU of the nodule: ground glass around, solid inside ``core``, with the scanner's correlated noise."""
    noise = ndimage.gaussian_filter(rng.standard_normal(cover.shape).astype(np.float32), (0, 0.7, 0.7)) * 2.2
    mottle = ndimage.gaussian_filter(rng.standard_normal(cover.shape).astype(np.float32), 2.0) * 12.0
    hu = ground_glass + core * (solid - ground_glass)
    return (hu + noise * rng.uniform(5, 35) + mottle * rng.uniform(0, 40)).astype(np.float32)


def spheroid(rng: np.random.Generator, diameter_mm: float) -> Shape:
    """Ellipsoid with low-frequency bumps, at times spicules; solid, part-solid, ground-glass, calcified or a cavity."""
    radius = diameter_mm / 2
    half = int(np.ceil(radius * 1.7)) + 4
    points = (grid(half) - rng.uniform(-0.5, 0.5, 3)).astype(np.float32)
    axes = np.exp(rng.normal(0, 0.15, 3))
    axes /= np.prod(axes) ** (1 / 3)
    points = (points @ Rotation.random(random_state=int(rng.integers(2**31))).as_matrix().astype(np.float32)) / axes
    distance = np.linalg.norm(points, axis=-1) + 1e-3
    towards = points / distance[..., None]
    surface = np.full(distance.shape, radius, np.float32)
    for _ in range(6):
        wave = rng.normal(size=3) * rng.uniform(1.0, 3.5)
        surface += radius * rng.normal(0, 0.05) * np.cos(towards @ wave + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    if diameter_mm > 6 and rng.random() < 0.35:
        for _ in range(int(rng.integers(4, 14))):
            spike = rng.normal(size=3)
            spike /= np.linalg.norm(spike)
            surface += radius * rng.uniform(0.15, 0.6) * np.exp((towards @ spike - 1) / rng.uniform(0.01, 0.04))
    edge = rng.uniform(0.35, 0.9) + (rng.uniform(0, 1.0) if rng.random() < 0.3 else 0.0)
    cover = 1 / (1 + np.exp(np.clip((distance - surface) / edge, -30, 30)))
    kind = rng.random()
    core = np.ones_like(cover)
    ground_glass, solid = 0.0, float(np.clip(rng.normal(20, 45), -120, 120))
    if kind < 0.12 and diameter_mm > 5:
        ground_glass = solid = rng.uniform(-700, -350)
    elif kind < 0.27 and diameter_mm > 6:
        ground_glass = rng.uniform(-680, -350)
        core = 1 / (1 + np.exp(np.clip((distance - surface * rng.uniform(0.3, 0.75)) / 0.8, -30, 30)))
    elif kind > 0.93:
        solid = rng.uniform(150, 600)
    hu = texture(rng, cover, core, ground_glass, solid)
    if 0.81 < kind <= 0.93 and diameter_mm > 7:  # air, or little more than air, within a wall
        off_centre = points - rng.uniform(-0.15, 0.15, 3).astype(np.float32) * radius
        lumen = np.linalg.norm(off_centre, axis=-1) - (surface - np.maximum(1.5, surface * rng.uniform(0.25, 0.6)))
        hu += (rng.uniform(-950, -500) - hu) / (1 + np.exp(np.clip(lumen / 0.6, -30, 30)))
    return Shape(cover=cover.astype(np.float32), texture=hu, diameter_mm=diameter_mm)


def solid_mass(rng: np.random.Generator, diameter_mm: float) -> Shape:
    """Ellipsoid of soft tissue, larger than anything that is trained with."""
    axes = np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
    axes *= diameter_mm / 2 / np.prod(axes) ** (1 / 3)
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix().astype(np.float32)
    depth = np.linalg.norm(grid(int(np.ceil(axes.max())) + 3) @ turn / axes, axis=-1)
    cover = 1 / (1 + np.exp(np.clip((depth - 1) * diameter_mm / 2, -30, 30)))
    hu = texture(rng, cover, np.ones_like(cover), 0.0, float(np.clip(rng.normal(30, 20), -20, 90)))
    return Shape(cover=cover.astype(np.float32), texture=hu, diameter_mm=diameter_mm)


def tube(rng: np.random.Generator) -> Shape:
    """A curved vessel, at times forked: made with the same edge, noise and blending as a nodule, but none."""
    half = int(rng.integers(14, 24))
    points = grid(half)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    bend = np.cross(direction, rng.normal(size=3)) * rng.uniform(0, 0.012)
    radius = rng.uniform(0.8, 3.2)
    arms = [(direction, bend, radius)]
    if rng.random() < 0.5:
        fork = direction + rng.normal(0, 0.6, 3)
        arms.append((fork / np.linalg.norm(fork), bend * 0, radius * rng.uniform(0.5, 0.9)))
    cover = np.zeros(points.shape[:3], np.float32)
    edge = rng.uniform(0.35, 0.8)
    for i, (axis, curve, size) in enumerate(arms):
        along = points @ axis
        across = points - along[..., None] * axis - (along**2)[..., None] * curve
        arm = 1 / (
            1 + np.exp(np.clip((np.linalg.norm(across, axis=-1) - size * (1 - 0.3 * along / half)) / edge, -30, 30))
        )
        reach = np.abs(along) if i == 0 else np.where(along < 0, half, along)
        cover = np.maximum(cover, arm / (1 + np.exp(np.clip(reach - half * 0.85, -30, 30))))
    hu = texture(rng, cover, np.ones_like(cover), 0.0, rng.uniform(-60, 150))
    return Shape(cover=cover, texture=hu, diameter_mm=0.0)


def insert(
    slices: Array, shape: Shape, centre: tuple[float, int, int], slice_step: float, slice_thickness: float
) -> None:
    """Blend ``shape`` into ``slices`` (``[slice, row, column]``, HU, 1 mm in the plane) in place.

    ``centre``: slice position in mm above the middle of slice 0, row, column. What is denser than the nodule (a vessel,
    a rib) keeps its value.
    """
    half = tuple(n // 2 for n in shape.cover.shape)
    z_fine = centre[0] + np.arange(shape.cover.shape[0], dtype=np.float32) - half[0]
    z_slice = np.arange(slices.shape[0], dtype=np.float32) * slice_step
    # Overlap of each 1 mm layer with each slice's profile (a box as thick as the slice).
    near = np.abs(z_slice[:, None] - z_fine[None])
    weight = np.clip((slice_thickness + 1) / 2 - near, 0, min(1.0, slice_thickness)) / slice_thickness
    touched = np.flatnonzero(weight.any(1))
    if not len(touched):
        return
    rows, columns = (slice(max(0, c - h), c + h + 1) for c, h in zip(centre[1:], half[1:], strict=True))
    target = slices[touched[0] : touched[-1] + 1, rows, columns]
    at = [max(0, h - c) for c, h in zip(centre[1:], half[1:], strict=True)]
    window = np.s_[:, at[0] : at[0] + target.shape[1], at[1] : at[1] + target.shape[2]]
    cover, texture = shape.cover[window], shape.texture[window]
    weight = weight[touched[0] : touched[-1] + 1].astype(np.float32)
    mixed = target * (1 - np.einsum("sz,zyx->syx", weight, cover)) + np.einsum("sz,zyx->syx", weight, cover * texture)
    target[...] = np.where(target > -500, np.maximum(target, mixed), mixed)
