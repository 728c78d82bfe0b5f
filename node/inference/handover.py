"""Handover from infer to encode: the findings of a pipeline as one file, complete or absent.

JSON and plain arrays in one ``.npz`` file, never pickle. It is written next to its place, synced and renamed, so that a
killed worker leaves the old file or the new one. Masks are cropped to what is not zero.

The process that writes it ran a model, so that the reader believes nothing: see ``node.inference.array_file``.
"""

from __future__ import annotations

import json
import os
import struct
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import Volume
from scipy.ndimage import find_objects

from node.errors import InputError
from node.inference.array_file import arrays_in
from node.pipeline import Algorithm, Assertion, Code, DerivedSeries, Findings, Lesion, Map, Measurement, Segment
from node.spool.files import sync_folder

_NAME = "findings.npz"
_DAMAGED = (
    ArithmeticError, AttributeError, EOFError, InputError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""From archive, arrays and document, any of which a model may have written."""
_DOCUMENT_BYTES = 1 << 24
_LEAST_BYTES, _BYTES_PER_VOXEL = 1 << 28, 256
"""Largest file: this much, and 64 maps of floats on the grid of the series."""
_LEAST_VOXELS, _FINER = 1 << 24, 32
"""Largest array: this much, and a grid that is a third as wide as that of the series in each direction."""
_Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Handover:
    """One finished run of a pipeline."""

    findings: Findings
    algorithm: Algorithm
    device: str
    analysed_at: datetime
    """End of the run, with time zone."""
    timings: Mapping[str, float]
    """Seconds by part: ``load``, ``read``, ``run``."""
    peak_memory_mib: Mapping[str, float]
    """``host`` and, on a CUDA device, ``device``."""
    inputs: tuple[str, ...] = ()
    """See ``Analysis.inputs``."""


def save(folder: Path, handover: Handover) -> None:
    """Write into ``folder``, which is made; durable when this returns. An earlier handover is replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: _Arrays = {}
    document = {
        "findings": _findings(handover.findings, arrays),
        "algorithm": _algorithm(handover.algorithm),
        "device": handover.device,
        "analysed_at": handover.analysed_at.isoformat(),
        "timings": dict(handover.timings),
        "peak_memory_mib": dict(handover.peak_memory_mib),
        "inputs": list(handover.inputs),
    }
    arrays["document"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    for left in folder.glob("*.part"):  # of a worker that was killed
        left.unlink(missing_ok=True)
    part = folder / f"{uuid.uuid4().hex}.part"
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / _NAME)
    for changed in (folder, folder.parent):
        sync_folder(changed)


def move(source: Path, folder: Path) -> None:
    """Move a saved handover to another folder durably, replacing an older one; do nothing if there is none.

    Both are on one file system.
    """
    if (source / _NAME).is_file():  # the pipeline may have made anything else of that name
        folder.mkdir(parents=True, exist_ok=True)
        (source / _NAME).replace(folder / _NAME)
        for changed in (folder, folder.parent):
            sync_folder(changed)


def load(folder: Path, voxels: int) -> Handover:
    """Read what ``save`` wrote about a series of this many ``voxels``.

    Raises ``InputError`` when it is missing or damaged, or larger than any result on such a series.
    """
    try:
        with arrays_in(
            folder / _NAME,
            most_bytes=_LEAST_BYTES + _BYTES_PER_VOXEL * voxels,
            most_elements=_LEAST_VOXELS + _FINER * voxels,
        ) as arrays:
            document = _document(arrays["document"].tobytes())
            return Handover(
                findings=_findings_of(document["findings"], arrays),
                algorithm=_algorithm_of(document["algorithm"]),
                device=document["device"],
                analysed_at=datetime.fromisoformat(document["analysed_at"]),
                timings=document["timings"],
                peak_memory_mib=document["peak_memory_mib"],
                inputs=tuple(document.get("inputs", ())),  # absent: left by an older version
            )
    except _DAMAGED as error:
        raise InputError(f"{folder / _NAME}: no usable handover ({error}); retry the job from infer") from error


def _document(text: bytes) -> Any:
    if len(text) > _DOCUMENT_BYTES:
        raise InputError(f"its document has {len(text)} bytes, at most {_DOCUMENT_BYTES} are read")
    return json.loads(text)


def _findings(findings: Findings, arrays: _Arrays) -> dict[str, Any]:
    return {
        "lesions": [
            {
                "segment": _segment(lesion.segment, arrays),
                "finding": list(lesion.finding),
                "site": _maybe(lesion.site),
                "laterality": _maybe(lesion.laterality),
                "measurements": [
                    [list(m.name), float(m.value), list(m.unit), _maybe(m.derivation)] for m in lesion.measurements
                ],
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
            [list(one.finding), one.presence, None if one.probability is None else float(one.probability)]
            for one in findings.assertions
        ],
        "evaluations": _evaluations(findings.evaluations),
        "partial": findings.partial,
        "cut_off": findings.cut_off,
    }


def _findings_of(document: dict[str, Any], arrays: Mapping[str, Any]) -> Findings:
    return Findings(
        lesions=tuple(
            Lesion(
                segment=_segment_of(lesion["segment"], arrays),
                finding=Code(*lesion["finding"]),
                site=_code(lesion["site"]),
                laterality=_code(lesion["laterality"]),
                measurements=tuple(
                    Measurement(name=Code(*name), value=value, unit=Code(*unit), derivation=_code(derivation))
                    for name, value, unit, derivation in lesion["measurements"]
                ),
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
            Assertion(finding=Code(*finding), presence=presence, probability=probability)
            for finding, presence, probability in document["assertions"]
        ),
        evaluations=_evaluations_of(document["evaluations"]),
        partial=document["partial"],
        cut_off=document["cut_off"],
    )


def _segment(segment: Segment, arrays: _Arrays) -> dict[str, Any]:
    inside = np.asarray(segment.mask.array) != 0
    boxes = find_objects(inside.astype(np.uint8))
    box = boxes[0] if boxes else (slice(0, 0),) * 3
    return {
        "label": segment.label,
        "category": list(segment.category),
        "type": list(segment.type),
        "colour": segment.colour and list(segment.colour),
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
    )


def _volume(volume: Volume, array: np.ndarray[Any, Any], arrays: _Arrays) -> dict[str, Any]:
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


def _algorithm(algorithm: Algorithm) -> dict[str, Any]:
    return {
        "name": algorithm.name,
        "version": algorithm.version,
        "family": list(algorithm.family),
        "weights_sha256": algorithm.weights_sha256,
        "parameters": dict(algorithm.parameters),
        "scope": algorithm.scope,
    }


def _algorithm_of(document: dict[str, Any]) -> Algorithm:
    return Algorithm(**{**document, "family": Code(*document["family"])})


def _evaluations(evaluations: Mapping[Code, Code]) -> list[list[list[str | None]]]:
    return [[list(name), list(value)] for name, value in evaluations.items()]


def _evaluations_of(document: list[Any]) -> dict[Code, Code]:
    return {Code(*name): Code(*value) for name, value in document}


def _maybe(code: Code | None) -> list[str | None] | None:
    return None if code is None else list(code)


def _code(document: list[Any] | None) -> Code | None:
    return None if document is None else Code(*document)
