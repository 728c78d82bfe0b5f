"""What each analysis was like, as a few numbers that name nobody: kept to see a scanner, protocol or model drift."""

from __future__ import annotations

from typing import Any

import numpy as np

from node.errors import InputError
from node.pipeline import Findings, Unsuitable
from node.studies.source import SourceSeries

_SAMPLES = 5
"""Images that the levels are taken from."""


def facts_of(source: SourceSeries, findings: Findings) -> dict[str, Any]:
    """Scanner, geometry (mm), grey levels (5th, 50th, 95th percentile in the unit of the series), findings, scores."""
    first = source.datasets[0]
    affine = source.grid.affine
    low, mid, high = _levels(source)
    return {
        "scanner": " ".join(str(first.get(k) or "") for k in ("Manufacturer", "ManufacturerModelName")).strip(),
        "slices": len(source.datasets),
        "slice_spacing_mm": None if affine is None else round(float(np.linalg.norm(affine[:3, 0])), 3),
        "pixel_spacing_mm": None if affine is None else round(float(np.linalg.norm(affine[:3, 1])), 3),
        "level_low": low,
        "level_mid": mid,
        "level_high": high,
        "findings": len(findings.lesions),
        "scores": [round(lesion.probability, 3) for lesion in findings.lesions if lesion.probability is not None],
    }


def _levels(source: SourceSeries) -> tuple[float | None, float | None, float | None]:
    picks = sorted(set(np.linspace(0, len(source.datasets) - 1, _SAMPLES).round().astype(int)))
    try:
        values = np.concatenate([source.image(index)[::4, ::4].ravel() for index in picks])
    except (InputError, Unsuitable):
        return None, None, None  # images that cannot be decoded are the pipeline's to complain of
    low, mid, high = np.percentile(values, (5, 50, 95))
    return round(float(low), 1), round(float(mid), 1), round(float(high), 1)
