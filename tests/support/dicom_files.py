"""Small valid DICOM objects for tests: CT and MR series, a secondary capture, a text SR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
"""Image Orientation (Patient): direction of the rows, then of the columns, LPS."""


def bare_object(
    sop_class: str,
    modality: str,
    *,
    study: str = "",
    series: str = "",
    number: int = 1,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> FileDataset:
    study, series = study or generate_uid(), series or generate_uid()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = transfer_syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20260102"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "101112"
    dataset.AccessionNumber = "A1"
    dataset.Modality = modality
    dataset.Manufacturer = "AI node tests"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = f"Test {modality}"
    dataset.SeriesDescription = f"Test {modality} series"
    dataset.PatientName = "Test^Patient"
    dataset.PatientID = "TEST-1"
    dataset.PatientBirthDate = "19600101"
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number
    return dataset


def put_pixels(dataset: Dataset, pixels: np.ndarray, *, signed: bool) -> None:
    """Store ``[row, column]`` in 16 bits; a value that does not fit is a ``ValueError``."""
    stored = np.dtype("<i2" if signed else "<u2")
    if pixels.min() < np.iinfo(stored).min or pixels.max() > np.iinfo(stored).max:
        raise ValueError(f"values {pixels.min()} to {pixels.max()} do not fit in {stored.name}")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = pixels.astype(stored).tobytes()


def _slices(
    sop_class: str,
    modality: str,
    volume: np.ndarray,
    *,
    spacing: tuple[float, float, float],
    orientation: Sequence[float],
    origin: tuple[float, float, float],
    study: str,
    series: str,
    transfer_syntax: str,
) -> list[FileDataset]:
    study, series = study or generate_uid(), series or generate_uid()
    frame_of_reference = generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    datasets = []
    for index, pixels in enumerate(volume):
        dataset = bare_object(
            sop_class, modality, study=study, series=series, number=index + 1, transfer_syntax=transfer_syntax
        )
        position = np.asarray(origin) + normal * index * spacing[0]
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"]
        dataset.FrameOfReferenceUID = frame_of_reference
        dataset.PositionReferenceIndicator = ""
        dataset.PatientPosition = "HFS"
        dataset.AcquisitionNumber = 1
        dataset.SliceThickness = float(spacing[0])
        dataset.PixelSpacing = [float(spacing[1]), float(spacing[2])]
        dataset.ImageOrientationPatient = [float(v) for v in orientation]
        dataset.ImagePositionPatient = [round(float(v), 6) for v in position]
        dataset.SliceLocation = round(float(position @ normal), 6)
        if modality == "CT":
            dataset.BodyPartExamined = "CHEST"
            dataset.KVP = 120.0
            dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024.0, 1.0, "HU"
            dataset.WindowCenter, dataset.WindowWidth = -600.0, 1500.0
            put_pixels(dataset, pixels + 1024, signed=False)
        else:
            dataset.BodyPartExamined = "BRAIN"
            dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "IR", "NONE", ""
            dataset.MRAcquisitionType = "2D"
            dataset.SeriesDescription = "AX FLAIR"
            dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime = 9000.0, 120.0, 2500.0
            dataset.EchoTrainLength = 1
            dataset.MagneticFieldStrength = 3.0
            put_pixels(dataset, pixels, signed=False)
        datasets.append(dataset)
    return datasets


def _noise(modality: str, n: int, size: int) -> np.ndarray:
    noise = np.random.default_rng(7).normal(0.0, 20.0, (n, size, size))
    return np.rint((noise - 800.0) if modality == "CT" else np.abs(noise) + 100.0).astype(np.int32)


def ct_series(
    n: int = 4,
    size: int = 32,
    *,
    volume: np.ndarray | None = None,
    spacing: tuple[float, float, float] = (2.5, 0.7, 0.7),
    orientation: Sequence[float] = AXIAL,
    origin: tuple[float, float, float] = (-10.0, -20.0, -30.0),
    study: str = "",
    series: str = "",
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> list[FileDataset]:
    """A CT series of ``n`` slices of ``size`` x ``size`` pixels, or of ``volume`` (slices, rows, columns; HU).

    ``spacing`` is (between slices, between rows, between columns) in mm; ``origin`` the centre of the first pixel of
    the first slice, LPS mm; slices go along the right-handed normal. UIDs are fresh unless given.
    """
    return _slices(
        CTImageStorage,
        "CT",
        _noise("CT", n, size) if volume is None else volume,
        spacing=spacing,
        orientation=orientation,
        origin=origin,
        study=study,
        series=series,
        transfer_syntax=transfer_syntax,
    )


def mr_series(
    n: int = 4,
    size: int = 32,
    *,
    volume: np.ndarray | None = None,
    spacing: tuple[float, float, float] = (3.0, 0.9, 0.9),
    orientation: Sequence[float] = AXIAL,
    origin: tuple[float, float, float] = (-10.0, -20.0, -30.0),
    study: str = "",
    series: str = "",
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> list[FileDataset]:
    """A brain FLAIR series; parameters as for ``ct_series``, ``volume`` in stored values >= 0."""
    return _slices(
        MRImageStorage,
        "MR",
        _noise("MR", n, size) if volume is None else volume,
        spacing=spacing,
        orientation=orientation,
        origin=origin,
        study=study,
        series=series,
        transfer_syntax=transfer_syntax,
    )


def secondary_capture(size: int = 32, *, study: str = "", series: str = "") -> FileDataset:
    """An 8-bit grey screenshot: pixels, but no geometry."""
    dataset = bare_object(SecondaryCaptureImageStorage, "OT", study=study, series=series)
    dataset.ConversionType = "WSD"
    dataset.PatientOrientation = dataset.Laterality = ""
    put_pixels(dataset, np.arange(size * size).reshape(size, size) % 256, signed=False)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = (np.arange(size * size) % 256).astype(np.uint8).tobytes()
    return dataset


def text_report(text: str = "Nothing seen", *, study: str = "", series: str = "") -> FileDataset:
    """A Basic Text SR: a storage object without pixels."""
    dataset = bare_object(BasicTextSRStorage, "SR", study=study, series=series)
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [_code("126000", "Imaging Measurement Report")]
    dataset.ContinuityOfContent = "SEPARATE"
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", text
    item.ConceptNameCodeSequence = [_code("121071", "Finding")]
    dataset.ContentSequence = [item]
    return dataset


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def write(datasets: Iterable[FileDataset], folder: Path) -> list[Path]:
    """Write each as ``SOPInstanceUID.dcm`` into ``folder``; return the paths in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset in datasets:
        path = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
