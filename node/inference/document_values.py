"""Codes, measurements and voxels in the document of a handover, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from highdicom import Volume

from node.pipeline import Code, Measurement, Picture, Sentence, Shape

Arrays = dict[str, np.ndarray[Any, Any]]
"""By the name that the document uses."""


def write_text(text: str) -> Any:
    """Return the document of a text, with its translations where it has them."""
    return [str(text), dict(text.translations)] if isinstance(text, Sentence) else text


def read_text(document: Any) -> str:
    """Read what ``write_text`` wrote."""
    if isinstance(document, str):
        return document
    text, translations = document
    return Sentence(str(text), {str(language): str(translated) for language, translated in translations.items()})


def write_measurements(measurements: Sequence[Measurement]) -> list[list[Any]]:
    """Return the document of measurements."""
    return [
        [list(m.name), float(m.value), list(m.unit), write_code(m.derivation), [write_shape(s) for s in m.shapes]]
        for m in measurements
    ]


def read_measurements(document: Sequence[Sequence[Any]]) -> tuple[Measurement, ...]:
    """Read what ``write_measurements`` wrote."""
    return tuple(
        Measurement(
            name=Code(*name),
            value=value,
            unit=Code(*unit),
            derivation=read_code(derivation),
            shapes=tuple(read_shape(shape) for of in shapes for shape in of),
        )
        for name, value, unit, derivation, *shapes in document  # without shapes: left by an older version
    )


def write_shape(shape: Shape) -> dict[str, Any]:
    """Return the document of a shape."""
    points = [[float(value) for value in point] for point in shape.points]
    place = {"sop_instance_uid": str(shape.sop_instance_uid), "frame": shape.frame and int(shape.frame)}
    return {"graphic_type": shape.graphic_type, "points": points, **place}


def read_shape(document: dict[str, Any]) -> Shape:
    """Read what ``write_shape`` wrote."""
    return Shape(**{**document, "points": tuple(tuple(map(float, point)) for point in document["points"])})


def write_volume(volume: Volume, array: np.ndarray[Any, Any], arrays: Arrays) -> dict[str, Any]:
    """Where and how the voxels lie; ``array``, which may be a part of them, joins ``arrays``."""
    name = f"array{len(arrays)}"
    arrays[name] = array
    return {
        "array": name,
        "affine": np.asarray(volume.affine, float).tolist(),
        "coordinate_system": volume.coordinate_system.value,
        "frame_of_reference_uid": volume.frame_of_reference_uid and str(volume.frame_of_reference_uid),
    }


def read_volume(document: dict[str, Any], array: np.ndarray[Any, Any]) -> Volume:
    """Read what ``write_volume`` wrote, with the voxels in ``array``."""
    affine = np.array(document["affine"], float)
    if not np.isfinite(affine).all():
        raise ValueError("an affine holds values that are no numbers")
    return Volume(
        array,
        affine,
        coordinate_system=document["coordinate_system"],
        frame_of_reference_uid=document["frame_of_reference_uid"],
    )


def write_picture(picture: Picture, arrays: Arrays) -> dict[str, str]:
    """Return the document of a picture; its pixels join ``arrays``."""
    name = f"array{len(arrays)}"
    arrays[name] = np.asarray(picture.pixels)
    return {"label": picture.label, "array": name}


def read_picture(document: Mapping[str, str], arrays: Mapping[str, Any]) -> Picture:
    """Read what ``write_picture`` wrote."""
    return Picture(label=document["label"], pixels=arrays[document["array"]])


def write_evaluations(evaluations: Mapping[Code, Code]) -> list[list[list[str | None]]]:
    """Return the document of evaluations."""
    return [[list(name), list(value)] for name, value in evaluations.items()]


def read_evaluations(document: list[Any]) -> dict[Code, Code]:
    """Read what ``write_evaluations`` wrote."""
    return {Code(*name): Code(*value) for name, value in document}


def write_code(code: Code | None) -> list[str | None] | None:
    """Return the document of a code."""
    return None if code is None else list(code)


def read_code(document: list[Any] | None) -> Code | None:
    """Read what ``write_code`` wrote."""
    return None if document is None else Code(*document)
