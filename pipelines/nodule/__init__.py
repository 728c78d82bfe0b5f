"""Lung nodules on chest CT: a 3D centre-point detector, then a 2.5D U-Net that outlines and re-scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the pipeline; torch is imported here, so that listing pipelines is instant.

    ``options``: see ``pipelines.nodule.options.Options``. Raises ``ValueError`` for an unknown or bad option,
    ``WeightsError`` for weights that are missing or altered.
    """
    from pipelines.nodule.options import Options
    from pipelines.nodule.pipeline import NodulePipeline

    return NodulePipeline(weights=weights, device=device, options=Options.read(options))
