"""Figures of MODEL_CARD.md: ``python -m pipelines.tumor.training.evaluate --data DIR [--split test] [--json]``."""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from highdicom import get_volume_from_series
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from rich.progress import track

from node.pipeline import SeriesImage, SeriesVolume, Unsuitable, Volume
from pipelines.nnunet_data_set import DataSetError
from pipelines.tumor import create
from pipelines.tumor.grid import PIXEL_MM
from pipelines.tumor.lesions import side_of
from pipelines.tumor.network import FlairNet
from pipelines.tumor.pipeline import Options, TumorPipeline, find_lesions
from pipelines.tumor.prepare import FOREGROUND, probabilities
from pipelines.tumor.training.data import Patient
from pipelines.tumor.training.gallery import draw
from pipelines.tumor.training.metrics import bootstrap_interval, count_lesions, dice, hd95
from pipelines.tumor.training.sets import patients_of

ASSUMED_MM = (5.0, PIXEL_MM, PIXEL_MM)
"""The sheets have no spacing; volumes and merging distances are counted as if they had this one."""
SMALLEST_TRUE_VOXELS = 50
"""Smaller marked specks are not counted as lesions to be found."""


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """A folder of one MR series as ``Series``."""

    datasets: list[Dataset]
    prior: None = None

    @property
    def modality(self) -> str:
        return str(self.datasets[0].Modality)

    def attribute(self, keyword: str) -> Any:
        return self.datasets[0].get(keyword)

    def companion(self, _name: str) -> None:
        return None

    def result(self, _pipeline: str) -> None:
        return None

    def images(self) -> tuple[SeriesImage, ...]:
        raise NotImplementedError  # it is evaluated on volumes

    def volume(self, orientation: str | None = None) -> Volume:
        source = get_volume_from_series(self.datasets, apply_real_world_transform=False, atol=0.01)
        turned = source if orientation is None else source.to_patient_orientation(orientation)
        return turned.with_array(np.ascontiguousarray(turned.array, np.float32))

    def volumes(self, orientation: str | None = None) -> tuple[SeriesVolume, ...]:
        return (SeriesVolume(key={}, volume=self.volume(orientation)),)


