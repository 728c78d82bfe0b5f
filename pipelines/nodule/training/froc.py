"""Sensitivity over false alarms (FROC) on nodules planted in real scans, at full dose, at a quarter, and denoised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from pipelines.denoise.pipeline import DenoisePipeline
from pipelines.denoise.pipeline import Options as DenoiseOptions
from pipelines.denoise.training.data import Sample, low_dose
from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.pipeline import NodulePipeline
from pipelines.nodule.search import Nodule, search
from pipelines.nodule.training.figures import SEED, bootstrap
from pipelines.nodule.training.insertion import Array, Shape, spheroid
from pipelines.nodule.training.patches import nodule_bank, stacks
from pipelines.nodule.training.planting import Lesion, Site, plant, site

SIZES_MM = ((3.0, 6.0), (6.0, 10.0), (10.0, 20.0), (20.0, 35.0))
PER_SIZE, REAL = 3, 8
"""Ellipsoids of each size, and nodules of patients held out by the split, planted in one copy of a scan."""
FALSE_PER_SCAN = (0.5, 1.0, 2.0, 4.0, 8.0)
QUARTER = 0.25
BLOCK = 10
"""Neighbouring slices that share one simulation of how dose is spread; each has noise of its own."""


@dataclass(frozen=True, eq=False)
class DetectionCount:
    """What was found in some scans."""

    scans: int = 0
    ellipsoids: list[tuple[float, float]] = field(default_factory=list)
    """Diameter in mm and highest probability of a report there, 0 where there is none."""
    real: list[tuple[float, float]] = field(default_factory=list)
    false: list[float] = field(default_factory=list)

    def __add__(self, other: DetectionCount) -> DetectionCount:
        return DetectionCount(
            self.scans + other.scans,
            self.ellipsoids + other.ellipsoids,
            self.real + other.real,
            self.false + other.false,
        )

    @property
    def chances(self) -> npt.NDArray[np.float64]:
        return np.array([p for _, p in self.ellipsoids + self.real])

    def sensitivity(self, false_per_scan: float) -> float:
        """Of all planted nodules, where ``false_per_scan`` false alarms are accepted."""
        ranked = sorted(self.false, reverse=True)
        allowed = int(false_per_scan * self.scans)
        return float((self.chances > (ranked[allowed] if allowed < len(ranked) else 0.0)).mean())


def searched(pipeline: NodulePipeline, hu: npt.NDArray[np.float32], spacing: Sequence[float]) -> list[Nodule]:
    """What the pipeline finds, without making findings of it."""
    lungs = find_lungs(hu, (spacing[0], spacing[1], spacing[2]))
    if lungs is None:
        raise ValueError("no lung in an evaluation scan; check the data folder")
    return pipeline.large_enough(search(pipeline.networks, hu, spacing, lungs, pipeline.options.threshold).nodules)


def spot_of(nodule: Nodule, spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Centroid of the outline in mm along slices, rows and columns, from the middle of the first voxel."""
    index = np.argwhere(nodule.outline.mask).mean(0) + [s.start for s in nodule.outline.box]
    return np.asarray(index * spacing)


def looked(pipeline: NodulePipeline, where: Site, hu: Array, placed: Sequence[Lesion]) -> DetectionCount:
    """Hits of the lesions ``placed`` (of ``shapes``), and false alarms."""
    nodules = searched(pipeline, hu, where.spacing)
    spots = [spot_of(n, where.spacing) for n in nodules]
    ellipsoids: list[tuple[float, float]] = []
    real: list[tuple[float, float]] = []
    for lesion in placed:
        chances = [n.probability for n, spot in zip(nodules, spots, strict=True) if lesion.hit(spot)]
        kind = ellipsoids if lesion.number < len(SIZES_MM) * PER_SIZE else real
        kind.append((lesion.diameter_mm, max(chances, default=0.0)))
    known = [*placed, *where.own]
    false = [n.probability for n, s in zip(nodules, spots, strict=True) if not any(k.hit(s) for k in known)]
    return DetectionCount(1, ellipsoids, real, false)


def shapes(rng: np.random.Generator, bank: Sequence[Shape]) -> list[Shape]:
    """What is planted in one copy of a scan, ellipsoids first."""
    ellipsoids = [spheroid(rng, float(rng.uniform(low, high))) for low, high in SIZES_MM * PER_SIZE]
    return ellipsoids + [bank[i] for i in rng.permutation(len(bank))[:REAL]]


