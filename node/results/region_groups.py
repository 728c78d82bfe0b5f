"""Measurement groups of regions (TID 1410), and coordinates of measurements (TID 320).

A region in the patient that lies in the plane of an image has two groups with one tracking UID: viewers draw SCOORD and
pass over SCOORD3D, which alone is what the pipeline said. A region with a mask has two as well,
for its outline and for its segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CoordinatesForMeasurement,
    CoordinatesForMeasurement3D,
    FindingSite,
    ImageRegion,
    ImageRegion3D,
    Measurement,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegmentationFrame,
    SourceImageForRegion,
    SourceImageForSegmentation,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from node import pipeline
from node.pipeline import Shape
from node.results.analysis import Source
from node.results.headers import frame_of_reference_uid, references
from node.results.measurement_items import Coordinates, measurement_item, measurement_items
from node.results.placed_region import PlacedRegion, ShapeOnImage, place_shape


def region_groups(
    regions: Sequence[PlacedRegion],
    source: Source,
    headers: Sequence[Dataset],
    algorithm: AlgorithmIdentification,
    segs: Sequence[Dataset] = (),
) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Yield one group for each region, and a second one for its segment in ``segs``, or its place in the patient."""
    segments = {str(item.TrackingUID): (seg, int(item.SegmentNumber)) for seg in segs for item in seg.SegmentSequence}
    for placed in regions:
        region = placed.region
        side = {codes.SCT.Laterality: region.laterality} if region.laterality and not region.site else {}
        shared: dict[str, Any] = {
            "tracking_identifier": TrackingIdentifier(uid=placed.tracking_uid, identifier=placed.tracking_id),
            "finding_type": region.finding,
            "finding_sites": [FindingSite(region.site, region.laterality)] if region.site else None,
            "algorithm_id": algorithm,
        }
        stated: dict[str, Any] = {
            "measurements": measurement_items(placed.measurements()),
            "qualitative_evaluations": [
                QualitativeEvaluation(name, value) for name, value in {**side, **region.evaluations}.items()
            ]
            or None,
        }
        if placed.on_image is not None:
            on_image = ImageRegion(*_graphic(region.shape, placed.on_image), _source_image(headers, placed.on_image))
            yield PlanarROIMeasurementsAndQualitativeEvaluations(**shared, **stated, referenced_region=on_image)
            stated = {}
            if placed.tracking_uid in segments:
                of_segment = _segment(*segments[placed.tracking_uid], headers[placed.on_image.place])
                yield PlanarROIMeasurementsAndQualitativeEvaluations(**shared, referenced_segment=of_segment)
        if not region.shape.sop_instance_uid:
            in_patient = ImageRegion3D(region.shape.graphic_type, _points(region.shape), frame_of_reference_uid(source))
            yield PlanarROIMeasurementsAndQualitativeEvaluations(**shared, **stated, referenced_region=in_patient)


def measurement_on_shapes(measured: pipeline.Measurement, source: Source, headers: Sequence[Dataset]) -> Measurement:
    """Return a measurement with the coordinates that it was inferred from, on an image where they lie in one."""
    coordinates: list[Coordinates] = []
    for shape in measured.shapes:
        on_image = place_shape(shape, source, measured.name.meaning)
        if on_image is None:
            uid = frame_of_reference_uid(source)
            coordinates.append(CoordinatesForMeasurement3D(shape.graphic_type, _points(shape), uid))
        else:
            coordinates.append(CoordinatesForMeasurement(*_graphic(shape, on_image), _source_image(headers, on_image)))
    return measurement_item(measured, coordinates)


def _graphic(shape: Shape, on_image: ShapeOnImage) -> tuple[str, np.ndarray[Any, Any]]:
    """Graphic Type and Graphic Data of an SCOORD (PS3.3 C.18.6.1): a closed line encloses."""
    return "POLYLINE" if shape.graphic_type == "POLYGON" else shape.graphic_type, on_image.points


def _segment(seg: Dataset, number: int, header: Dataset) -> ReferencedSegmentationFrame:
    """Reference to a segment of one image (TID 1410), which has one frame of the same number.

    Either the frame or the segment is named, never both (PS3.3 Table 10-3).
    """
    image = SourceImageForSegmentation(*references([header])[0])
    frame = ReferencedSegmentationFrame(str(seg.SOPClassUID), str(seg.SOPInstanceUID), number, number, image)
    del frame[0].ReferencedSOPSequence[0].ReferencedFrameNumber
    return frame


def _points(shape: Shape) -> np.ndarray[Any, Any]:
    """Points in the patient; those of a flat shape in one plane to more digits than ``Shape`` asks for."""
    points = np.array(shape.points, float)
    if shape.graphic_type not in ("POLYGON", "ELLIPSE"):
        return points
    middle = points.mean(axis=0)
    normal = np.linalg.svd(points - middle)[2][2]
    flat: np.ndarray[Any, Any] = points - np.outer((points - middle) @ normal, normal)
    return flat


def _source_image(headers: Sequence[Dataset], on_image: ShapeOnImage) -> SourceImageForRegion:
    return SourceImageForRegion(*references([headers[on_image.place]])[0])
