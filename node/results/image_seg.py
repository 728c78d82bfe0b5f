"""The Segmentation object of one image without a place in the patient, such as a radiograph (PS3.3 A.51).

It has no frame of reference and no plane: each frame names the image, or the frame, that it was derived from, and has
the same pixels (PS3.3 A.51.3, Derivation Image; C.8.20.2). Nothing is said about spacing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from io import BytesIO
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from node.errors import EncodeError
from node.results.analysis import Analysis, Source
from node.results.headers import by_instance, describe_body_part, references
from node.results.identity import plain
from node.results.placed_region import PlacedRegion
from node.results.seg import algorithm_identification, name_dimensions, one_pixel, refer_to_images, seg_modules
from node.results.uids import derive_uid

_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_OF_A_PLACE = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def encode_image_segs(
    analysis: Analysis, source: Source, headers: Sequence[Dataset], *, regions: Sequence[PlacedRegion], key: str
) -> Iterator[Segmentation]:
    """Yield a SEG for each image on which regions have masks: one segment and one frame for each region.

    ``headers``: as ``headers_for_highdicom`` makes them. Raises ``EncodeError``.
    """
    by_image: dict[str, list[PlacedRegion]] = defaultdict(list)
    for placed in regions:
        if placed.region.mask is not None:
            by_image[placed.region.shape.sop_instance_uid].append(placed)
    for number, (uid, outlined) in enumerate(by_image.items(), 1):
        of = [headers[placed.on_image.place] for placed in outlined if placed.on_image is not None]
        modules = seg_modules(analysis, source, key, "seg")
        modules |= {"sop_instance_uid": derive_uid(key, "seg", uid), "instance_number": number}
        seg = _encode(analysis, _pattern(headers[0], of[0]), outlined, modules)
        for group, header in zip(seg.PerFrameFunctionalGroupsSequence, of, strict=True):
            _name_image(group, header)
        describe_body_part(seg, source)
        refer_to_images(seg, source, of)
        # of an image without a position; empty where nobody stated it (PS3.3 C.7.6.1)
        seg.PatientOrientation = by_instance(source.datasets)[uid].get("PatientOrientation") or None
        yield seg


def _encode(
    analysis: Analysis, pattern: Dataset, regions: Sequence[PlacedRegion], modules: dict[str, Any]
) -> Segmentation:
    algorithm = algorithm_identification(analysis.algorithm)
    try:
        seg = Segmentation(
            source_images=[pattern],
            pixel_array=np.ones((1, 1, 1, len(regions)), np.bool_),
            segmentation_type="BINARY",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            segment_descriptions=[_description(n, placed, algorithm) for n, placed in enumerate(regions, 1)],
            **modules,
        )
    except ValueError as error:  # what highdicom says of values; anything else is a fault of ours
        raise EncodeError(f"SEG of pipeline {analysis.pipeline} cannot be built: {error}") from error
    name_dimensions(seg, derive_uid(seg.SOPInstanceUID, "dimensions"))
    masks = [placed.region.mask for placed in regions if placed.region.mask is not None]
    seg.Rows, seg.Columns = masks[0].shape
    seg.SegmentsOverlap = "YES" if (np.sum(masks, axis=0, dtype=np.uint16) > 1).any() else "NO"
    seg["PixelData"].value = _packed(masks)
    return seg


def _pattern(first: Dataset, header: Dataset) -> Dataset:
    """Return a stand-in for an image: ``first`` of the series has patient and study."""
    pattern = one_pixel(first)
    pattern.SOPClassUID = SecondaryCaptureImageStorage  # highdicom wants a frame of reference of most others
    for keyword in _OF_A_PLACE:
        if keyword in pattern:
            del pattern[keyword]
    for keyword in _LOSSY:
        if keyword in pattern:
            del pattern[keyword]
        if keyword in header:
            pattern[keyword] = header[keyword]
    return pattern


def _name_image(group: Dataset, header: Dataset) -> None:
    """Give a frame a Derivation Image of its own, which names the received image, and the frame of that."""
    (sop_class, uid, frames), *_ = references([header])
    group.DerivationImageSequence = deepcopy(group.DerivationImageSequence)
    item = group.DerivationImageSequence[0].SourceImageSequence[0]
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    if frames:
        item.ReferencedFrameNumber = frames[0]


def _description(number: int, placed: PlacedRegion, algorithm: AlgorithmIdentificationSequence) -> SegmentDescription:
    region = placed.region
    altered, normal = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.AnatomicalStructure
    description = SegmentDescription(
        segment_number=number,
        segment_label=plain(region.label),
        segmented_property_category=normal if region.landmark else altered,
        segmented_property_type=region.finding,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=placed.tracking_uid,
        tracking_id=placed.tracking_id,
        anatomic_regions=[region.site] if region.site is not None else None,
        display_color=CIELabColor.from_rgb(*placed.colour),
    )
    if region.laterality is not None:
        side = [CodedConcept.from_code(region.laterality)]
        if region.site is not None:
            description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = side
        else:
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = side
    return description


def _packed(masks: Sequence[NDArray[np.bool_]]) -> bytes:
    """One bit per pixel, frame after frame without padding (PS3.5 8.1.1, D)."""
    packed, rest = BytesIO(), np.zeros(0, np.bool_)
    for mask in masks:
        bits = np.concatenate([rest, mask.ravel()])
        whole = len(bits) // 8 * 8
        packed.write(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    packed.write(np.packbits(rest, bitorder="little").tobytes())
    return packed.getvalue() + b"\0" * (packed.tell() % 2)
