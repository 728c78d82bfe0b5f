"""Postprocessing that nnU-Net v2 found to be worthwhile: all but the largest component of some labels is removed.

nnU-Net writes it twice, as ``postprocessing.pkl`` and as ``postprocessing.json``. A pickle is a program and not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from node.errors import WeightsError
from pipelines.largest_part import largest_part

Labels = tuple[tuple[int, ...], ...]
"""Labels, and regions of several, that are one component together."""
_REMEDY = "or set the option postprocessing = false, which the report then states"


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid")

    labels_or_regions: int | tuple[int | tuple[int, ...], ...]
    background_label: Literal[0] = 0

    @property
    def labels(self) -> Labels:
        named = (self.labels_or_regions,) if isinstance(self.labels_or_regions, int) else self.labels_or_regions
        return tuple((label,) if isinstance(label, int) else label for label in named)


class _Document(BaseModel):
    postprocessing_fns: tuple[Literal["remove_all_but_largest_component_from_segmentation"], ...]
    postprocessing_kwargs: tuple[_Step, ...]


def read_postprocessing(roots: Sequence[Path], folds: Sequence[str]) -> tuple[Labels, ...]:
    """The steps that lie below ``roots`` for these folds, in order; empty when there are none.

    Raises ``WeightsError`` when they cannot be read or are of a kind that is not known.
    """
    folder = _folder(roots, folds)
    if folder is None:
        return ()
    file = folder / "postprocessing.json"
    if not file.is_file():
        raise WeightsError(
            f"weights: {folder / 'postprocessing.pkl'} is a pickle, which runs code when it is read; put the "
            f"postprocessing.json that nnU-Net writes next to it, {_REMEDY}"
        )
    try:
        document = _Document.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise WeightsError(f"weights: {file} cannot be used ({error}); restore it, {_REMEDY}") from error
    steps = document.postprocessing_kwargs
    if len(steps) != len(document.postprocessing_fns):
        raise WeightsError(f"weights: {file} states other settings than steps; restore it, {_REMEDY}")
    return tuple(step.labels for step in steps)


def apply_postprocessing(labels: NDArray[Any], steps: Sequence[Labels]) -> NDArray[Any]:
    """``labels`` [slice, row, column] without the smaller components, which touch by a corner at least."""
    for together in steps:
        inside = np.isin(labels, [value for values in together for value in values])
        labels = np.where(inside & ~largest_part(inside), 0, labels)
    return labels


def _folder(roots: Sequence[Path], folds: Sequence[str]) -> Path | None:
    """Where the postprocessing of these folds lies; ``None``: there is none."""
    files = [file for root in roots for file in root.rglob("postprocessing.*")]
    holding = sorted({file.parent for file in files if file.suffix in (".pkl", ".json")})
    numbers = "_".join(sorted(folds))
    return next((folder for folder in holding if folder.name.endswith(f"_{numbers}")), holding[0] if holding else None)
