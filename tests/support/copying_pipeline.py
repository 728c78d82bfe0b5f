"""A pipeline that copies every CT series, also its own copies: ``copying_pipeline:create``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Algorithm, DerivedSeries, Findings, Needs, Series, codes


class Copy:
    """Makes a derived series of every series, also of its own."""

    algorithm = Algorithm(name="Copy", version="1.0")
    needs = Needs(modalities=frozenset({"CT"}))

    def run(self, series: Series) -> Findings:
        made = DerivedSeries(volume=series.volume("LPH"), description="Copy", derivation=codes.DCM.Smoothing)
        return Findings(derived=(made,))


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Copy:
    return Copy()
