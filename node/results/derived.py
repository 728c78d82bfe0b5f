"""Derived series: new pixels on the grid of the source, one lossless image per source image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import ContributingEquipment, Volume, VolumeGeometry
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import keyword_for_tag
from pydicom.pixels.utils import pixel_array
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from node.errors import EncodeError
from node.pipeline import DerivedSeries
from node.results.analysis import Analysis, EncodedObject, Kind, Source
from node.results.enhanced_frame import single_image
from node.results.headers import frame_key, mark_lossy, reference, rescale
from node.results.identity import Identity, identity_tags, noted, plain
from node.results.iod import attributes_of, fill_type_2
from node.results.naming import derived_description, numbered_place, series_number
from node.results.part10 import finish
from node.results.uids import derive_uid
from node.studies.pydicom_errors import UNREADABLE
from node.wording import NOTICE

_RESCALE = frozenset({"RescaleSlope", "RescaleIntercept", "RescaleType"})
_DROPPED = frozenset((
    "ReferencedStudySequence", "ReferencedPatientSequence", "ReferencedPatientPhotoSequence",
    "IconImageSequence", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "ReferencedPerformedProcedureStepSequence", "ReferencedImageSequence",
    "DigitalSignaturesSequence", "MACParametersSequence", "OriginalAttributesSequence", "InstanceCreatorUID",
    "StorageMediaFileSetUID", "RealWorldValueMappingSequence", "DeidentificationActionSequence",
))  # fmt: skip


@dataclass(frozen=True)
class _PixelType:
    """How values are stored (PS3.3 C.7.6.3.1)."""

    allocated: int
    bits: int
    signed: bool

    @classmethod
    def of(cls, image: Dataset) -> _PixelType:
        return cls(int(image.BitsAllocated), int(image.BitsStored), bool(image.PixelRepresentation))

    @property
    def high(self) -> int:
        return (1 << self.bits - self.signed) - 1

    def holds(self, value: float) -> bool:
        return (-self.high - 1 if self.signed else 0) <= value <= self.high


_J2K_PIXELS = 32
"""Least rows and columns for the five wavelet levels of the encoder; smaller images stay as they are."""


def encode_derived(
    analysis: Analysis,
    source: Source,
    series: DerivedSeries,
    *,
    geometry: VolumeGeometry,
    place: int,
    key: str,
    kind: Kind,
    identity: Identity,
) -> Iterator[EncodedObject]:
    """Encode one derived series, in the order of ``source.datasets``; ``place`` counts the series of one analysis.

    Values are rounded to each source image's own rescale, and stored in the source's type, or in 16 bits where that
    does not hold them all; padding pixels stay padding. Of ``kind`` "derived j2k" they are in JPEG 2000, lossless.
    Raises ``EncodeError`` when the voxels are not the source's or 16 bits cannot hold them.
    """
    volume = _on_source(series, geometry)
    if not np.isfinite(volume.array).all():
        raise EncodeError(f"DerivedSeries {series.description!r} holds values that are no numbers; fix the pipeline")
    description = derived_description(analysis, source, series.description or f"AI {analysis.title} images")
    number = series_number(analysis, source, numbered_place(place))
    series_uid = derive_uid(key, f"{kind} series", place)
    rows, columns = int(source.datasets[0].Rows), int(source.datasets[0].Columns)
    places = source.offsets or [(0, 0)] * len(source.datasets)
    slices = [
        slice_[top : top + rows, left : left + columns]
        for slice_, (top, left) in zip(volume.array[list(source.slices)], places, strict=True)
    ]
    pixel_type = _type_for(slices, source, series)
    for index, (path, original) in enumerate(zip(source.paths, source.datasets, strict=True)):
        image = _header(original, path)
        _store(image, original, path, slices[index], pixel_type)
        _describe(image, original, series, description)
        if "ReferencedFrameNumber" in original:
            image.InstanceNumber = index + 1
        fill_type_2(image)
        image.SeriesNumber = number
        image.SeriesInstanceUID = series_uid
        if "FrameOfReferenceUID" in original:  # of the volume; the files of one series may each state another
            image.FrameOfReferenceUID = original.FrameOfReferenceUID
        image.SOPInstanceUID = derive_uid(key, kind, place, *frame_key(original, "SOPInstanceUID"))
        if kind == "derived j2k" and min(rows, columns) >= _J2K_PIXELS:
            image.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        yield EncodedObject(data=finish(image, analysis, identity), kind=kind, description=description)


def _on_source(series: DerivedSeries, geometry: VolumeGeometry) -> Volume:
    """The volume with the axes of the source. Raises ``EncodeError`` unless both grids have the same voxels."""
    own = series.volume
    tolerance = 1e-3
    try:
        # the frame of reference is not compared: a pipeline need not carry it along
        volume = own.match_geometry(
            VolumeGeometry(
                affine=geometry.affine,
                spatial_shape=geometry.spatial_shape,
                coordinate_system="PATIENT",
                frame_of_reference_uid=own.frame_of_reference_uid,
            ),
            tol=tolerance,
        )
    except RuntimeError:
        volume = None
    # match_geometry also crops, pads with zeros and leaves out every other voxel
    apart = np.linalg.norm(_centre(own) - _centre(geometry))
    same_voxels = sorted(own.spatial_shape) == sorted(geometry.spatial_shape) and np.allclose(
        sorted(own.spacing), sorted(geometry.spacing), rtol=tolerance
    )
    if volume is None or not same_voxels or apart > tolerance * min(geometry.spacing):
        raise EncodeError(
            f"DerivedSeries {series.description!r} has the grid {_grid_text(own)}, the source {_grid_text(geometry)}; "
            "resample it to the voxels of series.volume()"
        )
    return volume


def _centre(grid: Volume | VolumeGeometry) -> NDArray[np.float64]:
    middle: NDArray[np.float64] = grid.affine @ [*((n - 1) / 2 for n in grid.spatial_shape), 1.0]
    return middle[:3]


def _grid_text(grid: Volume | VolumeGeometry) -> str:
    shape, spacing = (" x ".join(f"{v:g}" for v in values) for values in (grid.spatial_shape, grid.spacing))
    return f"{shape} voxels of {spacing} mm around ({', '.join(f'{v:.1f}' for v in _centre(grid))})"


def _header(original: Dataset, path: Path) -> Dataset:
    """Return the attributes of the source that belong to the IOD and still apply; identity is stamped later."""
    frame = "ReferencedFrameNumber" in original
    header = single_image(original) if frame else dcmread(path, stop_before_pixels=True)
    keywords = (attributes_of(str(header.SOPClassUID)) | _RESCALE | {"SpecificCharacterSet"}) - _DROPPED
    if rescale(original) == (1, 0) and original.Modality != "CT":
        keywords -= _RESCALE  # the MR Image IOD has none
    for tag in list(header.keys()):
        overlay = 0x6000 <= tag.group < 0x6100
        identity = tag in identity_tags() and tag != 0x00080005
        if overlay or identity or keyword_for_tag(tag) not in keywords:
            del header[tag]
    syntax = header.file_meta.TransferSyntaxUID
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax.is_little_endian and not syntax.is_implicit_VR and not frame:
        return header  # its elements are written again as they are
    for tag in list(header.keys()):
        try:
            readable = "\ufffd" not in str(header[tag].value if header[tag].VR != "SQ" else "")
        except UNREADABLE:
            readable = False
        if not readable:
            del header[tag]  # it could not be written again
    buffer = BytesIO()
    try:
        dcmwrite(buffer, header, implicit_vr=False, little_endian=True, enforce_file_format=True)
    except UNREADABLE as error:
        raise EncodeError(
            f"header of {original.SOPInstanceUID} cannot be written again ({error}); exclude this series by a rule"
        ) from error
    buffer.seek(0)
    return dcmread(buffer)


def _type_for(slices: list[NDArray[Any]], source: Source, series: DerivedSeries) -> _PixelType:
    """Return one pixel type for the series: the source's, or the first 16-bit type that holds every value."""
    own = [_PixelType.of(original) for original in source.datasets]
    lowest = highest = 0.0
    for values, original, kind in zip(slices, source.datasets, own, strict=True):
        if original.get("ModalityLUTSequence"):
            raise EncodeError(
                f"{original.SOPInstanceUID} has a Modality LUT Sequence, which new values cannot go back through; "
                "exclude this series by a rule"
            )
        if kind.allocated not in (8, 16):
            raise EncodeError(f"BitsAllocated of {original.SOPInstanceUID} is {kind.allocated}; 8 or 16 is needed")
        ends: list[float] = _quantised(np.array([values.min(), values.max()]), original).tolist()
        ends += [end for end in _padding(original) if kind.holds(end)]  # some write one that no pixel can have
        lowest, highest = min(lowest, *ends), max(highest, *ends)
    wide = [_PixelType(16, 16, own[0].signed), _PixelType(16, 16, not own[0].signed)]
    for kind in [own[0], *wide] if len(set(own)) == 1 else wide:
        if kind.holds(lowest) and kind.holds(highest):
            return kind
    raise EncodeError(
        f"DerivedSeries {series.description!r} needs stored values from {lowest:.0f} to {highest:.0f} with the rescale "
        "of the source, more than 16 bits hold; limit its values, or hand them over as a Map"
    )


