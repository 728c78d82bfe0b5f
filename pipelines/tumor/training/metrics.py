"""Figures of merit for one examination: Dice, HD95, and lesions detected, missed and false."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def dice(predicted: Mask, truth: Mask) -> float:
    """Dice coefficient of two volumes of the same shape; 1 when both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else 1.0


def hd95(predicted: Mask, truth: Mask) -> float:
    """95th percentile of in-plane surface distances in pixels, both ways, over the slices where both have a contour.

    The training data has no slice spacing, so distances are taken slice by slice. NaN when no slice has both.
    """
    distances: list[NDArray[np.float64]] = []
    for p, t in zip(predicted, truth, strict=True):
        if p.any() and t.any():
            edge_p, edge_t = (m & ~ndimage.binary_erosion(m) for m in (p, t))
            distances.append(ndimage.distance_transform_edt(~edge_t)[edge_p])
            distances.append(ndimage.distance_transform_edt(~edge_p)[edge_t])
    return float(np.percentile(np.concatenate(distances), 95)) if distances else float("nan")


def count_lesions(predicted: Mask, truth: Mask, *, min_voxels: int) -> tuple[int, int, int]:
    """``(lesions, found, false)``: true components of at least ``min_voxels``, those touched, predictions on nothing.

    Components are 26-connected.
    """
    cube = np.ones((3, 3, 3), bool)
    true_labels, true_count = ndimage.label(truth, cube)
    sizes = np.bincount(true_labels.ravel(), minlength=true_count + 1)
    large = [k for k in range(1, true_count + 1) if sizes[k] >= min_voxels]
    touched = set(np.unique(true_labels[predicted]).tolist())
    labels, count = ndimage.label(predicted, cube)
    real = set(np.unique(labels[truth]).tolist()) - {0}
    return len(large), sum(k in touched for k in large), count - len(real)


def bootstrap_interval(values: list[float], *, draws: int = 5000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling patients."""
    rng = np.random.default_rng(seed)
    means = rng.choice(np.asarray(values), (draws, len(values))).mean(axis=1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))
