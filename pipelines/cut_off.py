"""Cut-off anatomy: organs that reach the lowest or highest image and were not imaged completely."""

from __future__ import annotations


def cut_off(anatomy: str, lowest_cm2: float, highest_cm2: float, limit_cm2: float) -> str:
    """``Findings.cut_off``: at which ends more than ``limit_cm2`` of the anatomy is still on the outermost image.

    ``anatomy`` begins the sentence, for example ``"The lungs are"``. Empty when both ends were seen.
    """
    ends = (("lower", "lowest", lowest_cm2), ("upper", "highest", highest_cm2))
    return " ".join(
        f"{anatomy} cut off at the {end} end: the {image} image still shows {area:.0f} cm2."
        for end, image, area in ends
        if area > limit_cm2
    )