def quarter_dose(hu: Array, rng: np.random.Generator) -> Array:
    """``hu`` (1 mm pixels) as if acquired with a quarter of the dose; see ``pipelines.denoise.training.lowdose``."""
    side = max(hu.shape[1:])
    padded = np.pad(hu, ((0, 0), *((0, side - n) for n in hu.shape[1:])), constant_values=-1000)
    blocks = np.array_split(padded, max(1, len(hu) // BLOCK))
    lowered = [low_dose(Sample("block", "", block, 1.0), (QUARTER,), rng)[0] for block in blocks]
    return np.ascontiguousarray(np.concatenate(lowered)[:, : hu.shape[1], : hu.shape[2]], np.float32)


def planted_figures(
    pipeline: NodulePipeline, data: Path, scans: Sequence[str], repeats: int, *, split: str, dose: bool
) -> dict[str, dict[str, DetectionCount]]:
    """Per scan: at ``full`` dose and, when ``dose``, at a ``quarter`` and with that ``denoised``; the same nodules."""
    bank = nodule_bank(stacks(data, split))
    denoiser = DenoisePipeline(weights=None, device="cpu", options=DenoiseOptions())
    by_scan: dict[str, dict[str, DetectionCount]] = {}
    for number, scan in enumerate(scans):
        where = site(data, scan)
        rng = np.random.default_rng((SEED, number))
        tallies: dict[str, DetectionCount] = {}
        for _ in track(range(repeats), scan, console=Console(stderr=True)):
            hu, placed = plant(rng, where, shapes(rng, bank))
            variants: dict[str, Callable[[Array], Array]] = {"full": lambda full: full}
            if dose:
                variants["quarter"] = lambda full: quarter_dose(full, np.random.default_rng(SEED))
                variants["denoised"] = lambda low: denoiser.denoise(low)[0]
            for name, change in variants.items():
                hu = change(hu)
                tallies[name] = tallies.get(name, DetectionCount()) + looked(pipeline, where, hu, placed)
        by_scan[scan] = tallies
    return by_scan


def reliability(tally: DetectionCount) -> dict[str, Any]:
    """How well the probabilities of the reports fit: Brier score, expected calibration error, and by tenths.

    Only what the search returned counts: a planted nodule with its best report, and each false alarm. As many nodules
    as are planted lie in few real scans, so that there the same probability is right less often.
    """
    chance = np.array([p for p in tally.chances if p > 0] + tally.false)
    nodule = np.arange(len(chance)) < len(chance) - len(tally.false)
    if not len(chance):
        return {"n": 0}
    tenth = np.minimum((chance * 10).astype(int), 9)
    rows = []
    for k in np.unique(tenth):
        within = tenth == k
        stated, true = float(chance[within].mean()), float(nodule[within].mean())
        rows.append({"from": k / 10, "n": int(within.sum()), "said": round(stated, 2), "nodules": round(true, 2)})
    error = sum(row["n"] * abs(row["said"] - row["nodules"]) for row in rows) / len(chance)
    brier = float(((chance - nodule) ** 2).mean())
    return {"n": len(chance), "brier": round(brier, 3), "calibration_error": round(error, 3), "tenths": rows}


def summary(tally: DetectionCount, shipped: float) -> dict[str, Any]:
    """Figures of one curve; ``shipped`` is the threshold of the pipeline's defaults."""
    chances = tally.chances
    return {
        "scans": tally.scans,
        "planted": len(chances),
        "sensitivity_at_false_per_scan": {str(f): round(tally.sensitivity(f), 3) for f in FALSE_PER_SCAN},
        "reliability": reliability(tally),
        "at_shipped_threshold": {
            "false_per_scan": round(sum(p >= shipped for p in tally.false) / max(1, tally.scans), 2),
            "all": _share(chances >= shipped),
            "real": _share(np.array([p >= shipped for _, p in tally.real])),
            **{
                f"{low:g}-{high:g} mm": _share(
                    np.array([p >= shipped for d, p in tally.ellipsoids + tally.real if low <= d < high])
                )
                for low, high in SIZES_MM
            },
        },
    }


def _share(seen: npt.NDArray[np.bool_]) -> dict[str, Any]:
    if not len(seen):
        return {"n": 0}
    interval = bootstrap(seen.astype(float).tolist(), lambda v: float(v.mean()))
    return {"n": len(seen), "sensitivity": round(float(seen.mean()), 3), "interval": [round(v, 3) for v in interval]}


def draw_froc(tallies: Mapping[str, DetectionCount], path: Path) -> None:
    """Sensitivity over false alarms per scan as PNG, one curve for each of ``tallies``."""
    figure = Figure(figsize=(5.5, 3.8), layout="tight")
    axes = figure.subplots()
    for name, tally in tallies.items():
        cuts = np.unique([*tally.chances, *tally.false])[::-1]
        rates = [np.sum(np.array(tally.false) >= c) / tally.scans for c in cuts]
        axes.step(rates, [float((tally.chances >= c).mean()) for c in cuts], label=name)
    axes.set(xlabel="false alarms per scan", ylabel="sensitivity", xlim=(0, 10), ylim=(0, 1))
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)
