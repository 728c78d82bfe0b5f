"""Steps between slices: what is wrong with them, and which missing images are interpolated.

A single missing image of a thin-slice series is interpolated between its neighbours: the largest regular part, which is
analysed otherwise, is half of the series at worst. The bounds are narrow: what lies between two neighbours is hardly
thicker than a slice. The outcome is *partial* all the same, and says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from node.translation import in_every_language, ngettext, sentence
from node.wording import written

Floats = NDArray[np.float64]
STEP_TOLERANCE = 0.05
"""Largest deviation of one slice step from the others, as a fraction of it."""
WIDEST_STEP_MM = 1.6
"""Distance of two slices; across a missing one it is twice as far."""
IMAGES_PER_GAP = 100
"""One image may be missing for each so many of the series."""


def slices_of_images(steps: Floats, vectors: Floats) -> tuple[tuple[int, ...], str]:
    """Slice of a regular grid on which each image lies, and the sentence for the report; empty: not to be bridged.

    ``steps`` (mm) and ``vectors`` (LPS mm) lead from each image to the next one.
    """
    images = len(steps) + 1
    usual = float(np.median(steps)) if len(steps) else 0.0
    if not 0 < usual <= WIDEST_STEP_MM:
        return (), ""
    counts = np.rint(steps / usual).astype(int)
    missing = int((counts == 2).sum())
    if not 0 < missing <= images // IMAGES_PER_GAP or not ((counts == 1) | (counts == 2)).all():
        return (), ""
    straight = np.median(vectors, axis=0)
    if (np.linalg.norm(vectors - counts[:, None] * straight, axis=1) > STEP_TOLERANCE * usual).any():
        return (), ""
    slices = (0, *np.cumsum(counts).tolist())
    return slices, in_every_language(
        lambda: ngettext(
            "{number} image is missing and was interpolated between the neighbours, {images} of {all} images were "
            "analysed",
            "{number} images are missing and were interpolated between the neighbours, {images} of {all} images were "
            "analysed",
            missing,
            images=images,
            all=images + missing,
        )
    )


def irregularity(steps: Floats) -> tuple[str, bool]:
    """What is wrong with the distances of slices, in words, and whether that is images missing in between."""
    if len(steps) == 0:
        return "", False
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])  # lower median: of two steps the narrow one
    if np.abs(steps - usual).max() <= STEP_TOLERANCE * usual:
        return "", False
    wide = steps[steps > (1 + STEP_TOLERANCE) * usual]
    missing = int((np.rint(wide / usual) - 1).sum())
    multiples = np.abs(steps / usual - np.maximum(np.rint(steps / usual), 1)) <= STEP_TOLERANCE * 2
    if missing > 0 and multiples.all():
        step = written(usual)
        places = in_every_language(lambda: ngettext("{number} place", "{number} places", len(wide)))
        return sentence(
            "slices are missing: {missing} at {places} (step {step} mm)", missing=missing, places=places, step=step
        ), True
    least, greatest = written(steps.min()), written(steps.max())
    return sentence("slice steps vary from {least} to {greatest} mm", least=least, greatest=greatest), False
