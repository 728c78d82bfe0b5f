"""A pipeline with an infinitely fast device: its network is a sleep, so that all computing is that of the node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from node.pipeline import Algorithm, Findings, Lesion, Needs, Segment, Series, codes

FACTORY = "node.bench.sleeper:create"
_HALF = 4
"""Half the width of the lesion, in slices and pixels."""


class Sleeper:
    """Takes the volume in patient orientation, sleeps, and returns one small lesion."""

    algorithm = Algorithm(name="sleeper", version="1")
    needs = Needs(modalities=frozenset({"CT"}), min_slices=2)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run(self, series: Series) -> Findings:
        volume = series.volume("HPL")
        time.sleep(self._seconds)
        mask = np.zeros(volume.array.shape, np.uint8)
        z, y, x = (n // 2 for n in volume.spatial_shape)
        mask[z - _HALF : z + _HALF, y - _HALF : y + _HALF, x - _HALF : x + _HALF] = 1
        segment = Segment(
            label="Lesion",
            mask=volume.with_array(mask),
            category=codes.SCT.MorphologicallyAbnormalStructure,
            type=codes.SCT.Lesion,
        )
        lesion = Lesion(segment=segment, finding=codes.SCT.Lesion, probability=0.5)
        return Findings(lesions=(lesion,), looked_for=(codes.SCT.Lesion,))


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Sleeper:  # noqa: ARG001 - the contract
    """Return the pipeline; ``options["seconds"]``: how long its network takes."""
    return Sleeper(float(options["seconds"]))
