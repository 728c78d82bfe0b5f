"""Segments in the document of a handover, and back: masks cropped to what is inside, a label map once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from highdicom import Volume

from node.inference.document_values import (
    Arrays,
    read_code,
    read_measurements,
    read_volume,
    write_code,
    write_measurements,
    write_volume,
)
from node.pipeline import Code, Segment
from node.pipeline.label_map import Box, boxes_of, inside


def write_segments(segments: Sequence[Segment], arrays: Arrays) -> list[dict[str, Any]]:
    """Return the document of each segment; their voxels join ``arrays``, those of a label map once."""
    boxes = boxes_of(segments)
    of_map: dict[int, list[Box]] = defaultdict(list)
    for segment, box in zip(segments, boxes, strict=True):
        if segment.value is not None and box is not None:
            of_map[id(segment.mask.array)].append(box)
    written: dict[tuple[int, bytes], dict[str, Any]] = {}
    documents = []
    for segment, box in zip(segments, boxes, strict=True):
        array, mask = np.asarray(segment.mask.array), segment.mask
        if segment.value is None or box is None:
            of, value = box or (slice(0, 0),) * 3, None
            volume = write_volume(mask, inside(array[of], None), arrays)
        else:
            of, value = _union(of_map[id(mask.array)]), int(segment.value)
            key = (id(mask.array), mask.affine.tobytes())
            volume = written[key] = written.get(key) or write_volume(mask, _small(array[of]), arrays)
        documents.append(_segment(segment, of, value, volume))
    return documents


def _union(boxes: Sequence[Box]) -> Box:
    a, b, c = (slice(min(box[i].start for box in boxes), max(box[i].stop for box in boxes)) for i in range(3))
    return a, b, c


def _small(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values in fewer bytes, where they fit; what is none of ours may be anything."""
    kinds = (np.uint8, np.uint16)
    fits = (kind for kind in kinds if labels.min() >= 0 and labels.max() <= np.iinfo(kind).max)
    return labels.astype(next(fits, labels.dtype), copy=False)


def _segment(segment: Segment, box: Box, value: int | None, mask: dict[str, Any]) -> dict[str, Any]:
    return {
        "label": segment.label,
        "category": list(segment.category),
        "type": list(segment.type),
        "colour": segment.colour and list(segment.colour),
        "laterality": write_code(segment.laterality),
        "measurements": write_measurements(segment.measurements),
        "shape": list(segment.mask.array.shape),
        "box": [[edge.start, edge.stop] for edge in box],
        "mask": mask,
        "value": value,
    }


def read_segment(document: dict[str, Any], arrays: Mapping[str, Any], maps: dict[str, Volume]) -> Segment:
    """Read what ``write_segments`` wrote of one; ``maps``: label maps that were read, by the name of their array."""
    value, name = document.get("value"), document["mask"]["array"]  # without a value: left by an older version, too
    if value is None:
        mask = _cut_out(document, (arrays[name] != 0).view(np.uint8))
    else:
        mask = maps[name] = maps[name] if name in maps else _cut_out(document, arrays[name])
    return Segment(
        label=document["label"],
        mask=mask,
        value=value,
        category=Code(*document["category"]),
        type=Code(*document["type"]),
        colour=tuple(document["colour"]) if document["colour"] else None,
        laterality=read_code(document.get("laterality")),
        measurements=read_measurements(document.get("measurements", ())),
    )


def _cut_out(document: dict[str, Any], array: np.ndarray[Any, Any]) -> Volume:
    """The part of a mask that was written, where it lies."""
    mask = read_volume(document["mask"], array)
    first = [int(start) for start, _ in document["box"]]
    affine = np.array(mask.affine)
    affine[:3, 3] += affine[:3, :3] @ first
    return Volume(
        array,
        affine,
        coordinate_system=mask.coordinate_system,
        frame_of_reference_uid=mask.frame_of_reference_uid,
    )
