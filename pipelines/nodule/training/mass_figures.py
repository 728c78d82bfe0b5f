"""Share of masses planted in whole scans that are reported as not assessed, by size and place, and false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from pipelines.nodule.lungs import AIR_HU, Lungs, find_lungs, to_grid
from pipelines.nodule.masses import Region
from pipelines.nodule.sides import GRID_MM
from pipelines.nodule.training.figures import SEED
from pipelines.nodule.training.insertion import Array, insert, solid_mass
from pipelines.nodule.training.planting import Site, site

DIAMETERS_MM = (40.0, 50.0, 65.0, 80.0)
"""Of the ellipsoids; what lies in walls and in the mediastinum changes nothing, so that less is to be seen."""
SIZES_MM = ((20.0, 30.0), (30.0, 40.0), (40.0, 50.0), (50.0, 80.0))
"""Of spheres that hold as much as the air that was replaced."""
FREE = 0.85
"""Share of an ellipsoid in air from which it counts as surrounded by lung."""
AXES = (("diaphragm", "apex"), ("front", "back"))


@dataclass(frozen=True, kw_only=True)
class SyntheticMass:
    """One mass: what it looks like, and whether it is noticed."""

    diameter_mm: float
    place: str
    noticed: bool
    others: int
    """Regions elsewhere in the same scan, beside its own tumour."""


def planted_mass(rng: np.random.Generator, where: Site, diameter_mm: float) -> SyntheticMass:
    """Plant a mass anywhere in the lungs of ``where`` and look for it."""
    ground = where.ground
    at = ground.places[int(rng.integers(len(ground.places)))]
    spot = (float(at[0]) * ground.step_mm, int(at[1]), int(at[2]))
    shape = solid_mass(rng, diameter_mm)
    hu, alone = ground.hu.copy(), np.full_like(ground.hu, -1000.0)
    for slices in (hu, alone):
        insert(slices, shape, spot, ground.step_mm, ground.step_mm)
    lungs = _lungs(hu, where)
    before, mass = (to_grid(slices, where.spacing, GRID_MM).numpy() for slices in (ground.hu, alone))
    whole = mass > AIR_HU
    replaced = whole & (before < AIR_HU)
    volume = float(replaced.sum()) * GRID_MM**3
    return SyntheticMass(
        diameter_mm=float(np.cbrt(6 * volume / np.pi)),
        place=_place(whole, replaced, lungs.midline),
        noticed=any((region.mask & whole).any() for region in lungs.dense),
        others=sum(not (region.mask & whole).any() for region in _outside_own_lesions(lungs.dense, where)),
    )


def mass_figures(data: Path, scans: Sequence[str], repeats: int) -> dict[str, Any]:
    """What is said of each scan as it is, and of ``repeats`` masses of each size planted in it."""
    planted: list[SyntheticMass] = []
    as_they_are: dict[str, Any] = {}
    for number, scan in enumerate(scans):
        where = site(data, scan)
        rng = np.random.default_rng((SEED, number))
        lungs = _lungs(where.ground.hu, where)
        elsewhere = _outside_own_lesions(lungs.dense, where)
        as_they_are[scan] = {
            "in_its_tumour_mm": [round(r.diameter_mm) for r in lungs.dense if r not in elsewhere],
            "elsewhere_mm": [round(r.diameter_mm) for r in elsewhere],
        }
        sizes = [d for d in DIAMETERS_MM for _ in range(repeats)]
        planted += [planted_mass(rng, where, d) for d in track(sizes, scan, console=Console(stderr=True))]
    firm = [p for p in planted if p.diameter_mm >= SIZES_MM[1][0]]
    return {
        "as_they_are": as_they_are,
        "planted": len(planted),
        "others": sum(p.others for p in planted),
        "by_size": {
            f"{low:g}-{high:g} mm": _share([p for p in planted if low <= p.diameter_mm < high])
            for low, high in SIZES_MM
        },
        f"by_place_from_{SIZES_MM[1][0]:g}_mm": {
            place: _share([p for p in firm if p.place == place]) for place in sorted({p.place for p in firm})
        },
    }


def _lungs(hu: Array, where: Site) -> Lungs:
    lungs = find_lungs(hu, where.spacing)
    if lungs is None:
        raise ValueError("no lung in an evaluation scan; check the data folder")
    return lungs


def _outside_own_lesions(regions: Sequence[Region], where: Site) -> list[Region]:
    """Those that do not lie in a lesion that the scan has of itself."""
    places = [(r, (np.array(r.centre) + 0.5) * GRID_MM) for r in regions]
    return [r for r, place in places if not any(lesion.hit(place) for lesion in where.own)]


def _place(whole: np.ndarray[Any, Any], replaced: np.ndarray[Any, Any], midline: float) -> str:
    """What the mass lies at: where the part of it lies that replaced no air, seen from its centre."""
    if replaced.sum() >= FREE * whole.sum():
        return "surrounded by lung"
    centre = np.argwhere(whole).mean(0)
    away = np.argwhere(whole & ~replaced).mean(0) - centre
    axis = int(np.abs(away).argmax())
    if axis < 2:
        return AXES[axis][int(away[axis] > 0)]
    return "mediastinum" if (away[2] > 0) == (centre[2] < midline) else "side"


def _share(planted: Sequence[SyntheticMass]) -> str:
    return f"{sum(p.noticed for p in planted)} of {len(planted)}"
