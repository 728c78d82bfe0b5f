"""Label maps, parametric maps, presentation states, documents and rejection notes among the results."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source
from node.results.gate.image import POSITION_TOLERANCE_MM
from node.results.headers import by_instance
from node.results.rejection import REJECTIONS


def label_faults(seg: Dataset, source: Source) -> Iterator[str]:
    """Numbers in the voxels are those of the segments; Background is last; frames lie on the source's images."""
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    if numbers != [*range(1, len(numbers)), 0]:
        yield f"SegmentNumber runs {numbers}, not from 1 without gaps with Background, 0, last"
    yield from _plane_faults(seg, source)
    shown = set(np.unique(seg.pixel_array).tolist())
    if shown - {0} != set(numbers) - {0}:
        yield f"segments {sorted((shown ^ set(numbers)) - {0})} are described or shown, but not both"


def map_faults(image: Dataset, source: Source) -> Iterator[str]:
    """One number for each voxel, on the source's images from the first to the last."""
    yield from _plane_faults(image, source)
    values = np.frombuffer(image.FloatPixelData, np.float32)
    if values.size != int(image.NumberOfFrames) * int(image.Rows) * int(image.Columns):
        yield f"FloatPixelData has {values.size} values, not those of {image.NumberOfFrames} frames"
    elif not np.isfinite(values).all():
        yield "FloatPixelData holds values that are no numbers"
    positions = [f.PlanePositionSequence[0].ImagePositionPatient for f in image.PerFrameFunctionalGroupsSequence]
    cosines = np.reshape(np.asarray(source.datasets[0].ImageOrientationPatient, float), (2, 3))
    if (np.diff(np.asarray(positions, float) @ np.cross(*cosines)) <= 0).any():
        yield "frames do not run along the slice normal; viewers would show them reversed"


def _plane_faults(image: Dataset, source: Source) -> Iterator[str]:
    first = source.datasets[0]
    if (image.Rows, image.Columns) != (first.Rows, first.Columns):
        yield f"Rows x Columns {image.Rows} x {image.Columns} are not the source's {first.Rows} x {first.Columns}"
    if first.get("FrameOfReferenceUID") and image.get("FrameOfReferenceUID") != first.FrameOfReferenceUID:
        yield "FrameOfReferenceUID is not the source's"
    planes = np.asarray([[float(v) for v in d.ImagePositionPatient] for d in source.datasets])
    for number, frame in enumerate(image.PerFrameFunctionalGroupsSequence, 1):
        position = np.asarray(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        if np.abs(planes - position).max(axis=1).min() > POSITION_TOLERANCE_MM:
            yield f"frame {number} lies on no source image"


def graphic_faults(state: Dataset, source: Source) -> Iterator[str]:
    """Outlines lie within the images they are drawn on."""
    images = by_instance(source.datasets)
    for annotation in state.GraphicAnnotationSequence:
        image = images[str(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID)]
        limits = [float(image.Columns), float(image.Rows)]
        for graphic in annotation.GraphicObjectSequence:
            points = np.reshape(np.asarray(graphic.GraphicData, float), (-1, 2))
            if (points < 0).any() or (points > limits).any():
                yield "an outline leaves its image"


def pdf_faults(document: Dataset) -> Iterator[str]:
    """It is a whole PDF, and marked as one that names the patient."""
    data = document.EncapsulatedDocument[: int(document.EncapsulatedDocumentLength)]
    if document.MIMETypeOfEncapsulatedDocument != "application/pdf" or not data.startswith(b"%PDF-"):
        yield "EncapsulatedDocument is no PDF"
    if not data.rstrip().endswith(b"%%EOF"):
        yield "EncapsulatedDocument is cut off"
    if document.get("BurnedInAnnotation") != "YES":
        yield "BurnedInAnnotation is not YES, but the page names the patient"


def rejection_faults(note: Dataset, rejected: Collection[str]) -> Iterator[str]:
    """Its title is one that archives act upon (CID 7010), and it names what is rejected, in content and evidence."""
    title = note.ConceptNameCodeSequence[0]
    if (title.CodeValue, title.CodingSchemeDesignator) not in {(c.value, "DCM") for c in REJECTIONS.values()}:
        yield f"the title {title.CodeMeaning!r} is no reason to reject"
    content = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in note.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    for place, named in (("content", content), ("evidence", evidence)):
        if named != set(rejected):
            yield f"its {place} names {len(named & set(rejected))} of the {len(rejected)} rejected objects"
