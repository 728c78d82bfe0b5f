"""Coordinates in reports: on their image, in the source's frame of reference, and the same place in both systems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from highdicom.spatial import ReferenceToImageTransformer
from numpy.typing import NDArray
from pydicom import Dataset

from node.results.analysis import Source
from node.results.headers import by_frame, frame_key, frame_of_reference_uid
from node.results.report_items import measurement_groups

Images = Mapping[tuple[str, int | None], Dataset]
_BEYOND = 1e-3
"""Pixels: coordinates are 32 bit floats."""
_APART = 0.05
"""Pixels by which the points of a shape may differ when both systems are compared."""


def coordinate_faults(report: Dataset, source: Source) -> Iterator[str]:
    """Every SCOORD lies on the source image that it names; every SCOORD3D in the frame of reference of the source.

    Where a region is stated in both, its points are the same (computed by highdicom, from the image's own header).
    """
    images = by_frame(source.datasets)
    for group in measurement_groups(report):
        for item in (group, *group.ContentSequence):
            for child in item.get("ContentSequence") or ():
                yield from _item_faults(child, images, frame_of_reference_uid(source))
    yield from _contradictions(report, images)


def _item_faults(item: Dataset, images: Images, frame_of_reference: str) -> Iterator[str]:
    if item.ValueType == "SCOORD3D" and item.get("ReferencedFrameOfReferenceUID") != frame_of_reference:
        yield "an SCOORD3D is in another frame of reference than the source"
    if item.ValueType == "SCOORD":
        image, points = _image_of(item, images), _points(item)
        if image is None:
            yield "an SCOORD is on no source image"
        elif (points < -_BEYOND).any() or (points > [image.Columns + _BEYOND, image.Rows + _BEYOND]).any():
            yield "an SCOORD leaves its image"


def _contradictions(report: Dataset, images: Images) -> Iterator[str]:
    """Compare the regions of one tracking UID, which have one group in each system."""
    regions: dict[tuple[str, str], Dataset] = {}
    for group in measurement_groups(report):
        tracking = next((str(item.UID) for item in group.ContentSequence if item.ValueType == "UIDREF"), "")
        regions |= {(tracking, item.ValueType): item for item in group.ContentSequence if "GraphicData" in item}
    for (tracking, kind), item in regions.items():
        other = regions.get((tracking, "SCOORD"))
        image = None if other is None else _image_of(other, images)
        if kind == "SCOORD3D" and other is not None and image is not None:
            transform = ReferenceToImageTransformer(
                image_position=[float(v) for v in image.ImagePositionPatient],
                image_orientation=[float(v) for v in image.ImageOrientationPatient],
                pixel_spacing=[float(v) for v in image.PixelSpacing],
            )
            projected, drawn = transform(_points(item))[:, :2], _points(other)
            if projected.shape != drawn.shape or np.abs(projected - drawn).max() > _APART:
                yield f"SCOORD and SCOORD3D of {tracking} are not the same place"


def _image_of(item: Dataset, images: Images) -> Dataset | None:
    named = (frame_key(child.ReferencedSOPSequence[0]) for child in item.get("ContentSequence") or ())
    return next((images[key] for key in named if key in images), None)


def _points(item: Dataset) -> NDArray[np.float64]:
    """Graphic Data as points of two coordinates, or three in the patient."""
    return np.reshape(np.array(item.GraphicData, float), (-1, 3 if item.ValueType == "SCOORD3D" else 2))
