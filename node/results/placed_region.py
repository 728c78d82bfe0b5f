"""Regions on the source images: on which image a shape lies, and its points there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from node.errors import EncodeError
from node.pipeline import Findings, Measurement, Region, Shape, Unsuitable
from node.results.analysis import Source
from node.results.finding import image_name
from node.results.headers import by_frame, frame_key
from node.results.identity import plain
from node.results.image_outline import outline_of
from node.results.segment_colours import colour_of
from node.results.terms import evaluation_lines, in_text, label_in_words, term
from node.results.uids import derive_uid
from node.wording import in_words

Floats = NDArray[np.float64]
_BEYOND = 1e-3
"""Pixels by which rounding may take a point beyond its image."""
_CURVE = 64
"""Points that draw an ellipse."""


class ShapeOnImage(NamedTuple):
    """The points of a shape on one image."""

    place: int
    """Index of the image in ``Source.datasets``."""
    points: Floats
    """(column, row), as ``Shape.points``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedRegion:
    """One region with its place on the source images."""

    number: int
    """From 1."""
    region: Region
    colour: tuple[int, int, int]
    """sRGB 0-255."""
    on_image: ShapeOnImage | None
    """``None``: it lies in the patient, and not in the plane of one image."""
    image: str
    """Name of the image, for example ``"Image 57"``; empty without one."""
    tracking_uid: str

    @property
    def label(self) -> str:
        """Its name."""
        return self.region.label

    @property
    def label_in_words(self) -> str:
        """Its name in texts and pictures, in the language that is spoken."""
        return label_in_words(self.label, self.region.finding.meaning, self.region.laterality)

    @property
    def tracking_id(self) -> str:
        """Tracking Identifier."""
        return plain(self.region.label) or f"Region {self.number}"

    def measurements(self) -> tuple[Measurement, ...]:
        """Certainty, then what the pipeline measured."""
        stated = self.region.measurements
        if self.region.probability is None or any(m.name == codes.DCM.CertaintyOfFinding for m in stated):
            return stated
        percent = self.region.probability * 100
        return (Measurement(name=codes.DCM.CertaintyOfFinding, value=percent, unit=codes.UCUM.Percent), *stated)

    def described(self) -> tuple[str, ...]:
        """Lines of text: finding and site, then evaluations."""
        region = self.region
        return in_text(region.finding, region.site, region.laterality), *evaluation_lines(region.evaluations)

    def measured(self) -> tuple[str, ...]:
        """Lines of text: measurements."""
        return tuple(in_words(term(m.name.meaning), m.value, m.unit.value) for m in self.measurements())

    def outline(self) -> Floats:
        """Points of a line that draws it on its image; one point for a point."""
        if self.on_image is None:
            return np.empty((0, 2))
        return drawn(self.region.shape, self.on_image.points)


def drawn(shape: Shape, points: Floats) -> Floats:
    """Points of a line through ``points`` of a shape: those of its curve for an ellipse."""
    if shape.graphic_type != "ELLIPSE":
        return points
    centre, angles = points.mean(axis=0), np.linspace(0, 2 * np.pi, _CURVE + 1)
    major, minor = (points[1] - points[0]) / 2, (points[3] - points[2]) / 2
    return np.asarray(centre + np.outer(np.cos(angles), major) + np.outer(np.sin(angles), minor), float)


def place_regions(findings: Findings, source: Source, key: str, *, after: int = 0) -> tuple[PlacedRegion, ...]:
    """Regions in their order; ``after``: how many findings with a mask have colours already.

    Raises ``EncodeError`` for a shape, of a region or a measurement, that does not lie on the images.
    """
    for group in findings.groups:
        for shape in (shape for measurement in group.measurements for shape in measurement.shapes):
            place_shape(shape, source, group.label)
    placed = []
    for number, region in enumerate(findings.regions, 1):
        if region.mask is not None:
            region = _with_outline(region, source)  # noqa: PLW2901
        on_image = place_shape(region.shape, source, region.label)
        placed.append(
            PlacedRegion(
                number=number,
                region=region,
                colour=colour_of(after + number - 1),
                on_image=on_image,
                image="" if on_image is None else image_name(source, on_image.place),
                tracking_uid=region.tracking_uid or derive_uid(key, "tracking region", region.label),
            )
        )
    return tuple(placed)


