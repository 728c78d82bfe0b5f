"""Segmentations as workstations of readers write them: edited copies of this node's, without what is often lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from contourpy import contour_generator
from highdicom import AlgorithmIdentificationSequence
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset, FileDataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, RTStructureSetStorage, generate_uid

from node.studies.source import SourceSeries


def workstation_seg(
    source: SourceSeries,
    masks: Mapping[str, np.ndarray],
    *,
    tracking: Mapping[str, str] | None = None,
    kind: str = "BINARY",
    algorithm: str = "MANUAL",
    reader: str = "Reader^Rita",
    manufacturer: str = "Workstation Inc.",
    category: Any = codes.SCT.MorphologicallyAbnormalStructure,
    type_: Any = codes.SCT.Nodule,
) -> FileDataset:
    """A SEG on the images of ``source``; ``masks``: label -> ``[image, row, column]``; ``tracking``: UID by label."""
    identification = AlgorithmIdentificationSequence(name="Brush", family=codes.DCM.ArtificialIntelligence, version="1")
    descriptions = [
        SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=category,
            segmented_property_type=type_,
            algorithm_type=algorithm,
            algorithm_identification=None if algorithm == "MANUAL" else identification,
            tracking_uid=(tracking or {}).get(label),
            tracking_id=label if (tracking or {}).get(label) else None,
        )
        for number, label in enumerate(masks, 1)
    ]
    stack = np.stack([np.asarray(mask, np.uint8) for mask in masks.values()], -1)
    if kind == "LABELMAP":
        stack = (stack * np.arange(1, len(masks) + 1)).max(-1).astype(np.uint8)
    return Segmentation(
        source_images=[dcmread(path) for path in dict.fromkeys(source.paths)],
        pixel_array=stack,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=700,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=manufacturer,
        manufacturer_model_name="Editor",
        software_versions="1",
        device_serial_number="1",
        content_creator_name=reader,
        transfer_syntax_uid=ExplicitVRLittleEndian if kind == "BINARY" else RLELossless,
        omit_empty_frames=True,
    )


def rejection_note(image: Dataset, title: Any, named: Dataset, manufacturer: str = "PACS Inc.") -> FileDataset:
    """A Key Object Selection on one object of the study of ``image``."""
    header = deepcopy(image)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        setattr(header, keyword, named[keyword].value)
    return KeyObjectSelectionDocument(
        evidence=[header],
        content=KeyObjectSelection(title, [header]),
        series_instance_uid=generate_uid(),
        series_number=900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=manufacturer,
    )


def arrays_of(seg: Dataset, source: SourceSeries) -> dict[str, np.ndarray]:
    """Label -> ``[image, row, column]`` of a SEG of this node, by the images that its frames name."""
    places = {str(header.SOPInstanceUID): index for index, header in enumerate(source.datasets)}
    labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in seg.SegmentSequence}
    shape = (len(places), int(seg.Rows), int(seg.Columns))
    arrays = {label: np.zeros(shape, np.uint8) for label in labels.values()}
    frames = seg.pixel_array.reshape((-1, *shape[1:]))
    for groups, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        image = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        arrays[labels[number]][places[str(image)]] = frame
    return arrays


def tracking_of(seg: Dataset) -> dict[str, str]:
    """Tracking UID by label."""
    return {str(item.SegmentLabel): str(item.TrackingUID) for item in seg.SegmentSequence}


def cube(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> np.ndarray:
    """A box from ``low`` to before ``high``."""
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


def workstation_rtstruct(
    source: SourceSeries,
    contours: Mapping[str, Sequence[tuple[int, np.ndarray]]],
    *,
    algorithm: str = "MANUAL",
    interpreted: str = "",
    away_mm: float = 0.0,
    decimals: int = 4,
) -> FileDataset:
    """An RTSTRUCT; ``contours``: label -> (image, ``[n, 2]`` columns and rows), ``away_mm`` off the image.

    ``decimals``: of the coordinates in mm.
    """
    first = dcmread(source.paths[0], stop_before_pixels=True)
    dataset = FileDataset("", {}, file_meta=deepcopy(first.file_meta), preamble=b"\0" * 128)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        if keyword in first:
            dataset[keyword] = first[keyword]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SeriesInstanceUID, dataset.Modality, dataset.Manufacturer = generate_uid(), "RTSTRUCT", "Planning Inc."
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.series_instance_uid
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    rois, of_rois, observations = [], [], []
    for number, (label, parts) in enumerate(contours.items(), 1):
        roi, of_roi, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber = of_roi.ReferencedROINumber = observation.ReferencedROINumber = number
        roi.ROIName, roi.ROIGenerationAlgorithm = label, algorithm
        observation.RTROIInterpretedType = interpreted
        items = []
        for image, points in parts:
            header = source.datasets[image]
            cosines = np.asarray(header.ImageOrientationPatient, float)
            down, right = (float(v) for v in header.PixelSpacing)
            place = np.asarray(header.ImagePositionPatient, float)
            place = place + away_mm * np.cross(cosines[:3], cosines[3:])
            at = place + np.outer(points[:, 0] * right, cosines[:3]) + np.outer(points[:, 1] * down, cosines[3:])
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            item.ContourData = [f"{value:.{decimals}f}" for value in at.ravel()]
            items.append(item)
        of_roi.ContourSequence = items
        rois.append(roi)
        of_rois.append(of_roi)
        observations.append(observation)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = rois, of_rois
    dataset.RTROIObservationsSequence = observations
    return dataset


def outlines(mask: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Contours half-way between the pixels of ``[image, row, column]``; holes are contours of their own."""
    contours = []
    for image, plane in enumerate(mask):
        lines = contour_generator(z=np.pad(plane.astype(float), 1)).lines(0.5)
        contours += [(image, np.asarray(line)[:-1] - 1.0) for line in lines]
    return contours