def _quantised(values: NDArray[Any], original: Dataset) -> NDArray[np.float64]:
    """Return rounded values as floats, because a model may return values beyond any integer type."""
    slope, intercept = rescale(original)
    return np.rint((values.astype(np.float64) - intercept) / slope)


def _padding(original: Dataset) -> tuple[int, ...]:
    """Least and greatest value of padding pixels (PS3.3 C.7.5.1.1.2); empty when there are none."""
    if original.get("PixelPaddingValue") is None:
        return ()
    value = int(original.PixelPaddingValue)
    other = int(original.get("PixelPaddingRangeLimit", value))
    return min(value, other), max(value, other)


def _store(image: Dataset, original: Dataset, path: Path, values: NDArray[Any], kind: _PixelType) -> None:
    """Re-quantise with the source's rescale and write native pixel data."""
    stored = _quantised(values, original).astype(np.int32)
    if padding := _padding(original):
        least, greatest = padding
        frame = original.get("ReferencedFrameNumber")
        before = pixel_array(dcmread(path), index=None if frame is None else int(frame) - 1).astype(np.int32)
        outside = (before >= least) & (before <= greatest)
        stored[~outside & (stored >= least) & (stored <= greatest)] = min(greatest + 1, kind.high)
        stored[outside] = before[outside]
    if kind != _PixelType.of(original):
        _set_type(image, kind)
    data = stored.astype(f"{'<i' if kind.signed else '<u'}{kind.allocated // 8}").tobytes()
    image.add_new(Tag("PixelData"), "OW", data + b"\0" * (len(data) % 2))
    image.HighBit = kind.bits - 1
    mark_lossy(image, original)


