"""From the classes of slices to the regions of a series; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from node.config.characteristics import CHARACTERISTICS
from node.studies.body_region.network import Floats
from node.studies.characteristics.characteristic import Characteristic, likely, unknown

REGIONS = CHARACTERISTICS["body_region"]
CLEAR = 0.8
"""Least probability of a slice that counts; docs/development/validation.md has what other limits would give."""
_CLEAR_PART = 0.5
"""Least part of the slices that must be clear."""
_FEW, _LEAST = 3, 2
"""A region needs ``_LEAST`` clear slices, unless there are no more than ``_FEW`` slices."""
_DISORDERED = 1
"""Clear slices that may lie beyond a region that is above or below them."""
DISAGREEMENT = ("header and pixels", "disagree")
"""In a basis, when Body Part Examined names other regions only."""
_BODY_PARTS = {
    "head": ("HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "SINUS", "JAW", "MAXILLA", "EAR", "IAC", "TEMPORAL"),
    "neck": ("NECK", "CSPINE", "CERVICAL", "THYROID", "LARYNX", "CAROTID"),
    "chest": ("CHEST", "THORAX", "LUNG", "HEART", "BREAST", "TSPINE", "RIB", "STERNUM", "CORONARY", "MEDIASTIN"),
    "abdomen": (
        "ABDOM", "LIVER", "KIDNEY", "PANCREAS", "SPLEEN", "STOMACH", "LSPINE", "LUMBAR", "GALLBLADDER", "ADRENAL",
        "COLON", "BOWEL",
    ),
    "pelvis": ("PELVIS", "HIP", "PROSTATE", "UTERUS", "BLADDER", "SACRUM", "SSPINE", "RECTUM", "OVARY", "LSPINE"),
}  # fmt: skip
"""Words in Body Part Examined (PS3.16 annex L, and what scanners write) by what they can show."""
_WHOLE = ("WHOLE", "BODY", "TRUNK")


def regions_of_slices(
    probabilities: Floats, heights: Sequence[float] | None, body_parts: Sequence[str]
) -> Characteristic:
    """Return the regions that a series shows, the one with most slices first.

    ``probabilities``: ``[slice, class]``; ``heights``: of the slices along the body, mm towards the head, ``None``
    where it is not known; ``body_parts``: values of Body Part Examined (0018,0015), which decide nothing.

    *Unknown*, when fewer than half of the slices are clear or when their order is not that of a body.
    """
    best, clear = probabilities.argmax(axis=1), probabilities.max(axis=1) >= CLEAR
    clear &= best < len(REGIONS)
    number = len(probabilities)
    counts = {name: int((clear & (best == at)).sum()) for at, name in enumerate(REGIONS)}
    least = _LEAST if number > _FEW else 1
    shown = sorted((name for name in REGIONS if counts[name] >= least), key=lambda name: -counts[name])
    basis = [("pixels", _summary(counts, number))]
    if not shown or clear.sum() < _CLEAR_PART * number:
        return unknown([*basis, *_stated(body_parts, ())])
    if heights is not None and _disorder(best[clear], np.asarray(heights, float)[clear]) > _DISORDERED:
        return unknown([*basis, ("order of the slices", "not that of a body"), *_stated(body_parts, ())])
    certainty = float(probabilities.max(axis=1)[clear].mean())
    return likely(shown, [*basis, ("mean probability", f"{certainty:.2f}"), *_stated(body_parts, shown)])


def _disorder(classes: NDArray[np.intp], heights: NDArray[np.float64]) -> int:
    """Return how many slices have to be taken out for the rest to lie in the order of the body, from the head down."""
    order = classes[np.argsort(-heights, kind="stable")]
    longest = np.zeros(len(REGIONS), int)  # of the chains that end with each region
    for region in order:
        longest[region] = longest[: region + 1].max() + 1
    return len(order) - int(longest.max(initial=0))


def _summary(counts: dict[str, int], number: int) -> str:
    parts = [f"{name} {count}" for name, count in counts.items() if count]
    if unclear := number - sum(counts.values()):
        parts.append(f"unclear {unclear}")
    return f"{', '.join(parts)} of {number} slices"


def _stated(body_parts: Sequence[str], shown: Sequence[str]) -> list[tuple[str, str]]:
    """Return what the header says, and whether it names none of the regions that the pixels show."""
    basis = [("BodyPartExamined", ", ".join(body_parts))] if body_parts else []
    text = " ".join(body_parts).upper()
    named = {name for name, words in _BODY_PARTS.items() if any(word in text for word in words)}
    if shown and named and named.isdisjoint(shown) and not any(word in text for word in _WHOLE):
        basis.append(DISAGREEMENT)
    return basis
