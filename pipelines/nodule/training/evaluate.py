"""Figures of MODEL_CARD.md: ``python -m pipelines.nodule.training.evaluate --data DIR [--split test] [--json]``."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from node.pipeline import Volume
from pipelines.nodule.options import Options
from pipelines.nodule.pipeline import NodulePipeline
from pipelines.nodule.search import Nodule
from pipelines.nodule.training.false_reports import false_report_figures
from pipelines.nodule.training.figures import classifier_figures, outline_figures
from pipelines.nodule.training.froc import draw_froc, planted_figures, searched, summary
from pipelines.nodule.training.mass_figures import mass_figures
from pipelines.nodule.training.planting import annotated
from pipelines.nodule.training.scans import HELD_OUT_SCAN, TRAINING_SCANS, read_scan
from pipelines.nodule.training.slice_figures import slice_figures

FIGURES = ("real", "reports", "classifier", "outlines", "planted", "slices", "masses")


def centre_lps(nodule: Nodule, volume: Volume) -> npt.NDArray[np.float64]:
    """Centroid of the outline in LPS mm."""
    index = np.argwhere(nodule.outline.mask).mean(0) + [s.start for s in nodule.outline.box]
    return np.asarray(volume.map_indices_to_reference(index[None]))[0]


def real_scan(pipeline: NodulePipeline, data: Path, name: str) -> dict[str, Any]:
    """Each annotated nodule and each other report of a real scan, one by one."""
    volume = read_scan(data / "studies" / name)
    start = time.process_time()
    nodules = searched(pipeline, volume.array, volume.spacing)
    seconds = time.process_time() - start
    places = [centre_lps(n, volume) for n in nodules]
    taken: set[int] = set()
    rows = []
    for lesion in annotated(data, name):
        away = [float(np.linalg.norm(p - lesion.middle)) for p in places]
        near = [i for i, p in enumerate(places) if lesion.hit(p)]
        taken.update(near)
        best = min(near, key=lambda i: away[i], default=None)
        rows.append(
            {
                "diameter_mm": round(lesion.diameter_mm, 1),
                "readers": lesion.readers,
                "found": best is not None,
                "distance_mm": None if best is None else round(away[best], 1),
                "probability": None if best is None else round(nodules[best].probability, 3),
                "outlined_diameter_mm": None if best is None else round(nodules[best].outline.diameter_mm, 1),
                "malignancy": None if best is None else round(nodules[best].verdict.malignancy, 1),
            }
        )
    false = [
        {
            "lps_mm": [round(float(c)) for c in places[i]],
            "probability": round(n.probability, 3),
            "diameter_mm": round(n.outline.diameter_mm, 1),
        }
        for i, n in enumerate(nodules)
        if i not in taken
    ]
    return {
        "scan": name,
        "slices": volume.array.shape[0],
        "cpu_seconds": round(seconds, 1),
        "nodules": rows,
        "others": false,
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="the data folder")
@click.option("--split", type=click.Choice(["val", "test"]), default="test", show_default=True, help="of lidc_patches")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="other than the packaged ones")
@click.option("--figure", "figures", type=click.Choice(FIGURES), multiple=True, help="only these (repeat)")
@click.option("--scan", "scans", multiple=True, help="series under studies/ to plant nodules in (repeat)")
@click.option(
    "--repeats",
    default=2,
    show_default=True,
    help="copies of each scan with 20 nodules; masses: 4 times as many",
)
@click.option("--dose", is_flag=True, help="also at a quarter of the dose, and denoised (minutes a scan)")
@click.option("--threshold", type=float, help="other than the shipped one")
@click.option("--curve", type=click.Path(path_type=Path), help="PNG file for the FROC curves of the planted nodules")
@click.option("--gallery", type=click.Path(path_type=Path), help="folder for pictures of the worst outlines")
@click.option("--json", "as_json", is_flag=True, help="print JSON only")
def main(
    *,
    data: Path,
    split: str,
    weights: Path | None,
    figures: tuple[str, ...],
    scans: tuple[str, ...],
    repeats: int,
    dose: bool,
    threshold: float | None,
    curve: Path | None,
    gallery: Path | None,
    as_json: bool,
) -> None:
    """Print the held-out figures."""
    torch.set_num_threads(1)
    options = Options() if threshold is None else Options(threshold=threshold)
    pipeline = NodulePipeline(weights=weights, device="cpu", options=options)
    result: dict[str, Any] = {"weights_sha256": pipeline.algorithm.weights_sha256, "threshold": options.threshold}
    try:
        wanted = figures or FIGURES
        if "real" in wanted:
            result["real"] = [real_scan(pipeline, data, name) for name in (HELD_OUT_SCAN, *TRAINING_SCANS)]
        if "reports" in wanted:
            result["reports"] = false_report_figures(pipeline, data)
        if "classifier" in wanted:
            result["classifier"] = classifier_figures(pipeline.networks.classifier, data, split)
        if "outlines" in wanted:
            result["outlines"] = outline_figures(pipeline.networks.outline, data, split, gallery)
        if "planted" in wanted:
            # A lower threshold shows the whole curve; the shipped one is read off it.
            everything = NodulePipeline(weights=weights, device="cpu", options=Options(threshold=0.05))
            among = scans or (HELD_OUT_SCAN, *TRAINING_SCANS)
            planted = planted_figures(everything, data, among, repeats, split=split, dose=dose)
            result["planted"] = {
                scan: {name: summary(tally, options.threshold) for name, tally in doses.items()}
                for scan, doses in planted.items()
            }
            if curve is not None:
                draw_froc(
                    {f"{scan}, {name}": tally for scan, doses in planted.items() for name, tally in doses.items()},
                    curve,
                )
        if "slices" in wanted:
            everything = NodulePipeline(weights=weights, device="cpu", options=Options(threshold=0.05))
            among = scans or (HELD_OUT_SCAN, *TRAINING_SCANS)
            result["slices"] = slice_figures(everything, data, among, repeats, split=split, threshold=options.threshold)
        if "masses" in wanted:
            result["masses"] = mass_figures(data, scans or (HELD_OUT_SCAN, *TRAINING_SCANS), 4 * repeats)
    except FileNotFoundError as error:
        raise click.UsageError(str(error)) from error
    result["peak_rss_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    print(json.dumps(result, indent=None if as_json else 1))


if __name__ == "__main__":
    main()
