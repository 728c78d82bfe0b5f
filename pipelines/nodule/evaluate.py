"""Every figure of MODEL_CARD.md: ``python -m pipelines.nodule.evaluate --data DIR [--split test] [--json]``."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from node.pipeline import Volume
from pipelines.nodule.figures import SEED, bootstrap, draw_froc, outline_figures, verdict_figures
from pipelines.nodule.insertion import insert, spheroid
from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.options import Options
from pipelines.nodule.pipeline import NodulePipeline
from pipelines.nodule.scans import HELD_OUT_SCAN, background, read_scan
from pipelines.nodule.search import Nodule, search

REAL_SCANS = ("lidc-idri-0063/ct", "lidc-idri-0001-partial/ct")
SIZES_MM = ((3.0, 6.0), (6.0, 10.0), (10.0, 20.0), (20.0, 35.0))
FALSE_PER_SCAN = (0.5, 1.0, 2.0, 4.0, 8.0)


def searched(pipeline: NodulePipeline, hu: npt.NDArray[np.float32], spacing: Sequence[float]) -> list[Nodule]:
    """What the pipeline finds, without making findings of it."""
    lungs = find_lungs(hu, (spacing[0], spacing[1], spacing[2]))
    if lungs is None:
        raise ValueError("no lung in an evaluation scan; check the data folder")
    return pipeline.large_enough(search(pipeline.networks, hu, spacing, lungs, pipeline.options.threshold).nodules)


def centre_lps(nodule: Nodule, volume: Volume) -> npt.NDArray[np.float64]:
    """Centroid of the outline in LPS mm."""
    index = np.argwhere(nodule.outline.mask).mean(0) + [s.start for s in nodule.outline.box]
    return np.asarray(volume.map_indices_to_reference(index[None]))[0]


def real_scan(pipeline: NodulePipeline, data: Path, name: str) -> dict[str, Any]:
    """Each annotated nodule and each other report of a real scan, one by one."""
    folder = data / "studies" / name
    volume = read_scan(folder)
    truth = json.loads((folder.parent / "truth.json").read_text())["nodules"]
    start = time.process_time()
    found = searched(pipeline, volume.array, volume.spacing)
    seconds = time.process_time() - start
    places = [centre_lps(n, volume) for n in found]
    taken: set[int] = set()
    rows = []
    for nodule in truth:
        middle = np.array(nodule["consensus"]["centre_lps_mm"])
        size = nodule["consensus"]["diameter_mm_mean"]
        away = [float(np.linalg.norm(p - middle)) for p in places]
        hits = [i for i, d in enumerate(away) if d <= max(size / 2, 4.0)]
        taken.update(hits)
        best = min(hits, key=lambda i: away[i], default=None)
        rows.append(
            {
                "diameter_mm": size,
                "readers": nodule["read_count"],
                "found": best is not None,
                "distance_mm": None if best is None else round(away[best], 1),
                "probability": None if best is None else round(found[best].probability, 3),
                "outlined_diameter_mm": None if best is None else round(found[best].outline.diameter_mm, 1),
                "malignancy": None if best is None else round(found[best].verdict.malignancy, 1),
            }
        )
    false = [
        {
            "lps_mm": [round(float(c)) for c in places[i]],
            "probability": round(n.probability, 3),
            "diameter_mm": round(n.outline.diameter_mm, 1),
        }
        for i, n in enumerate(found)
        if i not in taken
    ]
    return {
        "scan": name,
        "slices": volume.array.shape[0],
        "cpu_seconds": round(seconds, 1),
        "nodules": rows,
        "others": false,
    }


def inserted(pipeline: NodulePipeline, data: Path, repeats: int, shipped: float, curve: Path | None) -> dict[str, Any]:
    """FROC on nodules inserted into the held-out scan (shapes of ``insertion.spheroid``, none from patches)."""
    volume = read_scan(data / "studies" / HELD_OUT_SCAN)
    own = [
        (np.array(n["consensus"]["centre_lps_mm"]), n["consensus"]["diameter_mm_mean"])
        for n in json.loads((data / "studies" / "lidc-idri-0063" / "truth.json").read_text())["nodules"]
    ]
    ground = background(volume, crop=False)
    per_pixel = np.array(ground.hu.shape) / volume.array.shape
    real = [
        (((volume.map_reference_to_indices(m[None])[0] + 0.5) * per_pixel - 0.5) * [ground.step_mm, 1, 1], d)
        for m, d in own
    ]
    hits: list[tuple[float, float]] = []
    false: list[float] = []
    rng = np.random.default_rng(SEED)
    for _ in track(range(repeats), "inserted nodules", console=Console(stderr=True)):
        slices = ground.hu.copy()
        placed: list[tuple[npt.NDArray[np.float64], float]] = []
        for low, high in SIZES_MM * 3:
            shape = spheroid(rng, float(rng.uniform(low, high)))
            for _ in range(50):
                at = ground.places[int(rng.integers(len(ground.places)))]
                spot = at * [ground.step_mm, 1.0, 1.0]
                if all(np.linalg.norm(spot - p) > (d + shape.diameter_mm) / 2 + 10 for p, d in [*placed, *real]):
                    insert(slices, shape, (float(spot[0]), int(at[1]), int(at[2])), ground.step_mm, ground.step_mm)
                    placed.append((spot, shape.diameter_mm))
                    break
        found = searched(pipeline, slices, (ground.step_mm, 1.0, 1.0))
        spots = [
            (np.argwhere(n.outline.mask).mean(0) + [s.start for s in n.outline.box]) * [ground.step_mm, 1, 1]
            for n in found
        ]
        matched = set()
        for spot, diameter in placed:
            near = [i for i, s in enumerate(spots) if np.linalg.norm(s - spot) <= max(diameter / 2, 4.0)]
            matched.update(near)
            hits.append((diameter, max((found[i].probability for i in near), default=0.0)))
        for i, spot in enumerate(spots):
            if i not in matched and not any(np.linalg.norm(spot - r) <= max(size / 2, 4.0) for r, size in real):
                false.append(found[i].probability)
    if curve is not None:
        draw_froc([p for _, p in hits], false, repeats, curve)
    return _froc(hits, false, repeats, shipped)


def _froc(hits: list[tuple[float, float]], false: list[float], scans: int, shipped: float) -> dict[str, Any]:
    result: dict[str, Any] = {
        "scans": scans,
        "inserted": len(hits),
        "sensitivity_at_false_per_scan": {},
        "by_size_at_shipped_threshold": {},
    }
    ranked = sorted(false, reverse=True)
    for rate in FALSE_PER_SCAN:
        allowed = int(rate * scans)
        cut = ranked[allowed] if allowed < len(ranked) else 0.0
        result["sensitivity_at_false_per_scan"][str(rate)] = round(float(np.mean([p > cut for _, p in hits])), 3)
    for low, high in SIZES_MM:
        seen = [float(p >= shipped) for d, p in hits if low <= d < high]
        result["by_size_at_shipped_threshold"][f"{low:g}-{high:g} mm"] = {
            "n": len(seen),
            "sensitivity": round(float(np.mean(seen)), 3),
            "interval": [round(v, 3) for v in bootstrap(seen, lambda v: float(v.mean()))],
        }
    result["false_per_scan_at_shipped_threshold"] = round(sum(p >= shipped for p in false) / scans, 2)
    return result


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="the data folder")
@click.option("--split", type=click.Choice(["val", "test"]), default="test", show_default=True, help="of lidc_patches")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="other than the packaged ones")
@click.option(
    "--repeats", default=4, show_default=True, help="copies of the held-out scan with 12 nodules inserted each"
)
@click.option("--threshold", type=float, help="other than the shipped one")
@click.option("--curve", type=click.Path(path_type=Path), help="PNG file for the FROC curve of the inserted nodules")
@click.option("--json", "as_json", is_flag=True, help="print JSON only")
def main(
    *,
    data: Path,
    split: str,
    weights: Path | None,
    repeats: int,
    threshold: float | None,
    curve: Path | None,
    as_json: bool,
) -> None:
    """Print the held-out figures."""
    torch.set_num_threads(1)
    options = Options() if threshold is None else Options(threshold=threshold)
    pipeline = NodulePipeline(weights=weights, device="cpu", options=options)
    result: dict[str, Any] = {"weights_sha256": pipeline.algorithm.weights_sha256, "threshold": options.threshold}
    result["real"] = [real_scan(pipeline, data, name) for name in REAL_SCANS]
    result["classifier"] = verdict_figures(pipeline.networks.classifier, data, split)
    result["outlines"] = outline_figures(pipeline.networks.outline, data, split)
    # A lower threshold shows the whole curve; the shipped one is read off it.
    everything = NodulePipeline(weights=weights, device="cpu", options=Options(threshold=0.05))
    result["inserted"] = inserted(everything, data, repeats, options.threshold, curve) if repeats else None
    result["peak_rss_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    print(json.dumps(result, indent=None if as_json else 1))


if __name__ == "__main__":
    main()
