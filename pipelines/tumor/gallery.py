"""Pictures of the examinations that went worst: the slice with the most wrong pixels, truth and result outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.tumor.data import Patient

WORST = 6


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
        at = int((mask ^ patient.mask).sum(axis=(1, 2)).argmax())
        figure = Figure(figsize=(5, 5.3))
        axes = figure.add_subplot()
        axes.imshow(patient.normalised[at], cmap="gray", vmax=3)
        for outlined, colour in ((patient.mask[at], "lime"), (mask[at], "red")):
            if outlined.any():
                axes.contour(outlined, levels=[0.5], colors=colour, linewidths=1)
        axes.set_title(f"Dice {scores[k]:.2f}, slice {at + 1} of {len(mask)}; truth green, result red", fontsize=9)
        axes.axis("off")
        written.append(folder / f"{rank:02}_{patient.name}.png")
        figure.savefig(written[-1], dpi=100)
    return written
