"""Cut-off anatomy: organs that reach the lowest or highest image and were not imaged completely."""

from __future__ import annotations

from node.pipeline import joined, sentence


def cut_off(lower: str, upper: str, lowest_cm2: float, highest_cm2: float, limit_cm2: float) -> str:
    """``Findings.cut_off``: at which ends more than ``limit_cm2`` of the anatomy is still on the outermost image.

    ``lower`` and ``upper``: what is said of each end, with the place ``{area}``. Empty when both ends were seen.
    """
    ends = ((lower, lowest_cm2), (upper, highest_cm2))
    return joined((sentence(text, area=f"{area:.0f}") for text, area in ends if area > limit_cm2), " ")
