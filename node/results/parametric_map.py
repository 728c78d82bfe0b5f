"""Parametric Map (PS3.3 A.75): a quantity in every voxel, for example a probability, as 32 bit floats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from highdicom import VOILUTTransformation, Volume, VolumeGeometry
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from node.errors import EncodeError
from node.pipeline import Map
from node.results.analysis import Analysis, Source
from node.results.equipment import MANUFACTURER, serial_number, software_versions
from node.results.headers import as_single, describe_body_part
from node.results.identity import noted, plain
from node.results.naming import derived_description, numbered_place, series_number
from node.results.uids import derive_uid


def encode_map(
    analysis: Analysis,
    source: Source,
    headers: Sequence[Dataset],
    *,
    of: Map,
    geometry: VolumeGeometry,
    place: int,
    key: str,
) -> ParametricMap | None:
    """Build the map of the slices between the first and the last that is not zero; ``None`` when all are zero.

    Frames are in the order of ``headers``, along the slice normal: viewers take them in the order of the file.
    Raises ``EncodeError`` for values that are no numbers.
    """
    values = _of_images(on_source(of.volume, geometry)[list(source.slices)], source)
    if not np.isfinite(values).all():
        raise EncodeError(f"Map {of.name!r} holds values that are no numbers; fix the pipeline")
    used = np.flatnonzero(values.any(axis=(1, 2)))
    if not used.size:
        return None
    part = slice(int(used[0]), int(used[-1]) + 1)
    description = plain(of.name)
    low, high = float(values[part].min()), float(values[part].max())
    first = Dataset()
    first.update(headers[0])
    first.update(headers[part.start])
    try:
        parametric_map = ParametricMap(
            source_images=[as_single(h) for h in (first, *headers[part.start + 1 : part.stop])],
            pixel_array=values[part],
            series_instance_uid=derive_uid(key, "parametric map", place, "series"),
            series_number=series_number(analysis, source, numbered_place(len(analysis.derived) + place)),
            sop_instance_uid=derive_uid(key, "parametric map", place),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=plain(analysis.algorithm.name),
            software_versions=software_versions(analysis)[0],
            device_serial_number=serial_number(analysis),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[
                RealWorldValueMapping(
                    lut_label=plain(of.name, 16),
                    lut_explanation=description,
                    unit=of.unit,
                    value_range=(low, high),
                    slope=1,
                    intercept=0,
                    quantity_definition=of.quantity,
                )
            ],
            voi_lut_transformations=[
                VOILUTTransformation((low + high) / 2, high - low or 1.0, voi_lut_function="LINEAR_EXACT")
            ],
            content_label="MAP",
            content_description=noted(of.name),
            content_creator_name=plain(analysis.algorithm.name.replace("^", " ").replace("=", " "), 60) + "^",
            series_description=derived_description(analysis, source, f"AI {analysis.title} {of.name}"),
        )
    except ValueError as error:  # what highdicom says of values; anything else is a fault of ours
        raise EncodeError(f"Map {of.name!r} of pipeline {analysis.pipeline} cannot be built: {error}") from error
    organization = derive_uid(key, "map dimensions", place)
    for item in (*parametric_map.DimensionOrganizationSequence, *parametric_map.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    _along_normal(parametric_map, headers[part], values[part])
    parametric_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy(source)]
    describe_body_part(parametric_map, source)
    return parametric_map


def _along_normal(parametric_map: ParametricMap, headers: Sequence[Dataset], values: NDArray[np.float32]) -> None:
    """Frames in the order of ``headers``; highdicom sorts them the other way round."""
    groups = {
        tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient): group
        for group in parametric_map.PerFrameFunctionalGroupsSequence
    }
    parametric_map.PerFrameFunctionalGroupsSequence = [
        groups[tuple(float(v) for v in header.ImagePositionPatient)] for header in headers
    ]
    for number, group in enumerate(parametric_map.PerFrameFunctionalGroupsSequence, 1):
        group.FrameContentSequence[0].DimensionIndexValues = number
    parametric_map.FloatPixelData = values.astype("<f4").tobytes()


def _anatomy(source: Source) -> Dataset:
    """Frame Anatomy (PS3.3 C.7.6.16.2.8), which the IOD demands, from Body Part Examined."""
    named = plain(str(source.datasets[0].get("BodyPartExamined") or "")).title()
    region = getattr(codes.SCT, named, codes.SCT.AnatomicalStructure)
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [
        CodedConcept.from_code(region if region in codes.cid4 else codes.SCT.AnatomicalStructure)
    ]
    return anatomy


def _of_images(values: NDArray[np.float32], source: Source) -> NDArray[np.float32]:
    """From the grid of a tilted series to rows and columns of the images."""
    if not source.offsets:
        return values
    return np.stack([_of_image(image, source, index) for index, image in enumerate(values)])


def _of_image(values: NDArray[np.float32], source: Source, index: int) -> NDArray[np.float32]:
    top, left = source.offsets[index] if source.offsets else (0, 0)
    image = source.datasets[index]
    return values[top : top + int(image.Rows), left : left + int(image.Columns)]


def on_image(of: Map, source: Source, index: int) -> NDArray[np.float32]:
    """Values of a map on one image ``[row, column]``."""
    return _of_image(
        on_source(of.volume, source.geometry[source.slices[index] : source.slices[index] + 1])[0], source, index
    )


def on_source(volume: Volume, geometry: VolumeGeometry) -> NDArray[np.float32]:
    """Values at the voxel centres of the source, ``[slice, row, column]``: linear interpolation, 0 outside."""
    to_map = np.linalg.inv(volume.affine) @ geometry.affine
    values = np.asarray(volume.array, np.float32)
    return np.asarray(
        scipy.ndimage.affine_transform(
            values, to_map[:3, :3], to_map[:3, 3], output_shape=geometry.spatial_shape, order=1, mode="constant"
        ),
        np.float32,
    )
