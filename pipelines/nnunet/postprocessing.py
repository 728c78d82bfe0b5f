"""Postprocessing that nnU-Net v2 found to be worthwhile: all but the largest component of some labels is removed.

nnU-Net writes it twice, as ``postprocessing.pkl`` and as ``postprocessing.json``. A pickle is a program and not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from node.errors import WeightsError

Labels = tuple[tuple[int, ...], ...]
"""Labels, and regions of several, that are one component together."""
_LARGEST = "remove_all_but_largest_component_from_segmentation"
_REMEDY = "or set the option postprocessing = false, which the report then states"


def read_postprocessing(root: Path, folds: Sequence[str]) -> tuple[Labels, ...]:
    """The steps of the results folder ``root``, in order; empty when there are none.

    Raises ``WeightsError`` when they cannot be read or are of a kind that is not known.
    """
    folder = _folder(root, folds)
    if folder is None:
        return ()
    file = folder / "postprocessing.json"
    if not file.is_file():
        raise WeightsError(
            f"weights: {folder / 'postprocessing.pkl'} is a pickle, which runs code when it is read; put the "
            f"postprocessing.json that nnU-Net writes next to it, {_REMEDY}"
        )
    try:
        document = json.loads(file.read_text())
        names, settings = document["postprocessing_fns"], document["postprocessing_kwargs"]
        return tuple(_step(name, dict(arguments)) for name, arguments in zip(names, settings, strict=True))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"weights: {file} cannot be used ({error}); restore it, {_REMEDY}") from error


def apply_postprocessing(labels: NDArray[Any], steps: Sequence[Labels]) -> NDArray[Any]:
    """``labels`` [slice, row, column] without the smaller components, which touch by a corner at least."""
    for together in steps:
        inside = np.isin(labels, [value for values in together for value in values])
        components, count = ndimage.label(inside, np.ones((3, 3, 3)))
        if count > 1:
            largest = int(np.bincount(components.ravel())[1:].argmax()) + 1
            labels = np.where(inside & (components != largest), 0, labels)
    return labels


def _folder(root: Path, folds: Sequence[str]) -> Path | None:
    """Where the postprocessing of these folds lies; ``None``: there is none."""
    holding = sorted({file.parent for file in root.rglob("postprocessing.*") if file.suffix in (".pkl", ".json")})
    numbers = "_".join(sorted(folds))
    return next((folder for folder in holding if folder.name.endswith(f"_{numbers}")), holding[0] if holding else None)


def _step(name: str, arguments: dict[str, Any]) -> Labels:
    if name != _LARGEST or not arguments.keys() <= {"labels_or_regions", "background_label"}:
        raise ValueError(f"the step {name} is not known")
    if arguments.get("background_label", 0) != 0:
        raise ValueError("its background is not 0")
    named = arguments["labels_or_regions"]
    return tuple(_members(named if isinstance(named, list) else [named]))


def _members(named: list[Any]) -> Iterator[tuple[int, ...]]:
    for entry in named:
        yield tuple(int(value) for value in entry) if isinstance(entry, list) else (int(entry),)
