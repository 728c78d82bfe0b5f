"""How well similar nodules are found: precision at 5 for malignant against benign, and next to size alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NEAREST = 5
STRATA_MM = (5.0, 8.0)
"""Diameters (sphere of the same volume) that part small, middle and large nodules."""
_BOOTSTRAPS = 2000
_SEED = 7

Vectors = npt.NDArray[np.floating[Any]]
Kinds = npt.NDArray[np.int64]


def precisions(query: Vectors, gallery: Vectors, kinds: tuple[Kinds, Kinds], *, is_self: bool = False) -> Vectors:
    """Share of the ``NEAREST`` of ``gallery`` that have the kind of each query; ``kinds``: of queries, of gallery.

    ``is_self``: the queries are the gallery, and none is compared with itself.
    """
    distance = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    if is_self:
        np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, 1, kind="stable")[:, :NEAREST]
    return np.asarray((kinds[1][nearest] == kinds[0][:, None]).mean(1))


def balanced(precision: Vectors, kinds: Kinds) -> float:
    """Mean of the mean precisions of both kinds."""
    return float(np.mean([precision[kinds == kind].mean() for kind in (0, 1)]))


def summary(precision: Vectors, kinds: Kinds, patients: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Precision at 5: of all queries, balanced with a 95 % interval (bootstrap by patient), and of each kind."""
    rng = np.random.default_rng(_SEED)
    of_patient = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    drawn = []
    for _ in range(_BOOTSTRAPS):
        rows = np.concatenate([of_patient[i] for i in rng.integers(len(of_patient), size=len(of_patient))])
        if len(np.unique(kinds[rows])) == 2:
            drawn.append(balanced(precision[rows], kinds[rows]))
    return {
        "queries": len(kinds),
        "all": round(float(precision.mean()), 3),
        "balanced": round(balanced(precision, kinds), 3),
        "interval": [round(float(q), 3) for q in np.quantile(drawn, (0.025, 0.975))],
        "malignant": round(float(precision[kinds == 1].mean()), 3),
        "benign": round(float(precision[kinds == 0].mean()), 3),
    }


def within_strata(
    query: tuple[Vectors, Kinds, Vectors], gallery: tuple[Vectors, Kinds, Vectors]
) -> dict[str, float | list[int]]:
    """Balanced precision where a nodule is compared only with those of its stratum of size, over all strata.

    Each argument: vectors, kinds and diameters in mm.
    """
    precision = np.full(len(query[1]), np.nan)
    strata = [np.digitize(of[2], STRATA_MM) for of in (query, gallery)]
    for stratum in range(len(STRATA_MM) + 1):
        mine, theirs = (of == stratum for of in strata)
        precision[mine] = precisions(query[0][mine], gallery[0][theirs], (query[1][mine], gallery[1][theirs]))
    counts = [int((strata[0] == stratum).sum()) for stratum in range(len(STRATA_MM) + 1)]
    return {"balanced": round(balanced(precision, query[1]), 3), "queries": counts}
