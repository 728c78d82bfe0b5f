"""Statistics of each analysis, without identity, that show drift of scanners, protocols and models."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from node.inference.task import HISTOGRAM_HU
from node.pipeline import Findings
from node.studies.source import SourceSeries


def statistics_of(source: SourceSeries, findings: Findings) -> dict[str, Any]:
    """Scanner, geometry (mm), grey levels (percentiles in the unit of the series; CT: histogram), findings, scores."""
    affine = source.grid.affine
    levels = source.levels
    low, mid, high = _percentiles(levels)
    scores = [lesion.probability for lesion in findings.lesions]
    scores += [region.probability for region in findings.positive_regions]
    return {
        "scanner": source.scanner,
        "slices": len(source.datasets),
        "voxels": voxels_of(source),
        "slice_spacing_mm": None if affine is None else round(float(np.linalg.norm(affine[:3, 0])), 3),
        "pixel_spacing_mm": None if affine is None else round(float(np.linalg.norm(affine[:3, 1])), 3),
        "level_low": low,
        "level_mid": mid,
        "level_high": high,
        "histogram": _histogram(levels) if source.modality == "CT" else None,
        "findings": len(scores),
        "scores": [round(score, 3) for score in scores if score is not None],
    }


def voxels_of(source: SourceSeries) -> int:
    """Return the number of voxels of all images."""
    return sum(int(header.get("Rows") or 0) * int(header.get("Columns") or 0) for header in source.datasets)


def _percentiles(levels: npt.NDArray[np.float32]) -> tuple[float | None, float | None, float | None]:
    if not levels.size:
        return None, None, None
    low, mid, high = np.percentile(levels, (5, 50, 95))
    return round(float(low), 1), round(float(mid), 1), round(float(high), 1)


def _histogram(levels: npt.NDArray[np.float32]) -> list[float] | None:
    if not levels.size:
        return None
    first, last, width = HISTOGRAM_HU
    counts, _ = np.histogram(levels, bins=np.arange(first, last + 1, width))
    return [round(float(share), 4) for share in counts / levels.size]
