"""Synthetic instances that are encoded once; their UIDs are exchanged in the encoded bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from node.bench.sender import SERIES, SOP_INSTANCE, STUDY, numbered, with_uids
from node.receive.part10 import file_header


@dataclass(frozen=True)
class Kind:
    """What is sent: a class and one encoded data set, Explicit VR Little Endian, with the UIDs of ``sender``."""

    name: str
    sop_class_uid: str
    data: bytes

    @property
    def megabytes(self) -> float:
        return len(self.data) / 1e6


def ct() -> Kind:
    """512 x 512 pixels of 16 bits: 0.53 MB."""
    return _kind("CT", CTImageStorage, 512)


def mr() -> Kind:
    """256 x 256 pixels of 16 bits: 0.13 MB."""
    return _kind("MR", MRImageStorage, 256)


def write_files(kind: Kind, folder: Path, first: int, count: int) -> None:
    """The instances that an association of the scripted sender would send, as Part 10 files."""
    folder.mkdir(parents=True)
    for number in range(count):
        head, rest = with_uids(kind.data, first, number)
        header = file_header(
            sop_class_uid=kind.sop_class_uid,
            sop_instance_uid=numbered(first + 2 + number).decode(),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            sender="BENCH",
            receiver="BENCH",
        )
        with (folder / f"{number:06d}.dcm").open("wb") as file:
            file.writelines((header, head, rest))


def _kind(modality: str, sop_class: str, size: int) -> Kind:
    dataset = Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, SOP_INSTANCE.decode()
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101112"
    dataset.Modality, dataset.Manufacturer = modality, "Synthetic"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.PatientBirthDate = ""
    dataset.StudyDescription = dataset.SeriesDescription = "Throughput"
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Bench^Throughput", "BENCH", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY.decode(), SERIES.decode()
    dataset.FrameOfReferenceUID = SERIES.decode()
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1.0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = size
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    pixels = np.random.default_rng(1).integers(0, 4096, (size, size), np.uint16)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, dataset)
    return Kind(modality, sop_class, stream.getvalue())