def _set_type(image: Dataset, kind: _PixelType) -> None:
    image.BitsAllocated, image.BitsStored, image.PixelRepresentation = kind.allocated, kind.bits, int(kind.signed)
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in image:
            value = int(image[keyword].value)
            del image[keyword]
            if kind.holds(value):
                image.add_new(Tag(keyword), "SS" if kind.signed else "US", value)


def _describe(image: Dataset, original: Dataset, series: DerivedSeries, description: str) -> None:
    """Add image type, derivation and source references (PS3.3 C.7.6.1.1.2, C.12.4)."""
    image.ImageType = ["DERIVED", "SECONDARY", *list(image.get("ImageType") or [])[2:]]
    image.SeriesDescription = description
    image.DerivationDescription = noted(description, 1024)
    image.ImageComments = f"{NOTICE} {plain(str(original.get('ImageComments') or ''), 1024)}".strip()
    image.DerivationCodeSequence = [CodedConcept.from_code(series.derivation)]
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference(original)
    if "ReferencedFrameNumber" in original:
        item.ReferencedFrameNumber = original.ReferencedFrameNumber
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    image.SourceImageSequence = [item]
    if image.get("Manufacturer"):
        scanner = ContributingEquipment(
            manufacturer=plain(str(image.Manufacturer)) or "unknown",
            purpose_of_reference=codes.DCM.AcquisitionEquipment,
            manufacturer_model_name=plain(str(image.get("ManufacturerModelName") or "")) or None,
            device_serial_number=plain(str(image.get("DeviceSerialNumber") or "")) or None,
        )
        image.ContributingEquipmentSequence = [*(image.get("ContributingEquipmentSequence") or []), scanner]
