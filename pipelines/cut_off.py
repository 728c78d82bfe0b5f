"""Cut-off anatomy: organs that reach the outermost image or the edges of all and were not imaged completely."""

from __future__ import annotations

from collections.abc import Iterable

from node.pipeline import joined, sentence


def cut_off(limit_cm2: float, faces: Iterable[tuple[str, float]]) -> str:
    """``Findings.cut_off``: on which faces of the series more than ``limit_cm2`` of the anatomy lies.

    ``faces``: of each what is said of it, with the place ``{area}``, and the area in cm2. Empty when none cuts it off.
    """
    return joined((sentence(text, area=f"{area:.0f}") for text, area in faces if area > limit_cm2), " ")
