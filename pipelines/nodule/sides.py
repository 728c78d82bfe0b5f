"""Asymmetric aeration: consolidation, collapse or fluid in a lung, which the detector does not assess."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from node.pipeline import marked, sentence

GRID_MM = 3.0
"""Of the arrays here, as ``pipelines.nodule.lungs`` makes them."""
LEAST_SHARE = 0.5
"""Of the other lung's air on the same level. Levels of three unremarkable pairs of lungs have 0.55 and more."""
COMPARED_CM2 = 60.0
"""Levels on which the fuller lung shows less are not compared: domes of the diaphragm and apices differ."""
LEAST_HEIGHT_MM = 25.0


NOT_ASSESSED = {
    "left": marked(
        "The left lung holds less than half the air of the other over {height} mm of height: a large consolidation, "
        "collapse or fluid was not assessed."
    ),
    "right": marked(
        "The right lung holds less than half the air of the other over {height} mm of height: a large consolidation, "
        "collapse or fluid was not assessed."
    ),
}


def not_assessed(aerated: npt.NDArray[np.bool_], body: npt.NDArray[np.bool_]) -> str:
    """Which lung is hardly aerated over ``LEAST_HEIGHT_MM`` or more, in words for a radiologist; empty for none.

    Both arrays are ``[slice, row, column R->L]`` on ``GRID_MM``. The sides meet in the middle of the body: between the
    lungs there is no telling once one of them is gone.
    """
    middle = middle_of(body)
    areas = [part.sum((1, 2)) * GRID_MM**2 / 100 for part in (aerated[:, :, :middle], aerated[:, :, middle:])]
    for side, own, other in (("right", areas[0], areas[1]), ("left", areas[1], areas[0])):
        height = _longest((own < LEAST_SHARE * other) & (other > COMPARED_CM2)) * GRID_MM
        if height >= LEAST_HEIGHT_MM:
            return sentence(NOT_ASSESSED[side], height=f"{height:.0f}")
    return ""


def middle_of(body: npt.NDArray[np.bool_]) -> int:
    """Column in the middle between the outermost ones of the body: median over the slices."""
    columns: npt.NDArray[np.bool_] = np.any(body, axis=1)
    columns = columns[np.any(columns, axis=1)]
    if not len(columns):
        return body.shape[2] // 2
    first, last = columns.argmax(axis=1), columns.shape[1] - 1 - columns[:, ::-1].argmax(axis=1)
    return round(float(np.median((first + last) / 2)))


def _longest(levels: npt.NDArray[np.bool_]) -> int:
    """Length of the longest run of true values."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], levels.astype(np.int8), [0]])))
    return int((ends[1::2] - ends[::2]).max(initial=0))
