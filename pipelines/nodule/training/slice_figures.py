"""What is found in thicker slices than a scan has: real and planted nodules by size, and false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from pipelines.nodule.pipeline import NodulePipeline
from pipelines.nodule.training.figures import SEED
from pipelines.nodule.training.froc import DetectionCount, looked, searched, shapes, spot_of, summary
from pipelines.nodule.training.insertion import Array
from pipelines.nodule.training.patches import nodule_bank, stacks
from pipelines.nodule.training.planting import Lesion, Site, plant, site

THICKNESS_MM = (5.0, 6.5, 7.2, 8.0)
"""Beside what the scan has."""
THIN_MM = 3.0
"""Only scans with slices this far apart at most are thickened."""


def thickened(hu: Array, step_mm: float, thick_mm: float) -> Array:
    """Contiguous slices ``thick_mm`` thick, each the mean of what lies in it; an incomplete last one is left out."""
    count = int(len(hu) * step_mm / thick_mm + 1e-6)
    low = np.arange(count)[:, None] * thick_mm
    start = np.arange(len(hu))[None] * step_mm
    shared = np.minimum(low + thick_mm, start + step_mm) - np.maximum(low, start)
    weight = (shared.clip(0) / thick_mm).astype(np.float32)
    return np.ascontiguousarray(np.einsum("ts,syx->tyx", weight, hu))


def thick_site(where: Site, thick_mm: float) -> Site:
    """``where`` with its own lesions moved into the coordinates of the thick slices; its ``hu`` is not thickened."""
    return Site(
        ground=replace(where.ground, step_mm=thick_mm),
        own=[moved(lesion, where.ground.step_mm, thick_mm) for lesion in where.own],
    )


def moved(lesion: Lesion, step_mm: float, thick_mm: float) -> Lesion:
    """``lesion`` with its place counted from the middle of the first thick slice."""
    return lesion._replace(middle=lesion.middle - [(thick_mm - step_mm) / 2, 0, 0])


def slice_figures(
    pipeline: NodulePipeline, data: Path, scans: Sequence[str], repeats: int, *, split: str, threshold: float
) -> dict[str, Any]:
    """Per thickness, all thin scans together: planted nodules, and the highest report at each annotated nodule."""
    bank = nodule_bank(stacks(data, split))
    tallies: dict[float, DetectionCount] = {}
    annotated: dict[str, list[dict[str, Any]]] = {}
    for number, scan in enumerate(scans):
        where = site(data, scan)
        step = where.ground.step_mm
        if step > THIN_MM:
            continue
        rng = np.random.default_rng((SEED, number))
        copies = [plant(rng, where, shapes(rng, bank)) for _ in range(repeats)]
        for thick in track((step, *THICKNESS_MM), scan, console=Console(stderr=True)):
            there = where if thick == step else thick_site(where, thick)
            for hu, placed in copies:
                seen = thickened(hu, step, thick)
                count = looked(pipeline, there, seen, [moved(lesion, step, thick) for lesion in placed])
                tallies[thick] = tallies.get(thick, DetectionCount()) + count
            nodules = searched(pipeline, thickened(where.ground.hu, step, thick), there.spacing)
            for lesion in there.own:
                chances = [n.probability for n in nodules if lesion.hit(spot_of(n, there.spacing))]
                name = f"{scan}, {lesion.diameter_mm:.1f} mm, {lesion.readers} readers"
                best = max(chances, default=0.0)
                annotated.setdefault(name, []).append({"mm": thick, "probability": round(best, 3)})
    return {
        "planted": {f"{thick:g} mm": summary(tally, threshold) for thick, tally in sorted(tallies.items())},
        "annotated": annotated,
    }
