"""Kind of the images of a series: original, or what was computed of others, by Image Type and SOP Class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from node.studies.attribute_values import of_each, values_of
from node.studies.characteristics.characteristic import Characteristic, Evidence, certain, likely, unknown

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_TYPE, _TECHNIQUE, _COMPONENT = "ImageType", "VolumeBasedCalculationTechnique", "ComplexImageComponent"
_KINDS = (
    ("capture", ("SCREEN_SAVE", "SCREENSHOT", "SCREEN_CAPTURE")),
    ("localizer", ("LOCALIZER", "SCOUT", "TOPOGRAM", "SURVEY")),
    ("MinIP", ("MINIP", "MIN_IP", "MNIP")),
    ("MIP", ("MIP", "MAX_IP", "PROJECTION_IMAGE")),
    ("rendering", ("VRT", "SSD", "VOLUME_RENDER", "SURFACE_RENDER")),
    ("map", (
        "ADC", "ADC_UNSPECIFIED", "EADC", "FA", "FRACTIONAL_ANISOTROPY", "T1_MAP", "T2_MAP", "T2_STAR_MAP", "B0_MAP",
        "FIELD_MAP", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "VELOCITY_MAP", "ELASTICITY",
    )),
    ("phase", ("P", "PHASE", "PHASE_MAP")),
)  # fmt: skip
"""Values of Image Type (0008,0008), Complex Image Component (0008,9208) and Volume Based Calculation Technique."""
_REFORMATTED = ("MPR", "CURVED_MPR", "CSA_MPR", "REFORMATTED")
"""Only of derived images: one scanner writes MPR in originals for the sequence MPRAGE."""


_NO_SLICES = ("localizer", "MIP", "MinIP", "rendering", "capture")


def image_kind_of(evidence: Evidence) -> Characteristic:
    """Return the kind of most of the images."""
    counted = Counter(kinds_of(evidence.images))
    kind, count = counted.most_common(1)[0]
    basis = evidence.basis(*evidence.present("SOPClassUID") if kind in ("capture", "map") else (), _TYPE)
    basis += evidence.basis(*evidence.present(_TECHNIQUE, _COMPONENT))
    if not kind or count <= len(evidence.images) / 2:
        return unknown(basis)
    state = certain if count == len(evidence.images) else likely
    return state(kind, basis)


def is_slice(image: Dataset) -> bool:
    """Return whether an image is no localizer, projection or screenshot, which may stand among the slices."""
    return kind_of(image) not in _NO_SLICES


def slices_among(images: Sequence[Dataset]) -> list[Dataset]:
    """Return those of the images that ``is_slice``."""
    return [image for image, kind in zip(images, kinds_of(images), strict=True) if kind not in _NO_SLICES]


def kinds_of(images: Sequence[Dataset]) -> list[str]:
    """Return ``kind_of`` of each image."""
    return of_each(images, ("SOPClassUID", _TYPE, _TECHNIQUE, _COMPONENT), kind_of)


def words_of(image: Dataset) -> frozenset[str]:
    """Return the values of Image Type and its kin, with ``_`` for what is neither letter nor digit."""
    return frozenset(_words(image))


def _words(image: Dataset) -> Iterator[str]:
    for keyword in (_TYPE, _TECHNIQUE, _COMPONENT):
        for value in set(values_of(image, keyword)):  # a hostile header has millions that are alike
            yield "_".join(re.findall("[A-Z0-9]+", value.upper()))


def kind_of(image: Dataset) -> str:
    """Return the kind of one image; empty when it is not known."""
    sop_class = str(image.get("SOPClassUID") or "")
    words = words_of(image)
    if sop_class.startswith(_SECONDARY_CAPTURE):
        return "capture"
    if sop_class == _PARAMETRIC_MAP:
        return "map"
    for kind, values in _KINDS:
        if not words.isdisjoint(values):
            return kind
    if "ORIGINAL" in words:
        return "original"
    if "DERIVED" in words:
        return "reformatted" if not words.isdisjoint(_REFORMATTED) else "derived"
    return ""
