"""What a series is, found in the headers of its images: plane, spacing, kind, MR type, CT phase and kernel.

Pure, and silent where the headers are: *unknown* is an answer. ``node.config.characteristics`` lists names and values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom import Dataset

from node.studies.characteristics.characteristic import Certainty, Characteristic, Evidence, unknown
from node.studies.characteristics.contrast import contrast_agent_of, contrast_phase_of
from node.studies.characteristics.geometry import geometry_of
from node.studies.characteristics.image_kind import image_kind_of, slices_among
from node.studies.characteristics.kernel import kernel_of
from node.studies.characteristics.sequence_type import b_values_of, sequence_type_of
from node.studies.frames import split_frames
from node.studies.pydicom_errors import UNREADABLE

__all__ = ["Certainty", "Characteristic", "Characteristics", "characteristics_of"]

Characteristics = Mapping[str, Characteristic]
"""By the names of ``node.config.characteristics``; one that does not apply to the modality is left out."""


def characteristics_of(headers: Sequence[Dataset]) -> Characteristics:
    """Return the characteristics of the images of one series, or of its slices where it has other images as well.

    ``headers``: without pixel data. All are *unknown* when these are damaged.
    """
    try:
        return _characteristics(headers)
    except UNREADABLE as error:
        return {"image_kind": unknown([("headers", type(error).__name__)])}


def _characteristics(headers: Sequence[Dataset]) -> Characteristics:
    images = [frame for header in headers if "Rows" in header for frame in split_frames(header)]
    evidence = Evidence(slices_among(images) or images)
    if not evidence.images:
        return {}
    characteristics = {**geometry_of(evidence), "image_kind": image_kind_of(evidence)}
    if evidence.modality == "MR":
        characteristics |= {"sequence_type": sequence_type_of(evidence), "b_values": b_values_of(evidence)}
    if evidence.modality == "CT":
        characteristics |= {"kernel": kernel_of(evidence), "contrast_phase": contrast_phase_of(evidence)}
    if evidence.modality in ("CT", "MR"):
        characteristics["contrast_agent"] = contrast_agent_of(evidence)
    return characteristics
