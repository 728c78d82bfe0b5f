"""Weighing of candidates: combines the classifier's output with the response of the blob filter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from pipelines.nodule.blobs import LEAST_HU

SUREST = 1e-3
"""Verdicts nearer to 0 or 1 count as this near: beyond, the classifier's certainty means little."""
RIDGE = 1e-3
MOST = 0.9999
"""Of a probability: it is rounded to four digits, and no candidate is a nodule for certain."""


@dataclass(frozen=True)
class Weighing:
    """Logistic regression: the log odds are ``base + verdict * log odds of the verdict + bulge * ln(HU)``."""

    verdict: float
    bulge: float
    base: float

    def probability(self, verdict: float, bulge_hu: float) -> float:
        """That a candidate is a nodule, from the classifier's ``verdict`` and the blob filter's response."""
        odds = float(np.dot((self.verdict, self.bulge, self.base), _terms(verdict, bulge_hu)))
        return min(1 / (1 + math.exp(-odds)), MOST)


def _terms(verdict: float, bulge_hu: float) -> tuple[float, float, float]:
    held = min(max(verdict, SUREST), 1 - SUREST)
    return math.log(held / (1 - held)), math.log(max(bulge_hu, LEAST_HU)), 1.0


def fit_weighing(seen: Sequence[tuple[float, float]], nodules: npt.NDArray[np.bool_]) -> Weighing:
    """Maximum likelihood over candidates ``seen`` (verdict, response in HU), of which ``nodules`` are some."""
    terms = np.array([_terms(v, b) for v, b in seen])
    sign = np.where(nodules, -1.0, 1.0)

    def loss(w: npt.NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, sign * (terms @ w)).mean() + RIDGE * (w[:2] ** 2).sum())

    verdict, bulge, base = minimize(loss, np.zeros(3)).x
    return Weighing(float(verdict), float(bulge), float(base))
