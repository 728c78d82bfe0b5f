"""Source headers for highdicom: new data sets with the attributes that it needs, and no others.

highdicom raises on ordinary headers (missing or odd identity, times with colons, ``['', 'ISO 2022 IR 87']``). So it
never sees them: it works on these, and the source's identity is stamped on afterwards (``identity.Identity.stamp``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from highdicom import VolumeGeometry
from pydicom import DataElement, Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from node.results.analysis import Source
from node.results.identity import plain
from node.results.iod import is_current
from node.results.uids import derive_uid
from node.studies.source_image import laterality_of

KEPT = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness",
    "SpacingBetweenSlices", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "ReferencedFrameNumber",
)  # fmt: skip
_KEPT_TAGS = tuple(Tag(keyword) for keyword in KEPT)
_ON_GRID = tuple(Tag(keyword) for keyword in ("FrameOfReferenceUID", "PixelSpacing", "ImageOrientationPatient"))
_OWN_TAGS = tuple(tag for tag in _KEPT_TAGS if tag not in _ON_GRID)
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName")
EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1", "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1", "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15", "1.2.840.10008.1.2.4.112": "ISO_18181_1",
}  # fmt: skip


def frame_of_reference_uid(source: Source) -> str:
    """The source's, or a derived one for a series that states none."""
    stated = source.datasets[0].get("FrameOfReferenceUID")
    return str(stated) if stated else derive_uid("frame of reference", source.series_instance_uid)


def mark_lossy(dataset: Dataset, source: Dataset) -> None:
    """Mark the result as lossy if the source's header or transfer syntax is (PS3.3 C.7.6.1.1.5)."""
    meta = getattr(source, "file_meta", None)
    method = _LOSSY_METHODS.get(str(meta.get("TransferSyntaxUID", ""))) if meta is not None else None
    if method is not None or source.get("LossyImageCompression") == "01":
        dataset.LossyImageCompression = "01"
    if method is not None and "LossyImageCompressionMethod" not in dataset:
        dataset.LossyImageCompressionMethod = method


def headers_for_highdicom(source: Source, geometry: VolumeGeometry | None = None) -> list[Dataset]:
    """One header per image, in the order of ``source.datasets``; the first one also says what highdicom asks only it.

    With ``geometry`` every image gets the same orientation and pixel spacing: the scanner's rounding may differ.
    """
    headers: list[Dataset] = []
    for dataset in source.datasets:
        header = Dataset()
        for tag in _KEPT_TAGS if geometry is None or not headers else _OWN_TAGS:
            if tag in dataset and (element := dataset[tag]).value is not None:
                header[tag] = element
        if not is_current(str(header.SOPClassUID)):
            header["SOPClassUID"] = DataElement("SOPClassUID", "UI", SecondaryCaptureImageStorage)
        headers.append(header)
    first = headers[0]
    _describe(first, source.datasets[0])
    if geometry is None:
        return headers
    first.FrameOfReferenceUID = frame_of_reference_uid(source)
    if not float(first.get("SliceThickness") or 0) > 0:
        first.SliceThickness = round(float(np.linalg.norm(geometry.affine[:3, 0])), 6)
    for header in headers[1:]:
        for tag in _ON_GRID:
            header[tag] = first[tag]
    return headers


def _describe(header: Dataset, dataset: Dataset) -> None:
    for keyword in EQUIPMENT:
        text = plain(str(dataset.get(keyword) or ""), 16 if keyword == "StationName" else 64)
        if text:
            setattr(header, keyword, text)
    versions = dataset.get("SoftwareVersions") or []
    texts = [plain(str(v)) for v in ([versions] if isinstance(versions, str) else versions)]
    if any(texts):
        header.SoftwareVersions = [t for t in texts if t]
    for keyword in EMPTY:
        setattr(header, keyword, "")
    mark_lossy(header, dataset)


def describe_body_part(dataset: Dataset, source: Source) -> None:
    """Body Part Examined as the source has it, without it its Laterality: one of both is needed (PS3.3 C.7.3.1).

    Of a paired body part both are needed: the side, or an empty one for images of both sides. Objects with frames have
    a laterality of each frame instead.
    """
    first = source.datasets[0]
    sides = {laterality_of(header) for header in source.datasets}
    if first.get("BodyPartExamined"):
        dataset.BodyPartExamined = plain(str(first.BodyPartExamined), 16)
        if sides - {""} and "NumberOfFrames" not in dataset:
            dataset.Laterality = sides.pop() if len(sides) == 1 and sides <= {"L", "R"} else ""
    elif "Laterality" in first and "NumberOfFrames" not in dataset:
        dataset.Laterality = plain(str(first.Laterality or ""), 16)


