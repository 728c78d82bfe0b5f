"""A detector on single images, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from node.pipeline import Algorithm, Findings, Needs, Region, Series, Shape, codes


class Detector:
    """A box round the brightest pixel of each image."""

    algorithm = Algorithm(name="Brightest", version="1.0")

    def __init__(self, needs: Needs) -> None:
        self.needs = needs

    def run(self, series: Series) -> Findings:
        regions = []
        for number, image in enumerate(series.images(), 1):
            row, column = np.unravel_index(int(image.rgb()[..., 0].argmax()), (image.rows, image.columns))
            box = Shape.box(max(column - 3, 0), max(row - 3, 0), column + 4, row + 4, on=image)
            regions.append(Region(label=f"Mass {number}", finding=codes.SCT.Mass, shape=box, probability=0.9))
        return Findings(regions=tuple(regions), looked_for=(codes.SCT.Mass,))


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Detector:
    """A detector on chest radiographs from behind or in front."""
    return Detector(Needs(modalities=frozenset({"DX"}), images=True, views=frozenset({"AP", "PA"})))
