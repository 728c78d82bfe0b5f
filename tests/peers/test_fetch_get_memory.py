"""`ainode fetch` by C-GET writes an object as it comes: a large one is never in memory as a whole."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dcmqr_archive import dcmqrscp
from fetching import Fetching
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid
from receivers import receiving

logger = logging.getLogger(__name__)

MIB = 1 << 20
LARGE_MIB = 1000 if os.environ.get("AINODE_HEAVY") else 256


def multi_frame(path: Path, mib: int) -> str:
    """Write an Enhanced CT of so many MiB, and return its UID."""
    image, image.file_meta = Dataset(), FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality, image.AccessionNumber, image.PatientID, image.PatientName = "CT", "A1", "P1", "P^1"
    image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", 1, 1
    image.StudyDate, image.StudyTime = "20260102", "101010"
    image.Rows = image.Columns = 1024
    image.NumberOfFrames = mib // 2
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    dcmwrite(path, image, enforce_file_format=True)
    with path.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + (mib * MIB).to_bytes(4, "little"))
        block = os.urandom(MIB)
        for _ in range(mib):
            file.write(block)
    return str(image.SOPInstanceUID)


def peak_mib(fetching: Fetching) -> int:
    """Fetch in a process of its own, and return the most memory that it has had."""
    fetch = [sys.executable, "-m", "node", "fetch", "--config", str(fetching.config), "archive", "--accession", "A1"]
    process = subprocess.Popen(fetch)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss >> 10


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system does not say what a child has used")
def test_an_object_is_written_as_it_comes(tmp_path: Path) -> None:
    peaks = []
    for mib in (2, LARGE_MIB):
        folder = tmp_path / str(mib)
        folder.mkdir()
        uid = multi_frame(folder / "in.dcm", mib)
        with receiving(folder / "node") as node, dcmqrscp(folder / "archive") as port:
            subprocess.run(["storescu", "-aec", "QRSCP", "127.0.0.1", str(port), str(folder / "in.dcm")], check=True)
            fetching = Fetching(folder, node, "QRSCP", port)
            peaks.append(peak_mib(fetching))
            assert fetching.here() == {uid}
            stored = next((folder / "node").rglob(f"{uid}.dcm"))
            assert stored.stat().st_size > mib * MIB
    small, large = peaks
    logger.info("peak memory: %d MiB for 2 MiB, %d MiB for %d MiB", small, large, LARGE_MIB)
    assert large - small < 64