def _with_outline(region: Region, source: Source) -> Region:
    """A region with a mask, whose shape is the outline of it. Raises ``EncodeError`` when it does not fit its image."""
    shape, mask = region.shape, region.mask
    image = by_frame(source.datasets).get((shape.sop_instance_uid, shape.frame))
    if mask is None or image is None:
        return region  # refused with its shape
    if mask.shape != (image.Rows, image.Columns):
        raise EncodeError(
            f"The mask of {region.label!r} has {mask.shape[0]} rows and {mask.shape[1]} columns, its image has "
            f"{image.Rows} and {image.Columns}; give the pixels of the image"
        )
    if "ImagePositionPatient" in image:
        raise EncodeError(
            f"The mask of {region.label!r} is of an image with a place in the patient; return a lesion or a segment "
            "with a mask as a Volume"
        )
    points = tuple((float(column), float(row)) for column, row in outline_of(mask))
    return replace(region, shape=replace(shape, graphic_type="POLYGON", points=(*points, points[0])))


def place_shape(shape: Shape, source: Source, label: str) -> ShapeOnImage | None:
    """Return on which image ``shape`` lies; ``None`` for one in the patient that lies in the plane of no image.

    Raises ``EncodeError`` when it lies on no image of the series.
    """
    if shape.sop_instance_uid:
        return _on_named_image(shape, source, label)
    return _in_patient(shape, source, label)


def _on_named_image(shape: Shape, source: Source, label: str) -> ShapeOnImage:
    key = (shape.sop_instance_uid, shape.frame)
    image = by_frame(source.datasets).get(key)
    if image is None:
        frame = "" if shape.frame is None else f", frame {shape.frame}"
        raise EncodeError(
            f"The shape of {label!r} is on image {shape.sop_instance_uid}{frame}, which is not one of the analysed "
            "images; take it from series.images()"
        )
    points = np.array(shape.points, float)
    size = [float(image.Columns), float(image.Rows)]
    if (points < -_BEYOND).any() or (points > np.add(size, _BEYOND)).any():
        raise EncodeError(
            f"The shape of {label!r} leaves its image of {size[0]:.0f} columns and {size[1]:.0f} rows: its points "
            f"reach from {points.min(axis=0).round(1).tolist()} to {points.max(axis=0).round(1).tolist()}; "
            "give (column, row) in pixels"
        )
    index = next(i for i, dataset in enumerate(source.datasets) if frame_key(dataset, "SOPInstanceUID") == key)
    return ShapeOnImage(index, np.clip(points, 0, size))


def _in_patient(shape: Shape, source: Source, label: str) -> ShapeOnImage | None:
    try:
        step = float(source.geometry.spacing[0])
    except Unsuitable as reason:
        raise EncodeError(
            f"The shape of {label!r} is in the patient, but the images have no common geometry ({reason}); give shapes "
            "on images"
        ) from None
    points = np.array(shape.points, float)
    away = np.array([np.abs(height) for height in _heights(points, source.datasets)])  # [image, point]
    for number, nearest in enumerate(away.argmin(axis=0)):
        image = source.datasets[int(nearest)]
        column, row = pixels_of(points[number : number + 1], image)[0]
        beyond = max(-column, -row, column - float(image.Columns), row - float(image.Rows))
        if away[nearest, number] > step + _BEYOND or beyond > _BEYOND:
            raise EncodeError(f"The shape of {label!r} lies outside the source images; check its points (LPS, mm)")
    index = int(away.max(axis=1).argmin())
    if away[index].max() > step / 2 + _BEYOND:
        return None
    image = source.datasets[index]
    return ShapeOnImage(index, np.clip(pixels_of(points, image), 0, [float(image.Columns), float(image.Rows)]))


def _heights(points: Floats, images: Sequence[Dataset]) -> Iterator[Floats]:
    for image in images:
        across, down = _axes(image)
        yield (points - _position(image)) @ np.cross(across, down)


def pixels_of(points: Floats, image: Dataset) -> Floats:
    """Return (column, row) of ``points`` in LPS mm, projected onto an image along its normal (PS3.3 C.7.6.2.1.1)."""
    across, down = _axes(image)
    relative = points - _position(image)
    row_spacing, column_spacing = (float(value) for value in image.PixelSpacing)
    # Image Position is the centre of the first pixel, which is half a pixel from its corner
    return np.stack([relative @ across / column_spacing, relative @ down / row_spacing], axis=-1) + 0.5


def _axes(image: Dataset) -> Floats:
    return np.reshape(np.asarray(image.ImageOrientationPatient, float), (2, 3))


def _position(image: Dataset) -> Floats:
    return np.asarray(image.ImagePositionPatient, float)
