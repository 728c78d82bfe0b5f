"""RT Structure Sets: regions agree among the sequences, and contours lie on the images that they name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from node.results.analysis import Source
from node.results.gate.planes import POSITION_TOLERANCE_MM
from node.results.headers import by_frame, frame_key


def contour_faults(dataset: Dataset, source: Source) -> Iterator[str]:
    """Numbers of the regions, frame of reference, and the place of each contour on its image."""
    stated = source.datasets[0].get("FrameOfReferenceUID")
    if stated and {dataset.FrameOfReferenceUID, *_frames_of_reference(dataset)} != {stated}:
        yield "FrameOfReferenceUID is not the source's"
    numbers = [int(roi.ROINumber) for roi in dataset.StructureSetROISequence]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"ROINumber runs {numbers}, not from 1 without gaps"
    for keyword in ("ROIContourSequence", "RTROIObservationsSequence"):
        if [int(item.ReferencedROINumber) for item in dataset[keyword].value] != numbers:
            yield f"{keyword} does not name the regions of StructureSetROISequence"
    images = by_frame(source.datasets)
    for roi in dataset.ROIContourSequence:
        if not roi.get("ContourSequence"):
            yield f"region {roi.ReferencedROINumber} has no contour"
        for contour in roi.get("ContourSequence") or []:
            image = images.get(frame_key(contour.ContourImageSequence[0]))
            fault = "names no source image" if image is None else _place_fault(contour, image)
            if fault:
                yield f"a contour of region {roi.ReferencedROINumber} {fault}"


def _frames_of_reference(dataset: Dataset) -> set[str]:
    regions = {str(roi.ReferencedFrameOfReferenceUID) for roi in dataset.StructureSetROISequence}
    return regions | {str(item.FrameOfReferenceUID) for item in dataset.ReferencedFrameOfReferenceSequence}


def _place_fault(contour: Dataset, image: Dataset) -> str:
    """Why it is no closed contour within the pixels of ``image``; empty when it is."""
    points = _points(contour)
    if contour.ContourGeometricType != "CLOSED_PLANAR" or len(points) < 3:
        return "is not closed"
    if int(contour.NumberOfContourPoints) != len(points):
        return f"has {len(points)} points, and states {contour.NumberOfContourPoints}"
    cosines = np.asarray(image.ImageOrientationPatient, float)
    away = points - np.asarray(image.ImagePositionPatient, float)
    if np.abs(away @ np.cross(cosines[:3], cosines[3:])).max() > POSITION_TOLERANCE_MM:
        return "does not lie on its image"
    rows, columns = (away @ direction for direction in (cosines[3:], cosines[:3]))
    places = np.stack([rows, columns], axis=1) / np.asarray(image.PixelSpacing, float)
    if (places < -0.51).any() or (places > np.array([image.Rows, image.Columns]) - 0.49).any():
        return "leaves its image"
    return ""


def _points(contour: Dataset) -> NDArray[np.float64]:
    """Contour Data as ``(n, 3)``, from its bytes unless it is decoded: pydicom makes an object of each number."""
    element = contour.get_item("ContourData")
    raw = isinstance(element, RawDataElement)
    return np.reshape(np.array(element.value.split(b"\\") if raw else contour.ContourData, float), (-1, 3))
