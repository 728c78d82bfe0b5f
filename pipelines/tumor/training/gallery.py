"""Pictures of the worst examinations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.tumor.training.data import Patient
from pipelines.worst_cases import WORST, draw_case

BRIGHTEST = 3.0
"""Of normalised intensities; brighter ones look the same."""


def draw(
    patients: Sequence[Patient], masks: Sequence[NDArray[np.bool_]], scores: Sequence[float], folder: Path
) -> list[Path]:
    """Write one PNG for each of the ``WORST`` patients by ``scores`` (Dice), lowest first, into ``folder``.

    They show patients: keep them where the images may be kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for rank, k in enumerate(np.argsort(scores, kind="stable")[:WORST], start=1):
        patient, mask = patients[k], masks[k]
        written.append(folder / f"{rank:02}_{patient.name}.png")
        draw_case(np.minimum(patient.normalised, BRIGHTEST), patient.mask, mask, scores[k], written[-1])
    return written
