"""Regions in the document of a handover, and back: a mask cropped to what is inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.inference.document_values import (
    Arrays,
    read_code,
    read_evaluations,
    read_measurements,
    read_shape,
    write_code,
    write_evaluations,
    write_measurements,
    write_shape,
)
from node.pipeline import Code, Region


def write_region(region: Region, arrays: Arrays) -> dict[str, Any]:
    """Return the document of a region; the pixels of its mask join ``arrays``."""
    return {
        "label": region.label,
        "shape": write_shape(region.shape),
        "finding": list(region.finding),
        "landmark": bool(region.landmark),
        "site": write_code(region.site),
        "laterality": write_code(region.laterality),
        "measurements": write_measurements(region.measurements),
        "probability": None if region.probability is None else float(region.probability),
        "tracking_uid": region.tracking_uid,
        "evaluations": write_evaluations(region.evaluations),
        "mask": None if region.mask is None else _write_mask(np.asarray(region.mask) != 0, arrays),
    }


def read_region(document: dict[str, Any], arrays: Mapping[str, Any]) -> Region:
    """Read what ``write_region`` wrote."""
    mask = document.get("mask")  # absent: left by an older version
    return Region(
        label=document["label"],
        shape=read_shape(document["shape"]),
        finding=Code(*document["finding"]),
        landmark=document["landmark"],
        site=read_code(document["site"]),
        laterality=read_code(document["laterality"]),
        measurements=read_measurements(document["measurements"]),
        probability=document["probability"],
        tracking_uid=document["tracking_uid"],
        evaluations=read_evaluations(document["evaluations"]),
        mask=None if mask is None else _read_mask(mask, arrays[mask["array"]]),
    )


def _write_mask(mask: NDArray[np.bool_], arrays: Arrays) -> dict[str, Any]:
    inside = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    box = [[int(places[0]), int(places[-1]) + 1] if len(places) else [0, 0] for places in inside]
    name = f"array{len(arrays)}"
    arrays[name] = mask[slice(*box[0]), slice(*box[1])]
    return {"array": name, "size": list(mask.shape), "first": [box[0][0], box[1][0]]}


def _read_mask(document: dict[str, Any], pixels: NDArray[Any]) -> NDArray[np.bool_]:
    rows, columns = (int(size) for size in document["size"])
    top, left = (int(first) for first in document["first"])
    if pixels.ndim != 2 or min(top, left) < 0 or max(rows, columns) > _LARGEST_SIDE:
        raise ValueError("a mask of a region is none of an image")
    mask = np.zeros((rows, columns), np.bool_)
    mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels != 0
    return mask


_LARGEST_SIDE = 1 << 16
"""Of an image, in pixels (PS3.3 C.7.6.3)."""
