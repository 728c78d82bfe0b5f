"""The pipeline of whole nodes in tests, ``bright_pipeline:create``. Its process imports this module and little more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from node.pipeline import (
    Algorithm,
    DerivedSeries,
    EmbeddingSpace,
    Findings,
    Lesion,
    Measurement,
    Needs,
    Segment,
    Series,
    codes,
)

BRIGHT = 900.0
"""What ``Bright`` looks for: HU in CT, stored values in MR."""


SPACE = EmbeddingSpace(name="bright-1", dimensions=2, statement="Every bright lesion is like any other.")


class Bright:
    """Every connected region of at least ``BRIGHT`` is a lesion; where there are any, also half the volume's values."""

    algorithm = Algorithm(name="Bright", version="1.0", parameters={"threshold": str(BRIGHT)})
    needs = Needs(modalities=frozenset({"CT", "MR"}), min_slices=3)

    def run(self, series: Series) -> Findings:
        volume = series.volume("LPH" if series.modality == "CT" else "HPL")
        labels, count = ndimage.label(volume.array >= BRIGHT)
        lesions = tuple(
            Lesion(
                segment=Segment(
                    label=f"Bright {number}",
                    mask=volume.with_array((labels == number).astype(np.uint8)),
                    category=codes.SCT.MorphologicallyAbnormalStructure,
                    type=codes.SCT.Nodule,
                ),
                finding=codes.SCT.Nodule,
                site=codes.SCT.Lung,
                measurements=(
                    Measurement(
                        name=codes.DCM.AttenuationCoefficient,
                        value=float(volume.array[labels == number].mean()),
                        unit=codes.UCUM.HounsfieldUnit,
                    ),
                )
                if series.modality == "CT"
                else (),
                probability=0.9,
                embedding=(1.0, float(np.mean(labels == number))),
            )
            for number in range(1, count + 1)
        )
        half = DerivedSeries(
            volume=volume.with_array(volume.array / 2), description="Halved", derivation=codes.DCM.Smoothing
        )
        return Findings(
            lesions=lesions,
            derived=(half,) if lesions else (),
            looked_for=(codes.SCT.Nodule,),
            embedding_space=SPACE,
        )


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Bright:
    return Bright()
