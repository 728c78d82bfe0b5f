"""Writes a phantom as one DICOM series, clearly labelled as synthetic, on any regular grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from node import __version__
from node.demo.shapes import Array, Point

LABEL = "SYNTHETIC PHANTOM - NOT A PATIENT"
"""Image Comments (0020,4000) of every image."""


@dataclass(frozen=True)
class TrueLesion:
    """What a pipeline should find."""

    name: str
    centre: Point
    """Of mass, LPS mm."""
    diameter_mm: float
    """Of the sphere of the same volume."""

    @property
    def volume_ml(self) -> float:
        return float(np.pi / 6 * self.diameter_mm**3 / 1000)


@dataclass(frozen=True)
class Truth:
    """A written phantom study of one series."""

    study_instance_uid: str
    series_instance_uid: str
    paths: tuple[Path, ...]
    """In the order of the slices, along their normal."""
    lesions: tuple[TrueLesion, ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a series lie, LPS mm."""

    right: Array
    """Unit vector in which the columns are counted: to the right of the picture."""
    down: Array
    """Unit vector in which the rows are counted."""
    first: Array
    """Centre of the first pixel of the first slice."""
    pixel_mm: float
    slice_mm: float

    @property
    def normal(self) -> Array:
        """Unit vector in which the slices are counted, right-handed."""
        return np.cross(self.right, self.down)


def base_of(modality: str, sop_class: UID, part: str) -> Dataset:
    """Everything that all images of the series share, except the pixel matrix."""
    at = datetime.now(UTC).astimezone()
    base = Dataset()
    base.SpecificCharacterSet = "ISO_IR 192"
    base.SOPClassUID, base.Modality = sop_class, modality
    base.PatientName, base.PatientID = f"SYNTHETIC^{part} PHANTOM", f"DEMO-{modality}"
    base.PatientBirthDate, base.PatientSex, base.PatientAge = "", "O", "050Y"
    base.StudyInstanceUID, base.SeriesInstanceUID, base.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    base.StudyID, base.SeriesNumber, base.AccessionNumber = "DEMO", "1", ""
    base.ReferringPhysicianName, base.PositionReferenceIndicator = "", ""
    base.StudyDate = base.SeriesDate = base.AcquisitionDate = base.ContentDate = at.strftime("%Y%m%d")
    base.StudyTime = base.SeriesTime = base.AcquisitionTime = base.ContentTime = at.strftime("%H%M%S")
    base.StudyDescription, base.BodyPartExamined, base.ImageComments = f"{modality} {part}, synthetic", part, LABEL
    base.Manufacturer, base.ManufacturerModelName = "DICOM AI node", "Phantom generator"
    base.DeviceSerialNumber, base.SoftwareVersions = "0", __version__
    base.PatientPosition = "HFS"
    return base


def describe_ct(base: Dataset) -> None:
    """What every CT of ours says of its values: stored from 0 for -1024 HU, 12 bits."""
    base.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    base.RescaleIntercept, base.RescaleSlope, base.RescaleType = "-1024", "1", "HU"
    base.KVP, base.AcquisitionNumber, base.ConvolutionKernel = "120", "1", "STANDARD"
    base.WindowCenter, base.WindowWidth = "40", "400"


def stored_ct(values: Array) -> npt.NDArray[np.uint16]:
    """HU as ``describe_ct`` says that they are stored."""
    return np.clip(np.rint(values) + 1024, 0, 4095).astype(np.uint16)


def write_series(
    folder: Path, base: Dataset, stored: npt.NDArray[np.uint16], grid: Grid, lesions: tuple[TrueLesion, ...]
) -> Truth:
    """Write ``stored`` (slice, row, column) into ``folder``, which is made when missing, one file for each slice."""
    folder.mkdir(parents=True, exist_ok=True)
    base.PixelSpacing, base.SliceThickness = [f"{grid.pixel_mm:g}"] * 2, f"{grid.slice_mm:g}"
    base.ImageOrientationPatient = [f"{v:.9g}" for v in (*grid.right, *grid.down)]
    base.SamplesPerPixel, base.PhotometricInterpretation = 1, "MONOCHROME2"
    base.Rows, base.Columns = stored.shape[1:]
    base.BitsAllocated, base.BitsStored, base.HighBit, base.PixelRepresentation = 16, 12, 11, 0
    paths = tuple(_images(folder, base, stored, grid))
    return Truth(str(base.StudyInstanceUID), str(base.SeriesInstanceUID), paths, lesions)


def _images(folder: Path, base: Dataset, stored: npt.NDArray[np.uint16], grid: Grid) -> Iterator[Path]:
    for index, pixels in enumerate(stored):
        position = grid.first + grid.normal * (index * grid.slice_mm)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = base.SOPClassUID, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{base.Modality}{index + 1:04d}.dcm"
        image = FileDataset(path, base, file_meta=meta, preamble=b"\0" * 128)
        image.SOPInstanceUID, image.InstanceNumber = meta.MediaStorageSOPInstanceUID, str(index + 1)
        image.ImagePositionPatient = [f"{v:.6g}" for v in position]
        image.SliceLocation = f"{position @ grid.normal:.6g}"
        image.PixelData = pixels.tobytes()
        image.save_as(path, enforce_file_format=True)
        yield path
