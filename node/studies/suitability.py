"""Suitability: whether one image is a greyscale slice, as its Modality states. Checked for every image.

The words stand in reports: they complete "the image is ..." or "its ...", for a radiologist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, MutableSequence, Sequence
from math import isfinite, isnan, nan

from pydicom import Dataset
from pydicom.uid import (
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from node.studies.attribute_values import of_each
from node.studies.grid import numbers
from node.studies.left_out import left_out_text
from node.studies.pydicom_errors import UNREADABLE
from node.studies.result_mark import result_mark
from node.translation import joined, marked, sentence
from node.wording import written

_CLASSES = {
    "CT": {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage},
    "MR": {MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage},
    "PT": {
        PositronEmissionTomographyImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
    },
}
"""SOP Classes of slices, by Modality (PS3.3 A.3, A.4, A.21, A.36, A.38, A.56, A.70 to A.72)."""
_TOMOSYNTHESIS = (
    BreastTomosynthesisImageStorage,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_LOCALIZERS = ("LOCALIZER", "SCOUT", "TOPOGRAM")
_PICTURES = (
    "MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION_IMAGE", "VRT", "SSD", "VOLUME_RENDER", "SURFACE_RENDER",
    "CURVED_MPR", "SCREEN_SAVE", "SCREENSHOT",
)  # fmt: skip
"""In Image Type (0008,0008) or Volume Based Calculation Technique (0008,9207): computed views and screenshots."""
_HOUNSFIELD = ("", "HU", "US")
"""Rescale Type of CT values (PS3.3 C.11.1.1.2); US: unspecified, which some scanners write for HU."""
_EXAMINED = (
    "Modality", "SOPClassUID", "ImageType", "VolumeBasedCalculationTechnique", "Manufacturer", "SoftwareVersions",
    "ContributingEquipmentSequence", "PhotometricInterpretation", "SamplesPerPixel", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "PerFrameFunctionalGroupsSequence", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "PixelSpacing",
)  # fmt: skip
"""All that ``slice_fault`` looks at."""
_AIR, _BONE = -900.0, 900.0
"""HU that the stored values of a CT must be able to reach."""
_SLOPES = {"CT": (1e-3, 100.0)}
_ANY_SLOPE = (1e-12, 1e6)
_INTERCEPTS = {"CT": 32768.0}
_ANY_INTERCEPT = 1e9
_PIXEL_SPACING_MM = (0.01, 20.0)
"""Values beyond are mistakes, or attacks: no scanner has them."""


def slice_faults(headers: Sequence[Dataset]) -> list[str]:
    """Return ``slice_fault`` of each image or frame of a series, most of which state the same."""
    return of_each(headers, _EXAMINED, slice_fault)


def slice_fault(header: Dataset) -> str:
    """Return why an image or frame cannot be part of a volume; empty if it can."""
    modality = str(header.get("Modality") or "")
    fault = _mark_fault(header) or _class_fault(header, modality) or _kind_fault(header) or _pixel_fault(header)
    if fault or "PerFrameFunctionalGroupsSequence" in header:  # which would say the rest, and could not be taken apart
        return fault
    return _rescale_fault(header, modality) or _spacing_fault(header)


def image_fault(header: Dataset, *, tomosynthesis: bool = False) -> str:
    """Return why an image or frame cannot be analysed on its own; empty if it can. Images in colour can.

    ``tomosynthesis``: slices of a tomosynthesis are wanted, and nothing else.
    """
    uid = str(header.get("SOPClassUID") or "")
    if tomosynthesis and uid != BreastTomosynthesisImageStorage:
        return sentence("it is no slice of a tomosynthesis")
    if uid in _TOMOSYNTHESIS and not tomosynthesis:
        return sentence("it is a tomosynthesis, whose frames are no mammograms")
    if "Rows" not in header:
        return sentence("it is no image")
    if "NumberOfFrames" in header and _number(header, "NumberOfFrames", 1) > 1:
        return sentence("it has more frames than can be taken apart")
    return _mark_fault(header) or _size_fault(header)


def count_reasons(reasons: Iterable[str]) -> str:
    """Return how many images are left out by reason, the most frequent first."""
    counted = Counter(reasons).most_common()
    return joined((left_out_text(count, reason) for reason, count in counted), "; ")


def _mark_fault(header: Dataset) -> str:
    mark = result_mark(header)
    return sentence("it is a result of an AI node ({mark})", mark=mark) if mark else ""


def _class_fault(header: Dataset, modality: str) -> str:
    uid = UID(str(header.get("SOPClassUID") or ""))
    if modality not in _CLASSES or not uid or uid in _CLASSES[modality]:
        return ""
    if uid.is_private or uid.name == uid:
        return sentence("it is stored in a private SOP Class, which holds no {modality} slices", modality=modality)
    return sentence("it is stored as {name}, which holds no {modality} slices", name=uid.name, modality=modality)


def _kind_fault(header: Dataset) -> str:
    values = [*_texts(header, "ImageType"), *_texts(header, "VolumeBasedCalculationTechnique")]
    words = [f"_{'_'.join(re.findall('[A-Z0-9]+', value.upper()))}_" for value in values]
    for kinds, text in (
        (_LOCALIZERS, marked("it is a localizer (ImageType {found})")),
        (_PICTURES, marked("it is a computed view, not a slice (ImageType {found})")),
    ):
        image_type = next(
            (value for value, word in zip(values, words, strict=True) for k in kinds if f"_{k}_" in word), ""
        )
        if image_type:
            return sentence(text, found=image_type)
    return ""


def _pixel_fault(header: Dataset) -> str:
    stated = str(header.get("PhotometricInterpretation") or _GREY[1]).strip()
    if stated not in _GREY or _number(header, "SamplesPerPixel", 1) != 1:
        return sentence("the images are in colour ({stated}); grey-scale images are needed", stated=stated)
    return _size_fault(header)


def _size_fault(header: Dataset) -> str:
    for keyword in ("Rows", "Columns"):
        if "Rows" in header and not _is_size(header, keyword):
            return sentence("its {keyword} is no number of pixels", keyword=keyword)
    allocated = _number(header, "BitsAllocated", 16)
    stored = _number(header, "BitsStored", allocated)
    if not 1 <= stored <= allocated <= 64:
        return sentence(
            "its BitsStored {stored} and BitsAllocated {allocated} contradict each other",
            stored=written(stored),
            allocated=written(allocated),
        )
    return ""


def _rescale_fault(header: Dataset, modality: str) -> str:
    slope, intercept = _number(header, "RescaleSlope", 1), _number(header, "RescaleIntercept", 0)
    lowest, highest = _SLOPES.get(modality, _ANY_SLOPE)
    if isnan(slope) or isnan(intercept):
        keyword = "RescaleSlope" if isnan(slope) else "RescaleIntercept"
        return sentence("its {keyword} is no number", keyword=keyword)
    if not lowest <= abs(slope) <= highest:
        return sentence("its {keyword} {value} is not plausible", keyword="RescaleSlope", value=written(slope))
    if abs(intercept) > _INTERCEPTS.get(modality, _ANY_INTERCEPT):
        return sentence("its {keyword} {value} is not plausible", keyword="RescaleIntercept", value=written(intercept))
    return _hounsfield_fault(header, slope, intercept) if modality == "CT" else ""


def _hounsfield_fault(header: Dataset, slope: float, intercept: float) -> str:
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        if header.get(keyword) in (None, ""):
            return sentence("its {keyword} is missing: its values are no Hounsfield units", keyword=keyword)
    unit = str(header.get("RescaleType") or "").strip().upper()
    if unit not in _HOUNSFIELD:
        return sentence("its values are no Hounsfield units (RescaleType {unit})", unit=unit)
    bits = int(_number(header, "BitsStored", 16))
    signed = _number(header, "PixelRepresentation", 0) == 1
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    lowest, highest = sorted(slope * value + intercept for value in stored)
    if lowest > _AIR or highest < _BONE:
        return sentence(
            "its values can only be {lowest} to {highest}: these are no Hounsfield units",
            lowest=written(lowest),
            highest=written(highest),
        )
    return ""


def _spacing_fault(header: Dataset) -> str:
    spacing = numbers(header, "PixelSpacing", 2)
    lowest, highest = _PIXEL_SPACING_MM
    if spacing is not None and (spacing > 0).all() and not ((spacing >= lowest) & (spacing <= highest)).all():
        return sentence(
            "its pixels are {down} x {across} mm, which is not plausible",
            down=written(spacing[0]),
            across=written(spacing[1]),
        )
    return ""


def _is_size(header: Dataset, keyword: str) -> bool:
    """Whether a value is a number of pixels, whose VR may be another one as long as it can be read as an integer."""
    try:
        return int(header[keyword].value) >= 1
    except UNREADABLE:
        return False


def _number(header: Dataset, keyword: str, default: float) -> float:
    """``default`` when absent or empty, NaN when it is no number."""
    try:
        value = header.get(keyword)
        if value in (None, ""):
            return default
    except (ArithmeticError, TypeError, ValueError):
        return nan
    if isinstance(value, int | float):
        return float(value) if isfinite(value) else nan
    values = numbers(header, keyword, 1)
    return nan if values is None else float(values[0])


def _texts(header: Dataset, keyword: str) -> Sequence[str]:
    value = header.get(keyword)
    return (
        [] if value is None else [str(text) for text in value] if isinstance(value, MutableSequence) else [str(value)]
    )
