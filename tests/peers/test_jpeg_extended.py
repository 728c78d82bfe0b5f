"""JPEG Extended with 12 bits is decoded as dcmtk decodes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ct_series
from pydicom import dcmread
from pydicom.uid import JPEGExtended12Bit

from node.studies.source import SourceSeries

pytestmark = pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmtk is not installed")


def test_twelve_bits_are_decoded_as_dcmtk_decodes_them(tmp_path: Path) -> None:
    (image,) = ct_series(1, 64)
    ramp = np.add.outer(np.arange(64) * 30, np.arange(64) * 25).astype("<u2") % 4096
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.PixelData = ramp.tobytes()
    for name in ("plain", "compressed", "expanded"):
        (tmp_path / name).mkdir()
    plain, compressed, expanded = (tmp_path / name / "1.dcm" for name in ("plain", "compressed", "expanded"))
    image.save_as(plain, enforce_file_format=True)
    subprocess.run(["dcmcjpeg", "+ee", "+q", "100", plain, compressed], check=True)
    subprocess.run(["dcmdjpeg", compressed, expanded], check=True)
    assert dcmread(compressed).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    values, expected = (SourceSeries.read([path]).image(0) for path in (compressed, expanded))
    assert np.array_equal(values, expected)
    assert np.abs(values - (ramp - 1024.0)).max() < 64
