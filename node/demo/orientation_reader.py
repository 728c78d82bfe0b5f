"""A pipeline that reads the orientation phantom: it knows how many balls stand in each direction, not where.

So each segment is named by what is seen in the pixels. If anything on the way turned or mirrored images or masks, the
segment called Left would lie on another side than the single ball.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster, linkage

from node import __version__
from node.demo.orientation_phantom import BALL_HU, BODY_HU, COUNTS, LETTER_HU, PITCH_MM
from node.pipeline import Algorithm, Code, Findings, Lesion, Needs, Segment, Series, Unsuitable, codes

NAMES: Mapping[str, str] = {"L": "Left", "R": "Right", "A": "Front", "P": "Back", "H": "Head", "F": "Feet"}
_LATERALITY: Mapping[str, Code] = {"L": codes.SCT.Left, "R": codes.SCT.Right}
_COLOURS: Mapping[str, tuple[int, int, int]] = {
    "L": (255, 64, 64), "R": (64, 200, 64), "A": (80, 140, 255), "P": (255, 200, 40), "H": (220, 90, 220),
    "F": (60, 210, 210),
}  # fmt: skip


class OrientationReader:
    """Finds balls by their HU, rows by their distance, directions by their count."""

    algorithm = Algorithm(name="Orientation phantom reader", version=__version__)
    needs = Needs(modalities=frozenset({"CT"}), min_slices=16)

    def run(self, series: Series) -> Findings:
        """One lesion for each direction. Raises ``Unsuitable`` when these are not the balls of the phantom."""
        volume = series.volume("HPL")
        low, high = (BODY_HU + BALL_HU) / 2, (BALL_HU + LETTER_HU) / 2
        balls, count = ndimage.label((volume.array > low) & (volume.array < high))
        if count != sum(COUNTS.values()):
            raise Unsuitable(f"no orientation phantom: {count} balls instead of {sum(COUNTS.values())}")
        centres = np.array(ndimage.center_of_mass(balls > 0, balls, range(1, count + 1)))
        rows = fcluster(linkage(centres * volume.spacing), 1.4 * PITCH_MM, "distance")
        rows_by_count = {int(np.count_nonzero(rows == row)): row for row in set(rows)}
        if sorted(rows_by_count) != sorted(COUNTS.values()):
            raise Unsuitable(f"no orientation phantom: rows of {sorted(rows_by_count)} balls")
        lesions = []
        for letter, balls_here in COUNTS.items():
            members = 1 + np.flatnonzero(rows == rows_by_count[balls_here])
            mask = volume.with_array(np.isin(balls, members).astype(np.uint8))
            segment = Segment(
                label=f"{NAMES[letter]}: {balls_here} ball{'s' if balls_here > 1 else ''}",
                mask=mask,
                category=codes.SCT.PhysicalObject,
                type=codes.DCM.FiducialMark,
                colour=_COLOURS[letter],
            )
            lesions.append(Lesion(segment=segment, finding=codes.DCM.FiducialMark, laterality=_LATERALITY.get(letter)))
        return Findings(lesions=tuple(lesions), remarks=("An orientation phantom, not a patient.",))


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> OrientationReader:
    """``factory = "node.demo.orientation_reader:create"``; nothing is loaded and nothing can be set."""
    if weights is not None or options:
        raise ValueError(f"the reader of the orientation phantom on {device} has neither weights nor options")
    return OrientationReader()
