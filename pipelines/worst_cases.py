"""Pictures of the worst cases: truth and result outlined on the slice with most wrong pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

WORST = 6
"""Pictures in a gallery."""


def draw_case(
    image: NDArray[np.floating], truth: NDArray[np.bool_], result: NDArray[np.bool_], score: float, path: Path
) -> None:
    """Write ``path`` (PNG): of ``image`` and the masks (``[slice, row, column]``) the slice in which they differ most.

    ``image`` is shown from its own lowest value to its highest; ``score`` is the Dice of the title.
    """
    at = int((truth ^ result).sum(axis=(1, 2)).argmax())
    figure = Figure(figsize=(5, 5.3))
    axes = figure.add_subplot()
    axes.imshow(image[at], cmap="gray")
    for outlined, colour in ((truth[at], "lime"), (result[at], "red")):
        if outlined.any():
            axes.contour(outlined, levels=[0.5], colors=colour, linewidths=1)
    axes.set_title(f"Dice {score:.2f}, slice {at + 1} of {len(truth)}; truth green, result red", fontsize=9)
    axes.axis("off")
    figure.savefig(path, dpi=100)
