"""What is mistaken for a nodule, inserted into scans as negatives: bulges of walls and diaphragm, hilar vessels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.nodule.crops import gap, stretched
from pipelines.nodule.training.classifier_examples import CUT, Example, example
from pipelines.nodule.training.insertion import Array, Shape, grid, insert, texture
from pipelines.nodule.training.scans import Background

MEDIAL_MM = 70.0
"""Vessels up to this far from the middle of the scan are taken for those of a hilum."""
FAT_HU, SOFT_HU, CARTILAGE_HU = (-120.0, -60.0), (20.0, 80.0), (100.0, 450.0)
"""Pericardial and diaphragmatic fat; diaphragm and pleura; cartilage and calcified ends of ribs."""
BULGES = ((FAT_HU, 0.35), (SOFT_HU, 0.35), (CARTILAGE_HU, 0.3))


def bulge(rng: np.random.Generator, normal: npt.NDArray[np.float64]) -> Shape:
    """A flat ellipsoid, 14 to 34 mm wide and 3 to 8 mm high along ``normal`` (z, y, x) on either side of a wall."""
    width, height = float(rng.uniform(14, 34)), float(rng.uniform(3, 8))
    points = grid(int(np.ceil(width / 2 * 1.2)) + 3)
    along = points @ normal
    across = np.linalg.norm(points - along[..., None] * normal, axis=-1)
    depth = np.sqrt((along / height) ** 2 + (across / (width / 2)) ** 2)
    cover = _soft((depth - 1) * height / 0.8)
    low, high = BULGES[int(rng.choice(len(BULGES), p=[share for _, share in BULGES]))][0]
    return _shape(rng, cover, float(rng.uniform(low, high)))


def hilar_vessel(rng: np.random.Generator) -> Shape:
    """A curved vessel 6 to 16 mm wide with up to two branches; in half of the cases with contrast medium."""
    half = int(rng.integers(18, 28))
    points = grid(half)
    axis = _unit(rng.normal(size=3))
    arms = [(axis, np.cross(axis, rng.normal(size=3)) * rng.uniform(0, 0.01), float(rng.uniform(3, 8)))]
    for _ in range(int(rng.integers(0, 3))):
        arms.append((_unit(axis + rng.normal(0, 0.8, 3)), np.zeros(3), arms[0][2] * float(rng.uniform(0.4, 0.8))))
    cover = np.zeros(points.shape[:3])
    edge = float(rng.uniform(0.35, 0.8))
    for number, (towards, bend, radius) in enumerate(arms):
        along = points @ towards
        across = points - along[..., None] * towards - (along**2)[..., None] * bend
        arm = _soft((np.linalg.norm(across, axis=-1) - radius * (1 - 0.3 * along / half)) / edge)
        reach = np.abs(along) if number == 0 else np.where(along < 0, half, along)
        cover = np.maximum(cover, arm * _soft(reach - half * 0.85))
    return _shape(rng, cover, float(rng.uniform(-20, 60) if rng.random() < 0.5 else rng.uniform(60, 350)))


def from_lookalikes(rng: np.random.Generator, ground: Background, count: int) -> Iterator[Example]:
    """Up to ``count`` negatives in ``ground``: in turn a bulge of a wall and a vessel at a hilum."""
    step = gap(ground.step_mm)
    middle = ground.hu.shape[2] / 2
    medial = ground.near_vessel[np.abs(ground.near_vessel[:, 2] - middle) < MEDIAL_MM]
    for number in range(count):
        kind, places = ("bulge", ground.near_wall) if number % 2 == 0 else ("hilar", medial)
        if not len(places):
            continue
        at = places[int(rng.integers(len(places)))]
        box = (np.arange(c - h, c + h + 1) for c, h in zip(at, (step, CUT // 2, CUT // 2), strict=True))
        hu = ground.hu[np.ix_(*(np.clip(b, 0, n - 1) for b, n in zip(box, ground.hu.shape, strict=True)))]
        normal = wall_normal(hu[step])
        if kind == "bulge" and normal is None:
            continue
        shape = bulge(rng, normal) if kind == "bulge" and normal is not None else hilar_vessel(rng)
        z = (step + float(rng.uniform(-0.5, 0.5))) * ground.step_mm
        insert(hu, shape, (z, CUT // 2, CUT // 2), ground.step_mm, max(1.0, ground.step_mm))
        yield example(stretched(hu[::step]), 1.0, (CUT / 2, CUT / 2), kind)


def wall_normal(plane: Array) -> npt.NDArray[np.float64] | None:
    """Direction (z, y, x) in which ``plane`` grows denser in its middle; ``None`` where it is even."""
    rows, columns = np.gradient(ndimage.gaussian_filter(plane, 4.0))
    steepest = np.array([0.0, rows[CUT // 2, CUT // 2], columns[CUT // 2, CUT // 2]])
    return _unit(steepest) if np.linalg.norm(steepest) >= 1 else None


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _soft(beyond: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """1 well below zero, 0 well above."""
    return np.asarray(1 / (1 + np.exp(np.clip(beyond, -30, 30))), float)


def _shape(rng: np.random.Generator, cover: npt.NDArray[np.float64], hu: float) -> Shape:
    covered = cover.astype(np.float32)
    return Shape(cover=covered, texture=texture(rng, covered, np.ones_like(covered), 0.0, hu), diameter_mm=0.0)
