"""Whole scans with nodules planted in them: to weigh candidates, and for FROC curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from node.pipeline import Volume
from pipelines.nodule.training.insertion import Array, Shape, insert
from pipelines.nodule.training.scans import IGNORED_LPS_MM, Background, background, read_scan

Point = npt.NDArray[np.float64]
LEAST_RADIUS_MM = 4.0
TRIES = 50
APART_MM = 10.0


class Lesion(NamedTuple):
    """One that is to be found."""

    middle: Point
    """In mm: LPS, or slice, row, column of a ``Site``."""
    diameter_mm: float
    readers: int = 0
    """Who marked it; 0: planted, or not said."""
    number: int = -1
    """Of the shape that was planted."""

    def hit(self, place: Point) -> bool:
        """Whether a report at ``place`` is of this lesion."""
        return bool(np.linalg.norm(place - self.middle) <= max(self.diameter_mm / 2, LEAST_RADIUS_MM))


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A scan to plant in, and the lesions that it has of itself: neither hits nor false alarms."""

    ground: Background
    own: list[Lesion]

    @property
    def spacing(self) -> tuple[float, float, float]:
        return self.ground.step_mm, 1.0, 1.0


def annotated(data: Path, scan: str) -> list[Lesion]:
    """What readers marked in a scan (LPS mm): nodules, or a tumour as wide as the box round it is on average."""
    folder = Path(scan)
    truth = json.loads((data / "studies" / folder.parts[0] / "truth.json").read_text())
    lesions = [
        Lesion(np.array(n["consensus"]["centre_lps_mm"]), n["consensus"]["diameter_mm_mean"], n["read_count"])
        for n in truth.get("nodules", [])
    ]
    if box := truth.get("tumour_box", {}).get(folder.name):
        low, high = np.array(box["box_lps_mm"])
        lesions.append(Lesion((low + high) / 2, float((high - low).mean())))
    return lesions


def site(data: Path, scan: str) -> Site:
    """A series under ``studies/``, whole, with pixels of 1 mm."""
    volume = read_scan(data / "studies" / scan)
    ground = background(volume, IGNORED_LPS_MM.get(Path(scan).parts[0]), crop=False)
    own = [lesion._replace(middle=_in_mm(volume, ground, lesion.middle)) for lesion in annotated(data, scan)]
    return Site(ground=ground, own=own)


def _in_mm(volume: Volume, ground: Background, lps: Point) -> Point:
    per_pixel = np.array(ground.hu.shape) / volume.array.shape
    index = (volume.map_reference_to_indices(lps[None])[0] + 0.5) * per_pixel - 0.5
    return np.asarray(index * [ground.step_mm, 1, 1])


def plant(rng: np.random.Generator, where: Site, shapes: Sequence[Shape]) -> tuple[Array, list[Lesion]]:
    """The scan with as many of ``shapes`` as find room, and where they are."""
    ground = where.ground
    slices = ground.hu.copy()
    placed: list[Lesion] = []
    for number, shape in enumerate(shapes):
        for _ in range(TRIES):
            at = ground.places[int(rng.integers(len(ground.places)))]
            spot = at * np.array(where.spacing)
            if all(
                np.linalg.norm(spot - other.middle) > (other.diameter_mm + shape.diameter_mm) / 2 + APART_MM
                for other in (*placed, *where.own)
            ):
                insert(slices, shape, (float(spot[0]), int(at[1]), int(at[2])), ground.step_mm, ground.step_mm)
                placed.append(Lesion(spot, shape.diameter_mm, number=number))
                break
    return slices, placed
