"""Real nodules: ``lidc_patches/`` of the data folder (8-bit strips, readers' outlines, index.csv)."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from pipelines.nodule.training.insertion import Array, Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """One nodule of ``lidc_patches``: neighbouring 128 x 128 crops (0 to 255) and how many readers marked a pixel."""

    grey: npt.NDArray[np.uint8]
    readers: npt.NDArray[np.uint8]
    raters: int
    pixel_mm: float
    slice_mm: float
    diameter_mm: float
    """0 where the source does not say, as in the two before."""
    malignancy: float
    """The readers' mean score, 1 to 5; 0 where the source does not say."""
    patient: str = ""
    """Whose crop it is, in whatever words: to tell the nodules of one patient."""


def stacks(data: Path, split: str) -> list[Stack]:
    """All nodules of one split (``train``, ``val``, ``test``; by patient)."""
    folder = data / "lidc_patches"
    nodules: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with (folder / "index.csv").open() as file:
        for row in csv.DictReader(file):
            if row["split"] == split:
                nodules[row["file"], row["nodule"]].append(row)
    crops, opened = [], ""
    grey = readers = np.zeros((0, 0), np.uint8)
    for (name, _), rows in sorted(nodules.items()):
        if name != opened:
            grey = np.array(Image.open(folder / name).convert("L"))
            readers = np.array(Image.open(folder / name.replace(".webp", "_raters.png")))
            opened = name
        tops = [int(r["y"]) for r in sorted(rows, key=lambda r: int(r["slice"]))]
        crops.append(
            Stack(
                grey=np.stack([grey[y : y + 128] for y in tops]),
                readers=np.stack([readers[y : y + 128] for y in tops]),
                raters=int(rows[0]["raters"]),
                pixel_mm=float(rows[0]["pixel_spacing_mm"] or 0),
                slice_mm=float(rows[0]["slice_thickness_mm"] or 0),
                diameter_mm=float(rows[0]["diameter_mm"] or 0),
                malignancy=float(rows[0]["malignancy_mean"] or 0),
                patient=name,
            )
        )
    return crops


def calibrated(grey: npt.NDArray[np.uint8]) -> Array | None:
    """Rough HU of a crop that was stretched from its minimum to its maximum.

    The peaks of aerated lung and of soft tissue in the histogram are taken as -860 and 40 HU; ``None`` when they
    cannot be told apart.
    """
    counts = ndimage.gaussian_filter1d(np.bincount(grey.ravel(), minlength=256).astype(float), 2.0)
    lung = int(counts[:140].argmax())
    soft = lung + 40 + int(counts[lung + 40 :].argmax())
    if counts[soft] < 60 or counts[lung] < 60 or soft > 250:
        return None
    return ((grey.astype(np.float32) - lung) * (900.0 / (soft - lung)) - 860.0).clip(-1024, 1200)


def hollowed(rng: np.random.Generator, planes: Array, marked: npt.NDArray[np.bool_], pixel_mm: float) -> Array:
    """The nodule as a cavity: what lies deeper than its wall is air."""
    depth = np.stack([ndimage.distance_transform_edt(m) for m in marked]) * pixel_mm
    wall = rng.uniform(1.2, 2.6)
    air = float(np.percentile(planes, 5))
    part = 1 / (1 + np.exp(-np.clip((depth - wall) / 0.5, -30, 30)))
    return np.asarray(planes + (air - planes) * part, np.float32)


def nodule_bank(stacks: Sequence[Stack]) -> list[Shape]:
    """Real nodules (two readers at least agree) as shapes on a 1 mm grid, for pasting into backgrounds."""
    bank = []
    for stack in stacks:
        inside = stack.readers >= 2
        planes = [calibrated(p) for p in stack.grey]
        if stack.raters < 3 or not stack.slice_mm or not inside.any() or any(p is None for p in planes):
            continue
        hu = np.stack([p for p in planes if p is not None])
        zoom = (stack.slice_mm, stack.pixel_mm, stack.pixel_mm)
        mask = np.pad(inside.astype(np.float32), ((2, 2), (0, 0), (0, 0)))
        fine = ndimage.zoom(mask, zoom, order=1, grid_mode=True, mode="grid-constant")
        texture = ndimage.zoom(
            np.pad(hu, ((2, 2), (0, 0), (0, 0)), mode="edge"), zoom, order=1, grid_mode=True, mode="nearest"
        )
        volume = float((fine > 0.5).sum())
        if volume < 8:
            continue
        centre = np.round(ndimage.center_of_mass(fine > 0.5)).astype(int)
        half = int(np.abs(np.argwhere(fine > 0.5) - centre).max()) + 4
        box = tuple(slice(c, c + 2 * half + 1) for c in centre)
        soft = ndimage.gaussian_filter(ndimage.grey_dilation(fine, (1, 3, 3)), (0.3, 0.7, 0.7))
        cover, matter = np.pad(soft, half)[box], np.pad(texture, half, mode="edge")[box]
        diameter = 2 * (3 * volume / (4 * np.pi)) ** (1 / 3)
        bank.append(Shape(cover=cover.astype(np.float32), texture=matter.astype(np.float32), diameter_mm=diameter))
    return bank