def read_series(folder: Path) -> DicomSeries:
    """The images under ``folder``, sorted along their normal; of a series with a gap its longest unbroken part."""
    images = [dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    normal = np.cross(*np.reshape(images[0].ImageOrientationPatient, (2, 3)).astype(float))
    images.sort(key=lambda d: float(np.dot(normal, np.asarray(d.ImagePositionPatient, float))))
    heights = np.array([np.dot(normal, np.asarray(d.ImagePositionPatient, float)) for d in images])
    steps = np.diff(heights)
    breaks = np.flatnonzero(steps > 1.5 * np.median(steps)) + 1
    parts = [part.tolist() for part in np.split(np.arange(len(images)), breaks)]
    return DicomSeries([images[i] for i in max(parts, key=len)])


def judge_patient(
    network: FlairNet, patient: Patient, options: Options, device: str
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """All figures of one patient of the sheets, and what was marked."""
    seen = probabilities(network, patient.normalised, mirror=options.mirror, device=device)
    zones = find_lesions(seen, ASSUMED_MM, options)
    raw: NDArray[np.bool_] = seen > options.threshold
    mask = raw & (zones > 0)
    head = patient.normalised > 2 * FOREGROUND
    true_slices = patient.mask.any(axis=(1, 2))
    lesions, hits, false = count_lesions(mask, patient.mask, min_voxels=SMALLEST_TRUE_VOXELS)
    figures = {
        "patient": patient.name,
        "dice": dice(mask, patient.mask),
        "dice_raw": dice(raw, patient.mask),
        "hd95_px": hd95(mask, patient.mask),
        "volume_error": float(mask.sum()) / float(patient.mask.sum()) - 1,
        "side_agrees": side_of(mask, head, PIXEL_MM) == side_of(patient.mask, head, PIXEL_MM) if mask.any() else False,
        "lesions": lesions,
        "found": hits,
        "false_components": false,
        "reported": int(zones.max()),
        "free_slices": int((~true_slices).sum()),
        "false_slices": int((mask.any(axis=(1, 2)) & ~true_slices).sum()),
    }
    return figures, mask


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over patients with 95 % bootstrap intervals, rates over all lesions and slices."""
    scores = [r["dice"] for r in rows]
    distances = [r["hd95_px"] for r in rows if np.isfinite(r["hd95_px"])]
    return {
        "patients": len(rows),
        "dice_mean": float(np.mean(scores)),
        "dice_95ci": bootstrap_interval(scores),
        "dice_median": float(np.median(scores)),
        "dice_mean_without_cleaning": float(np.mean([r["dice_raw"] for r in rows])),
        "volume_error_median_of_size": float(np.median(np.abs([r["volume_error"] for r in rows]))),
        "volume_error_mean": float(np.mean([r["volume_error"] for r in rows])),
        "volume_error_95ci": bootstrap_interval([r["volume_error"] for r in rows]),
        "side_agrees": sum(r["side_agrees"] for r in rows),
        "hd95_px_median": float(np.median(distances)) if distances else None,
        "hd95_px_mean": float(np.mean(distances)) if distances else None,
        "lesion_sensitivity": sum(r["found"] for r in rows) / sum(r["lesions"] for r in rows),
        "lesions": sum(r["lesions"] for r in rows),
        "patients_with_lesion_found": sum(r["found"] > 0 for r in rows),
        "false_components_per_patient": sum(r["false_components"] for r in rows) / len(rows),
        "reported_lesions_per_patient": sum(r["reported"] for r in rows) / len(rows),
        "false_slice_share": sum(r["false_slices"] for r in rows) / sum(r["free_slices"] for r in rows),
    }


def judge_studies(pipeline: TumorPipeline, studies: Path) -> dict[str, Any]:
    """The two whole DICOM studies: containment of the enhancing tumour (FLAIR), count of lesions (healthy T2)."""
    started = time.perf_counter()
    flair = pipeline.run(read_series(studies / "pgbm-001" / "flair"))
    seconds = time.perf_counter() - started
    enhancing = read_series(studies / "pgbm-001" / "mask").volume("HPL")
    # The two grids differ by a fraction of a voxel, so the mask is looked up at patient coordinates.
    core = enhancing.map_indices_to_reference(np.argwhere(enhancing.array > 0).astype(float))
    inside = np.zeros(len(core), bool)
    for lesion in flair.lesions:
        mask = lesion.segment.mask
        at = np.rint(mask.map_reference_to_indices(core)).astype(int)
        within = np.all((at >= 0) & (at < mask.array.shape), axis=1)
        inside[within] |= mask.array[tuple(at[within].T)] > 0
    t2 = pipeline.run(read_series(studies / "fnndsc-brain-t2"))
    return {
        "pgbm-001 seconds": round(seconds, 2),
        "pgbm-001 lesions": [_in_words(lesion.segment.mask, lesion.probability) for lesion in flair.lesions],
        "pgbm-001 share of enhancing mask inside": float(inside.mean()),
        "fnndsc-brain-t2 lesions": [_in_words(lesion.segment.mask, lesion.probability) for lesion in t2.lesions],
        "fnndsc-brain-t2 refused by default": _refusal(studies / "fnndsc-brain-t2"),
    }


def _in_words(mask: Volume, probability: float | None) -> str:
    return f"{float(mask.array.sum()) * mask.voxel_volume / 1000:.1f} ml, probability {probability:.2f}"


def _refusal(folder: Path) -> str | None:
    try:
        create(weights=None, device="cpu", options={}).run(read_series(folder))
    except Unsuitable as reason:
        return str(reason)
    return None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the FLAIR abnormality network.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of a data set of nnU-Net v2, or one that holds lgg/"
    )
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--weights", type=Path, help="default: the packaged ones")
    parser.add_argument("--no-mirror", action="store_true", help="without averaging over the mirrored head")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gallery", type=Path, help="folder for pictures (PNG) of the worst patients")
    parser.add_argument("--json", action="store_true", help="print everything, patient by patient, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = Options(any_contrast=True, mirror=not args.no_mirror)
    pipeline = TumorPipeline(weights=args.weights, device=args.device, options=options)
    try:
        patients = patients_of(args.data, args.split)
    except (FileNotFoundError, DataSetError) as error:
        parser.error(str(error))
    judged = [
        judge_patient(pipeline.network, p, options, args.device)
        for p in track(patients, description=args.split, disable=args.json)
    ]
    rows = [figures for figures, _ in judged]
    if args.gallery:
        draw(patients, [mask for _, mask in judged], [r["dice"] for r in rows], args.gallery)
    result: dict[str, Any] = {"split": args.split, **summary(rows)}
    if (args.data / "studies").is_dir():
        result |= judge_studies(pipeline, args.data / "studies")
    result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if args.json:
        print(json.dumps({**result, "by_patient": rows}, indent=1))
        return
    for name, value in result.items():
        print(f"{name:44} {value:.3f}" if isinstance(value, float) else f"{name:44} {value}")


if __name__ == "__main__":
    main()
