"""Volumetry of the brain on 3D T1-weighted MR: MeshNet of brainchop with 50 classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the pipeline; torch is imported only here, so that listing pipelines is instant.

    Raises ``WeightsError``, or ``ValueError`` for any option: there are none.
    """
    from pipelines.brain.pipeline import BrainPipeline

    for name, value in options.items():
        raise ValueError(f"option {name} = {value!r} is unknown; this pipeline has no options")
    return BrainPipeline(weights=weights, device=device)
