"""Findings as the document and the arrays of a handover, and back.

The document is what JSON can say; every mask, map and derived series is an array that it names. What is read here was
written by a process that ran a model: whatever the values raise, ``node.inference.handover`` calls damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from highdicom import Volume

from node.inference.document_values import (
    Arrays,
    read_code,
    read_evaluations,
    read_measurements,
    read_picture,
    read_text,
    read_volume,
    write_code,
    write_evaluations,
    write_measurements,
    write_picture,
    write_text,
    write_volume,
)
from node.inference.region_document import read_region, write_region
from node.inference.segment_document import read_segment, write_segments
from node.pipeline import (
    Algorithm,
    Assertion,
    Code,
    DerivedSeries,
    EmbeddingSpace,
    Findings,
    Lesion,
    Map,
    MeasurementGroup,
)


def write_findings(findings: Findings, arrays: Arrays) -> dict[str, Any]:
    """Return the document of ``findings``; their voxels join ``arrays``, those of a label map once."""
    segments = write_segments(findings.all_segments, arrays)
    return {
        "lesions": [
            {
                "segment": segment,
                "finding": list(lesion.finding),
                "site": write_code(lesion.site),
                "laterality": write_code(lesion.laterality),
                "measurements": write_measurements(lesion.measurements),
                "probability": None if lesion.probability is None else float(lesion.probability),
                "tracking_uid": lesion.tracking_uid,
                "evaluations": write_evaluations(lesion.evaluations),
                "embedding": list(lesion.embedding),
            }
            for lesion, segment in zip(findings.lesions, segments, strict=False)
        ],
        "regions": [write_region(region, arrays) for region in findings.regions],
        "segments": segments[len(findings.lesions) :],
        "derived": [
            {
                "volume": write_volume(series.volume, np.asarray(series.volume.array), arrays),
                "description": series.description,
                "derivation": list(series.derivation),
            }
            for series in findings.derived
        ],
        "maps": [
            {
                "name": entry.name,
                "volume": write_volume(entry.volume, np.asarray(entry.volume.array), arrays),
                "quantity": list(entry.quantity),
                "unit": list(entry.unit),
            }
            for entry in findings.maps
        ],
        "pictures": [write_picture(picture, arrays) for picture in findings.pictures],
        "remarks": list(map(write_text, findings.remarks)),
        "looked_for": [list(code) for code in findings.looked_for],
        "assertions": [
            [
                list(assertion.finding),
                assertion.presence,
                None if assertion.probability is None else float(assertion.probability),
                assertion.operating_point and [float(limit) for limit in assertion.operating_point],
            ]
            for assertion in findings.assertions
        ],
        "measurements": write_measurements(findings.measurements),
        "groups": [
            {
                "label": group.label,
                "finding": list(group.finding),
                "site": write_code(group.site),
                "laterality": write_code(group.laterality),
                "measurements": write_measurements(group.measurements),
                "evaluations": write_evaluations(group.evaluations),
            }
            for group in findings.groups
        ],
        "evaluations": write_evaluations(findings.evaluations),
        "partial": write_text(findings.partial),
        "cut_off": write_text(findings.cut_off),
        "embedding_space": _write_space(findings.embedding_space),
    }


def read_findings(document: dict[str, Any], arrays: Mapping[str, Any]) -> Findings:
    """Read what ``write_findings`` wrote."""
    maps: dict[str, Volume] = {}
    return Findings(
        lesions=tuple(
            Lesion(
                segment=read_segment(lesion["segment"], arrays, maps),
                finding=Code(*lesion["finding"]),
                site=read_code(lesion["site"]),
                laterality=read_code(lesion["laterality"]),
                measurements=read_measurements(lesion["measurements"]),
                probability=lesion["probability"],
                tracking_uid=lesion["tracking_uid"],
                evaluations=read_evaluations(lesion["evaluations"]),
                embedding=tuple(lesion.get("embedding", ())),  # absent: left by an older version
            )
            for lesion in document["lesions"]
        ),
        regions=tuple(
            read_region(region, arrays)
            for region in document.get("regions", ())  # absent: left by an older version
        ),
        segments=tuple(read_segment(segment, arrays, maps) for segment in document["segments"]),
        derived=tuple(
            DerivedSeries(
                volume=read_volume(series["volume"], arrays[series["volume"]["array"]]),
                description=series["description"],
                derivation=Code(*series["derivation"]),
            )
            for series in document["derived"]
        ),
        maps=tuple(
            Map(
                name=entry["name"],
                volume=read_volume(entry["volume"], arrays[entry["volume"]["array"]]),
                quantity=Code(*entry["quantity"]),
                unit=Code(*entry["unit"]),
            )
            for entry in document["maps"]
        ),
        pictures=tuple(read_picture(picture, arrays) for picture in document.get("pictures", ())),
        remarks=tuple(map(read_text, document["remarks"])),
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
        measurements=read_measurements(document.get("measurements", ())),  # absent: left by an older version
        groups=tuple(
            MeasurementGroup(
                label=group["label"],
                finding=Code(*group["finding"]),
                site=read_code(group["site"]),
                laterality=read_code(group["laterality"]),
                measurements=read_measurements(group["measurements"]),
                evaluations=read_evaluations(group["evaluations"]),
            )
            for group in document.get("groups", ())
        ),
        evaluations=read_evaluations(document["evaluations"]),
        partial=read_text(document["partial"]),
        cut_off=read_text(document["cut_off"]),
        embedding_space=_read_space(document.get("embedding_space")),
    )


def _write_space(space: EmbeddingSpace | None) -> dict[str, Any] | None:
    if space is None:
        return None
    return {"name": space.name, "dimensions": space.dimensions, "statement": write_text(space.statement)}


def _read_space(document: dict[str, Any] | None) -> EmbeddingSpace | None:
    return None if document is None else EmbeddingSpace(**{**document, "statement": read_text(document["statement"])})


def write_algorithm(algorithm: Algorithm) -> dict[str, Any]:
    """Return the document of ``algorithm``."""
    return {
        "name": algorithm.name,
        "version": algorithm.version,
        "family": list(algorithm.family),
        "weights_sha256": algorithm.weights_sha256,
        "parameters": dict(algorithm.parameters),
        "scope": write_text(algorithm.scope),
    }


def read_algorithm(document: dict[str, Any]) -> Algorithm:
    """Read what ``write_algorithm`` wrote."""
    return Algorithm(**{**document, "family": Code(*document["family"]), "scope": read_text(document["scope"])})
