"""FLAIR abnormality (tumour and oedema) in brain MR: residual 2.5D U-Net over five neighbouring slices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the pipeline; torch is imported only here, so that listing pipelines is instant.

    Raises ``WeightsError``, or ``ValueError`` naming the option, its value and the remedy.
    """
    from pipelines.tumor.pipeline import TumorPipeline, read_options

    return TumorPipeline(weights=weights, device=device, options=read_options(options))
