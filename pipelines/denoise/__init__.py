"""CT denoising: a derived series with less noise, on the grid of the source. Research use only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the denoiser; options: ``strength`` and ``reference_noise_hu`` (see ``pipeline.Denoise``)."""
    from pipelines.denoise.pipeline import load

    return load(weights=weights, device=device, options=options)