def as_single(header: Dataset) -> Dataset:
    """Return a frame as an image that highdicom can reference; return other headers unchanged.

    ``restore_references`` says again what it is.
    """
    if "ReferencedFrameNumber" not in header:
        return header
    single = Dataset()
    single.update(header)
    single["SOPClassUID"] = DataElement("SOPClassUID", "UI", CTImageStorage)  # any without frames
    single["SOPInstanceUID"] = DataElement("SOPInstanceUID", "UI", _single_uid(header))
    return single


def _single_uid(header: Dataset) -> str:
    return derive_uid("frame", header.SOPInstanceUID, header.ReferencedFrameNumber)


def restore_references(dataset: Dataset, source: Source) -> None:
    """Restore references to the received images in place of the single images that highdicom saw.

    Those of a retired class went to highdicom as Secondary Captures, frames as single images.
    """
    images = {str(d.SOPInstanceUID): d for d in source.datasets if not is_current(str(d.SOPClassUID))}
    images |= {_single_uid(d): d for d in source.datasets if "ReferencedFrameNumber" in d}
    if images:
        _restore(dataset, images)


def _restore(dataset: Dataset, images: Mapping[str, Dataset]) -> None:
    for element in dataset:
        if element.VR != "SQ":
            continue
        originals: dict[str, Dataset] = {}
        for place, item in enumerate(element.value):
            image = images.get(str(item.get("ReferencedSOPInstanceUID", "")))
            if image is not None:
                item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference(image)
                # lists of the objects of a series have no frames (PS3.3 C.12.2, C.17.2)
                if "ReferencedFrameNumber" in image and (
                    "SeriesInstanceUID" not in dataset or element.keyword == "ReferencedImageSequence"
                ):
                    same = originals.get(image.SOPInstanceUID, item)
                    before = [] if same is item else np.atleast_1d(same.ReferencedFrameNumber).tolist()
                    same.ReferencedFrameNumber = [*before, int(image.ReferencedFrameNumber)]
            originals.setdefault(str(image.SOPInstanceUID) if image is not None else f"other {place}", item)
            _restore(item, images)
        if len(originals) < len(element.value):
            element.value = list(originals.values())


def rescale(dataset: Dataset) -> tuple[float, float]:
    """Slope and intercept of the stored values; 1 and 0 when there are none (PS3.3 C.11.1)."""
    return float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)


_SINGLE_IMAGE_CLASSES = {
    EnhancedCTImageStorage: CTImageStorage,
    LegacyConvertedEnhancedCTImageStorage: CTImageStorage,
    EnhancedMRImageStorage: MRImageStorage,
    LegacyConvertedEnhancedMRImageStorage: MRImageStorage,
}


def single_image_class(dataset: Dataset) -> str:
    """SOP Class of a single image like this one: what every viewer shows as a series."""
    return str(_SINGLE_IMAGE_CLASSES.get(dataset.SOPClassUID, dataset.SOPClassUID))


def reference(dataset: Dataset) -> tuple[str, str]:
    """SOP Class UID and SOP Instance UID."""
    return str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)


def references(datasets: Iterable[Dataset]) -> list[tuple[str, str, list[int] | None]]:
    """SOP Class UID, SOP Instance UID and, of a multi-frame object, the frames meant: one entry per object."""
    entries: dict[str, tuple[str, str, list[int] | None]] = {}
    for dataset in datasets:
        frame = dataset.get("ReferencedFrameNumber")
        sop_class, uid = reference(dataset)
        _, _, frames = entries.setdefault(uid, (sop_class, uid, None if frame is None else []))
        if frames is not None and frame is not None:
            frames.append(int(frame))
    return list(entries.values())


def by_instance(datasets: Sequence[Dataset]) -> dict[str, Dataset]:
    """Data sets by SOP Instance UID; of a multi-frame object its first frame."""
    instances: dict[str, Dataset] = {}
    for dataset in datasets:
        instances.setdefault(str(dataset.SOPInstanceUID), dataset)
    return instances


def by_frame(datasets: Sequence[Dataset]) -> dict[tuple[str, int | None], Dataset]:
    """Data sets by SOP Instance UID and Referenced Frame Number, which single images have not."""
    return {frame_key(d, "SOPInstanceUID"): d for d in datasets}


def frame_key(item: Dataset, uid_keyword: str = "ReferencedSOPInstanceUID") -> tuple[str, int | None]:
    """UID and frame number that a reference to one image, or one image itself, states."""
    frame = item.get("ReferencedFrameNumber")
    return str(item[uid_keyword].value), None if frame is None else int(frame)
