"""Reports in every CT series of a data folder that no annotation explains, and where in the chest they lie."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from rich.console import Console
from rich.progress import track

from node.pipeline import Needs, Volume
from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.pipeline import NodulePipeline
from pipelines.nodule.search import Nodule, search
from pipelines.nodule.training.planting import Lesion, annotated
from pipelines.nodule.training.report_location import ChestAnatomy

HEADER = ("SeriesInstanceUID", "Modality", "ImagePositionPatient", "ImageOrientationPatient")


@dataclass(frozen=True, kw_only=True)
class StoredSeries:
    """The files of one series, and the folder below the data folder that holds the first of them."""

    name: str
    modality: str
    files: tuple[Path, ...]


def stored_series(data: Path) -> list[StoredSeries]:
    """Every series under ``data``, by folder and Series Instance UID; files that are no instance are left out."""
    groups: dict[tuple[Path, str], list[tuple[Path, str]]] = defaultdict(list)
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER))
        except (InvalidDicomError, OSError):
            continue
        if uid := header.get("SeriesInstanceUID"):
            groups[path.parent, str(uid)].append((path, str(header.get("Modality", ""))))
    return [
        StoredSeries(
            name=str(files[0][0].parent.relative_to(data)),
            modality=files[0][1],
            files=tuple(path for path, _ in files),
        )
        for files in groups.values()
    ]


def refusal(needs: Needs, series: StoredSeries) -> str:
    """Why the pipeline does not take ``series``, from the number of its images; empty where that suffices."""
    if series.modality not in needs.modalities:
        return f"modality {series.modality or 'not stated'}"
    if len(series.files) < needs.min_slices:
        return f"fewer than {needs.min_slices} images"
    return ""


def too_coarse(needs: Needs, volume: Volume) -> str:
    """Why the pipeline does not take ``volume``, from its geometry; empty where it does."""
    step, row, column = (float(s) for s in volume.spacing)
    if needs.max_slice_spacing_mm is not None and step > needs.max_slice_spacing_mm:
        return f"slices {step:.1f} mm apart, at most {needs.max_slice_spacing_mm} mm"
    if step * volume.array.shape[0] < (needs.min_coverage_mm or 0):
        return f"images cover less than {needs.min_coverage_mm:.0f} mm"
    if min(row * volume.array.shape[1], column * volume.array.shape[2]) < (needs.min_field_mm or 0):
        return f"images are narrower than {needs.min_field_mm:.0f} mm"
    return ""


def reports_of(pipeline: NodulePipeline, volume: Volume, lesions: Sequence[Lesion]) -> dict[str, Any]:
    """Hits of ``lesions`` (LPS mm) in ``volume`` (HPL), and each other report with its place."""
    spacing = (float(volume.spacing[0]), float(volume.spacing[1]), float(volume.spacing[2]))
    lungs = find_lungs(volume.array, spacing)
    if lungs is None:
        return {"refused": "no aerated lung"}
    result = search(pipeline.networks, volume.array, spacing, lungs, pipeline.options.threshold)
    nodules = pipeline.large_enough(result.nodules)[: pipeline.options.max_findings]
    around = ChestAnatomy.of(volume.array, spacing, lungs)
    reports = []
    hits: dict[int, float] = {}
    for nodule in nodules:
        index = index_of(nodule)
        lps = np.asarray(volume.map_indices_to_reference(index[None]))[0]
        met = [i for i, lesion in enumerate(lesions) if lesion.hit(lps)]
        for i in met:
            hits[i] = max(hits.get(i, 0.0), nodule.probability)
        if not met:
            share = [(i + 0.5) / n for i, n in zip(index, volume.array.shape, strict=True)]
            reports.append(
                {
                    "place": around.place(share, nodule.outline.diameter_mm / 2),
                    "probability": round(nodule.probability, 3),
                    "diameter_mm": round(nodule.outline.diameter_mm, 1),
                    "lps_mm": [round(float(c)) for c in lps],
                }
            )
    return {
        "slices": int(volume.array.shape[0]),
        "spacing_mm": round(spacing[0], 2),
        "annotated": [
            {"diameter_mm": round(lesion.diameter_mm, 1), "readers": lesion.readers, "probability": _round(hits.get(i))}
            for i, lesion in enumerate(lesions)
        ],
        "false": len(reports),
        "reports": reports,
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def index_of(nodule: Nodule) -> npt.NDArray[np.float64]:
    """Centroid of the outline as an index of the volume that was searched."""
    return np.argwhere(nodule.outline.mask).mean(0) + [s.start for s in nodule.outline.box]


def lesions_of(data: Path, name: str) -> list[Lesion]:
    """What readers marked in the series in folder ``name``; nothing where no ``truth.json`` says it."""
    folder = Path(name)
    if folder.parts[:1] != ("studies",) or not (data / Path(*folder.parts[:2]) / "truth.json").is_file():
        return []
    return annotated(data, str(Path(*folder.parts[1:])))


def false_report_figures(pipeline: NodulePipeline, data: Path) -> dict[str, Any]:
    """Each series that is analysed with its false reports, and how many are refused for which reason."""
    analysed: dict[str, Any] = {}
    refused: Counter[str] = Counter()
    for series in track(stored_series(data), "reports", console=Console(stderr=True)):
        if reason := refusal(pipeline.needs, series):
            refused[reason] += 1
            continue
        datasets = [pydicom.dcmread(path) for path in series.files]
        try:
            volume = highdicom.get_volume_from_series(datasets, dtype=np.float32).to_patient_orientation("HPL")
        except (ValueError, RuntimeError) as exc:
            refused[f"no regular volume ({exc})"] += 1
            continue
        reason = too_coarse(pipeline.needs, volume)
        result = {"refused": reason} if reason else reports_of(pipeline, volume, lesions_of(data, series.name))
        if reason := result.get("refused", ""):
            refused[reason] += 1
        else:
            analysed[series.name] = result
    return {"analysed": analysed, "refused": dict(refused), **totals(analysed)}


def totals(analysed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """False reports of all series by place, and per series."""
    places = Counter(report["place"] for result in analysed.values() for report in result["reports"])
    count = sum(places.values())
    return {"false_per_series": round(count / max(1, len(analysed)), 2), "false_by_place": dict(places)}
