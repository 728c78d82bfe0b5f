"""Findings as the document and the arrays of a handover, and back.

The document is what JSON can say; every mask, map and derived series is an array that it names. What is read here was
written by a process that ran a model: whatever the values raise, ``node.inference.handover`` calls damaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from highdicom import Volume
from scipy.ndimage import find_objects

from node.pipeline import (
    Algorithm,
    Assertion,
    Code,
    DerivedSeries,
    Findings,
    Lesion,
    Map,
    Measurement,
    MeasurementGroup,
    Segment,
)

Arrays = dict[str, np.ndarray[Any, Any]]
"""By the name that the document uses."""


def write_findings(findings: Findings, arrays: Arrays) -> dict[str, Any]:
    """Return the document of ``findings``; their voxels join ``arrays``."""
    return {
        "lesions": [
            {
                "segment": _segment(lesion.segment, arrays),
                "finding": list(lesion.finding),
                "site": _maybe(lesion.site),
                "laterality": _maybe(lesion.laterality),
                "measurements": _measurements(lesion.measurements),
                "probability": None if lesion.probability is None else float(lesion.probability),
                "tracking_uid": lesion.tracking_uid,
                "evaluations": _evaluations(lesion.evaluations),
            }
            for lesion in findings.lesions
        ],
        "segments": [_segment(segment, arrays) for segment in findings.segments],
        "derived": [
            {
                "volume": _volume(series.volume, np.asarray(series.volume.array), arrays),
                "description": series.description,
                "derivation": list(series.derivation),
            }
            for series in findings.derived
        ],
        "maps": [
            {
                "name": entry.name,
                "volume": _volume(entry.volume, np.asarray(entry.volume.array), arrays),
                "quantity": list(entry.quantity),
                "unit": list(entry.unit),
            }
            for entry in findings.maps
        ],
        "remarks": list(findings.remarks),
        "looked_for": [list(code) for code in findings.looked_for],
        "assertions": [
            [
                list(one.finding),
                one.presence,
                None if one.probability is None else float(one.probability),
                one.operating_point and [float(limit) for limit in one.operating_point],
            ]
            for one in findings.assertions
        ],
        "measurements": _measurements(findings.measurements),
        "groups": [
            {
                "label": group.label,
                "finding": list(group.finding),
                "site": _maybe(group.site),
                "laterality": _maybe(group.laterality),
                "measurements": _measurements(group.measurements),
                "evaluations": _evaluations(group.evaluations),
            }
            for group in findings.groups
        ],
        "evaluations": _evaluations(findings.evaluations),
        "partial": findings.partial,
        "cut_off": findings.cut_off,
    }


def read_findings(document: dict[str, Any], arrays: Mapping[str, Any]) -> Findings:
    """Read what ``write_findings`` wrote."""
    return Findings(
        lesions=tuple(
            Lesion(
                segment=_segment_of(lesion["segment"], arrays),
                finding=Code(*lesion["finding"]),
                site=_code(lesion["site"]),
                laterality=_code(lesion["laterality"]),
                measurements=_measurements_of(lesion["measurements"]),
                probability=lesion["probability"],
                tracking_uid=lesion["tracking_uid"],
                evaluations=_evaluations_of(lesion["evaluations"]),
            )
            for lesion in document["lesions"]
        ),
        segments=tuple(_segment_of(segment, arrays) for segment in document["segments"]),
        derived=tuple(
            DerivedSeries(
                volume=_volume_of(series["volume"], arrays[series["volume"]["array"]]),
                description=series["description"],
                derivation=Code(*series["derivation"]),
            )
            for series in document["derived"]
        ),
        maps=tuple(
            Map(
                name=entry["name"],
                volume=_volume_of(entry["volume"], arrays[entry["volume"]["array"]]),
                quantity=Code(*entry["quantity"]),
                unit=Code(*entry["unit"]),
            )
            for entry in document["maps"]
        ),
        remarks=tuple(document["remarks"]),
        looked_for=tuple(Code(*code) for code in document["looked_for"]),
        assertions=tuple(
            Assertion(
                finding=Code(*finding),
                presence=presence,
                probability=probability,
                operating_point=tuple(limits[0]) if limits and limits[0] else None,
            )
            for finding, presence, probability, *limits in document["assertions"]
        ),
        measurements=_measurements_of(document.get("measurements", ())),  # absent: left by an older version
        groups=tuple(
            MeasurementGroup(
                label=group["label"],
                finding=Code(*group["finding"]),
                site=_code(group["site"]),
                laterality=_code(group["laterality"]),
                measurements=_measurements_of(group["measurements"]),
                evaluations=_evaluations_of(group["evaluations"]),
            )
            for group in document.get("groups", ())
        ),
        evaluations=_evaluations_of(document["evaluations"]),
        partial=document["partial"],
        cut_off=document["cut_off"],
    )


def _segment(segment: Segment, arrays: Arrays) -> dict[str, Any]:
    inside = np.asarray(segment.mask.array) != 0
    boxes = find_objects(inside.astype(np.uint8))
    box = boxes[0] if boxes else (slice(0, 0),) * 3
    return {
        "label": segment.label,
        "category": list(segment.category),
        "type": list(segment.type),
        "colour": segment.colour and list(segment.colour),
        "laterality": _maybe(segment.laterality),
        "measurements": _measurements(segment.measurements),
        "shape": list(inside.shape),
        "box": [[edge.start, edge.stop] for edge in box],
        "mask": _volume(segment.mask, inside[box], arrays),
    }


def _segment_of(document: dict[str, Any], arrays: Mapping[str, Any]) -> Segment:
    mask = _volume_of(document["mask"], (arrays[document["mask"]["array"]] != 0).view(np.uint8))
    first = [int(start) for start, _ in document["box"]]
    affine = np.array(mask.affine)
    affine[:3, 3] += affine[:3, :3] @ first
    return Segment(
        label=document["label"],
        mask=Volume(
            mask.array,
            affine,
            coordinate_system=mask.coordinate_system,
            frame_of_reference_uid=mask.frame_of_reference_uid,
        ),
        category=Code(*document["category"]),
        type=Code(*document["type"]),
        colour=tuple(document["colour"]) if document["colour"] else None,
        laterality=_code(document.get("laterality")),
        measurements=_measurements_of(document.get("measurements", ())),
    )


def _measurements(measurements: Sequence[Measurement]) -> list[list[Any]]:
    return [[list(m.name), float(m.value), list(m.unit), _maybe(m.derivation)] for m in measurements]


def _measurements_of(document: Sequence[Sequence[Any]]) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(name=Code(*name), value=value, unit=Code(*unit), derivation=_code(derivation))
        for name, value, unit, derivation in document
    )


def _volume(volume: Volume, array: np.ndarray[Any, Any], arrays: Arrays) -> dict[str, Any]:
    """Where and how the voxels lie; ``array``, which may be a part of them, joins ``arrays``."""
    name = f"array{len(arrays)}"
    arrays[name] = array
    return {
        "array": name,
        "affine": np.asarray(volume.affine, float).tolist(),
        "coordinate_system": volume.coordinate_system.value,
        "frame_of_reference_uid": volume.frame_of_reference_uid and str(volume.frame_of_reference_uid),
    }


def _volume_of(document: dict[str, Any], array: np.ndarray[Any, Any]) -> Volume:
    affine = np.array(document["affine"], float)
    if not np.isfinite(affine).all():
        raise ValueError("an affine holds values that are no numbers")
    return Volume(
        array,
        affine,
        coordinate_system=document["coordinate_system"],
        frame_of_reference_uid=document["frame_of_reference_uid"],
    )


def write_algorithm(algorithm: Algorithm) -> dict[str, Any]:
    """Return the document of ``algorithm``."""
    return {
        "name": algorithm.name,
        "version": algorithm.version,
        "family": list(algorithm.family),
        "weights_sha256": algorithm.weights_sha256,
        "parameters": dict(algorithm.parameters),
        "scope": algorithm.scope,
    }


def read_algorithm(document: dict[str, Any]) -> Algorithm:
    """Read what ``write_algorithm`` wrote."""
    return Algorithm(**{**document, "family": Code(*document["family"])})


def _evaluations(evaluations: Mapping[Code, Code]) -> list[list[list[str | None]]]:
    return [[list(name), list(value)] for name, value in evaluations.items()]


def _evaluations_of(document: list[Any]) -> dict[Code, Code]:
    return {Code(*name): Code(*value) for name, value in document}


def _maybe(code: Code | None) -> list[str | None] | None:
    return None if code is None else list(code)


def _code(document: list[Any] | None) -> Code | None:
    return None if document is None else Code(*document)
