"""Writes the phantoms as DICOM series, clearly labelled as synthetic, and says what is in them.

The pictures are the same every time (fixed seed); all UIDs are new, so that every run is a new study.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy import ndimage

from node import __version__
from node.demo.brain import LESION_CENTRE, flair
from node.demo.chest import NODULES, chest_hu
from node.demo.shapes import Array, Point

SEED = 20260101
LABEL = "SYNTHETIC PHANTOM - NOT A PATIENT"
"""Image Comments (0020,4000) of every image."""
CT_SLICE_MM, CT_FIELD_MM, CT_SLICES, CT_FIRST_MM = 2.5, 400.0, 120, -150.0
MR_SLICE_MM, MR_FIELD_MM, MR_SLICES, MR_FIRST_MM = 5.0, 230.4, 28, -62.0


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
    """In the order of the slices, from foot to head."""
    lesions: tuple[TrueLesion, ...]


def write_chest_ct(folder: Path, *, matrix: int = 512) -> Truth:
    """Write a chest CT of 120 axial slices of 2.5 mm with four nodules into ``folder`` (made when missing).

    ``matrix``: rows and columns; 128 makes a phantom in a second, with large pixels.
    """
    zs, plane = _axis(CT_FIRST_MM, CT_SLICE_MM, CT_SLICES), _plane(CT_FIELD_MM, matrix)
    stored = np.clip(np.rint(chest_hu(zs, plane, plane, SEED)) + 1024, 0, 4095).astype(np.uint16)
    base = _base("CT", CTImageStorage, "CHEST")
    base.SeriesDescription = "Chest 2.5 mm, synthetic phantom"
    base.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    base.RescaleIntercept, base.RescaleSlope, base.RescaleType = "-1024", "1", "HU"
    base.KVP, base.AcquisitionNumber, base.ConvolutionKernel = "120", "1", "STANDARD"
    base.WindowCenter, base.WindowWidth = "40", "400"
    lesions = tuple(TrueLesion(n.name, n.centre, n.diameter_mm) for n in NODULES)
    return _write(folder, base, stored, (zs, plane), lesions)


def write_brain_flair(folder: Path, *, matrix: int = 256) -> Truth:
    """Write a brain FLAIR of 28 axial slices of 5 mm with one lesion on the left into ``folder``."""
    zs, plane = _axis(MR_FIRST_MM, MR_SLICE_MM, MR_SLICES), _plane(MR_FIELD_MM, matrix)
    signal, share = flair(zs, plane, plane, SEED)
    stored = np.clip(np.rint(signal), 0, 4095).astype(np.uint16)
    base = _base("MR", MRImageStorage, "BRAIN")
    base.SeriesDescription = "AX FLAIR, synthetic phantom"
    base.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    base.ScanningSequence, base.SequenceVariant, base.ScanOptions = ["SE", "IR"], "SK", ""
    base.MRAcquisitionType, base.EchoTrainLength = "2D", "16"
    base.RepetitionTime, base.EchoTime, base.InversionTime = "9000", "120", "2500"
    base.MagneticFieldStrength, base.SpacingBetweenSlices = "1.5", str(MR_SLICE_MM)
    base.WindowCenter, base.WindowWidth = "500", "1000"
    return _write(folder, base, stored, (zs, plane), (_flair_truth(share, zs, plane),))


def _flair_truth(share: Array, zs: Array, plane: Array) -> TrueLesion:
    middle = ndimage.center_of_mass(share)
    at = [float(np.interp(m, range(len(a)), a)) for m, a in zip(middle, (zs, plane, plane), strict=True)]
    volume = float(share.sum(dtype=np.float64)) * MR_SLICE_MM * float(plane[1] - plane[0]) ** 2
    side = "left" if LESION_CENTRE[0] > 0 else "right"
    return TrueLesion(f"{side} parietal lobe", (at[2], at[1], at[0]), (6 * volume / np.pi) ** (1 / 3))


def _axis(first: float, step: float, count: int) -> Array:
    return (first + step * np.arange(count)).astype(np.float32)


def _plane(field_mm: float, matrix: int) -> Array:
    """Pixel centres of a square field of view round the origin."""
    pixel = field_mm / matrix
    return ((np.arange(matrix) - (matrix - 1) / 2) * pixel).astype(np.float32)


def _base(modality: str, sop_class: UID, part: str) -> Dataset:
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


def _write(
    folder: Path,
    base: Dataset,
    stored: npt.NDArray[np.uint16],
    grid: tuple[Array, Array],
    lesions: tuple[TrueLesion, ...],
) -> Truth:
    folder.mkdir(parents=True, exist_ok=True)
    slice_mm, pixel_mm = (float(axis[1] - axis[0]) for axis in grid)
    base.PixelSpacing, base.SliceThickness = [f"{pixel_mm:g}"] * 2, f"{slice_mm:g}"
    base.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    base.SamplesPerPixel, base.PhotometricInterpretation = 1, "MONOCHROME2"
    base.Rows, base.Columns = stored.shape[1:]
    base.BitsAllocated, base.BitsStored, base.HighBit, base.PixelRepresentation = 16, 12, 11, 0
    paths = tuple(_images(folder, base, stored, grid))
    return Truth(str(base.StudyInstanceUID), str(base.SeriesInstanceUID), paths, lesions)


def _images(folder: Path, base: Dataset, stored: npt.NDArray[np.uint16], grid: tuple[Array, Array]) -> Iterator[Path]:
    zs, plane = grid
    for number, (z, pixels) in enumerate(zip(zs, stored, strict=True), start=1):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = base.SOPClassUID, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{base.Modality}{number:04d}.dcm"
        image = FileDataset(path, base, file_meta=meta, preamble=b"\0" * 128)
        image.SOPInstanceUID, image.InstanceNumber = meta.MediaStorageSOPInstanceUID, str(number)
        image.ImagePositionPatient = [f"{plane[0]:.6g}", f"{plane[0]:.6g}", f"{z:.6g}"]
        image.SliceLocation = f"{z:.6g}"
        image.PixelData = pixels.tobytes()
        image.save_as(path, enforce_file_format=True)
        yield path
