"""The RT Structure Set of an analysis (PS3.3 A.19): one ROI per mask, as contours on the source images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage

from node.errors import EncodeError
from node.results.analysis import Analysis, Source
from node.results.closed_contours import Points, closed_contours
from node.results.encoded_elements import raw_sequence, reference, sequence, text
from node.results.finding import Finding
from node.results.headers import references
from node.results.identity import noted, plain
from node.results.iod import fill_type_2
from node.results.naming import series_description, series_number
from node.results.uids import derive_uid

DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
"""SOP Class by which a structure set refers to the study of its images (PS3.3 C.8.8.5)."""
_MOST_POINTS = 1500
"""Of one contour: its coordinates must fit into 65534 bytes (PS3.5 7.1.2), each with at most 13 characters."""
_ORGANS = frozenset({codes.SCT.AnatomicalStructure, codes.SCT.Organ})


def encode_rtstruct(
    analysis: Analysis, source: Source, headers: Sequence[Dataset], *, findings: Sequence[Finding], key: str
) -> Dataset:
    """Build the structure set; identity, equipment and times are stamped on later. Raises ``EncodeError``.

    ``headers``: as ``headers_for_highdicom`` makes them with the geometry.
    """
    dataset = Dataset()
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = derive_uid(key, "rtstruct")
    dataset.StudyInstanceUID = headers[0].StudyInstanceUID
    dataset.SeriesInstanceUID = derive_uid(key, "rtstruct", "series")
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesNumber = series_number(analysis, source, 95)
    dataset.SeriesDescription = series_description(analysis, source, "contours")
    dataset.InstanceNumber = 1
    dataset.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = None
    dataset.StructureSetLabel = plain(f"AI {analysis.title}", 16)
    dataset.StructureSetDescription = noted(f"AI {analysis.title}", 1024)
    dataset.StructureSetDate = dataset.StructureSetTime = None
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source, headers)]
    dataset.StructureSetROISequence = [_roi(finding, dataset.FrameOfReferenceUID) for finding in findings]
    contours = raw_sequence("ROIContourSequence", (_contours(f, source, headers) for f in findings))
    dataset[contours.tag] = contours
    dataset.RTROIObservationsSequence = [_observation(finding) for finding in findings]
    fill_type_2(dataset)
    return dataset


def _frame_of_reference(source: Source, headers: Sequence[Dataset]) -> Dataset:
    """Study, series and every image that the contours can lie on."""
    images = raw_sequence(
        "ContourImageSequence",
        (
            reference(sop_class, uid) + (text("ReferencedFrameNumber", "\\".join(map(str, frames))) if frames else b"")
            for sop_class, uid, frames in references(source.datasets)
        ),
    )
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.series_instance_uid
    series[images.tag] = images
    study.ReferencedSOPClassUID = DETACHED_STUDY
    study.ReferencedSOPInstanceUID = headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(finding: Finding, frame_of_reference_uid: str) -> Dataset:
    item = Dataset()
    item.ROINumber = finding.number
    item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    item.ROIName = finding.tracking_id
    item.ROIVolume = f"{finding.volume_mm3 / 1000:.6g}"
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    return item


def _observation(finding: Finding) -> Dataset:
    """What the ROI is. That a lesion is a target is for the physician who plans to say: its type stays empty."""
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = finding.number
    item.ROIObservationLabel = plain(finding.segment.label, 16)
    item.RTROIInterpretedType = "ORGAN" if not finding.lesion and finding.segment.category in _ORGANS else ""
    item.ROIInterpreter = None
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = finding.segment.type[:3]
    item.RTROIIdentificationCodeSequence = [code]
    return item


def _contours(finding: Finding, source: Source, headers: Sequence[Dataset]) -> bytes:
    """The elements of one item of ROI Contour Sequence."""
    parts = (
        _contour(source.datasets[index], _in_patient(points, headers[index]))
        for index in finding.mask.images
        for points in _on_image(finding, index)
    )
    colour = text("ROIDisplayColor", "\\".join(map(str, finding.colour)))
    return colour + sequence("ContourSequence", *parts) + text("ReferencedROINumber", str(finding.number))


def _on_image(finding: Finding, index: int) -> Iterator[Points]:
    _, rows, columns = finding.mask.box
    corner = [columns.start, rows.start]
    return (c + corner for c in closed_contours(finding.mask.plane(index), _MOST_POINTS))


def _in_patient(points: Points, image: Dataset) -> Points:
    """Column and row in pixels to x, y, z in mm (PS3.3 C.7.6.2.1.1)."""
    cosines = np.asarray(image.ImageOrientationPatient, float)
    between_rows, between_columns = (float(v) for v in image.PixelSpacing)
    steps = np.stack([cosines[:3] * between_columns, cosines[3:] * between_rows])
    return np.asarray(image.ImagePositionPatient, float) + points @ steps


def _contour(image: Dataset, points: Points) -> bytes:
    number = image.get("ReferencedFrameNumber")
    frame = b"" if number is None else text("ReferencedFrameNumber", str(number))
    data = "\\".join(f"{value:.3f}" for value in points.ravel().tolist())
    if len(data) > 0xFFFE:
        raise EncodeError("contours cannot be encoded: the images lie more than 100 m from the origin of their space")
    return (
        sequence("ContourImageSequence", reference(str(image.SOPClassUID), str(image.SOPInstanceUID)) + frame)
        + text("ContourGeometricType", "CLOSED_PLANAR")
        + text("NumberOfContourPoints", str(len(points)))
        + text("ContourData", data)
    )
