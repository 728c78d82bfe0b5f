"""Pixel data is read from where its header ended, as pydicom reads it from the whole file, or from the whole file."""

from __future__ import annotations

import os
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ct_series
from pydicom import Dataset, FileDataset, dcmread, dcmwrite
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from node.errors import InputError
from node.studies.bounded_file import BoundedFile
from node.studies.header import read_header
from node.studies.pixel_data import read_pixels
from node.studies.stored_pixel_data import behind_header

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def image_of(stored: np.ndarray, syntax: str = ExplicitVRLittleEndian, *, padding: int = 0) -> FileDataset:
    (image,) = ct_series(1, 16)
    bits = 1 if stored.dtype == np.bool_ else stored.dtype.itemsize * 8
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated = image.BitsStored = bits
    image.HighBit, image.PixelRepresentation = bits - 1, int(stored.dtype.kind == "i")
    values = np.packbits(stored, bitorder="little") if bits == 1 else stored
    if syntax == ExplicitVRBigEndian:
        values = values.byteswap()
    image.add_new("PixelData", "OB" if bits <= 8 and syntax != ImplicitVRLittleEndian else "OW", values.tobytes())
    if padding:
        image.DataSetTrailingPadding = bytes(padding)
    image.file_meta.TransferSyntaxUID = syntax
    return image


def written(image: FileDataset, path: Path) -> Path:
    syntax = image.file_meta.TransferSyntaxUID
    encoding = {"implicit_vr": syntax == ImplicitVRLittleEndian, "little_endian": syntax != ExplicitVRBigEndian}
    buffer = BytesIO()
    dcmwrite(buffer, image, **({} if syntax == RLELossless else encoding))
    path.write_bytes(buffer.getvalue())
    return path


def values(path: Path, header: Dataset) -> np.ndarray:
    return next(read_pixels(path, [header], lambda stored, _: stored))


def is_found(path: Path, header: Dataset) -> bool:
    with BoundedFile(path) as file:
        return behind_header(file, header) is not None


@pytest.mark.parametrize(
    ("syntax", "dtype"),
    [
        *product(NATIVE, ("<u2", "<i2", "<u4")),
        *product((ImplicitVRLittleEndian, ExplicitVRLittleEndian), ("u1", "bool")),
    ],
)
@pytest.mark.parametrize("padding", [0, 100])
def test_pixels_are_those_that_pydicom_reads_from_the_whole_file(
    syntax: str, dtype: str, padding: int, tmp_path: Path
) -> None:
    stored = np.random.default_rng(0).integers(0, 2**15, (16, 24)).astype(dtype)
    path = written(image_of(stored, syntax, padding=padding), tmp_path / "image.dcm")
    header = read_header(path)
    assert is_found(path, header)
    assert np.array_equal(values(path, header), stored)
    assert np.array_equal(dcmread(path).pixel_array, stored)


def test_a_length_that_looks_like_a_value_representation_is_one(tmp_path: Path) -> None:
    """21,316 is ``DS`` as two bytes: who guesses the encoding from them takes it for explicit."""
    stored = np.arange(73 * 146, dtype="<u2").reshape(73, 146)
    assert stored.nbytes.to_bytes(4, "little")[:2] == b"DS"
    path = written(image_of(stored, ImplicitVRLittleEndian), tmp_path / "image.dcm")
    assert np.array_equal(values(path, read_header(path)), stored)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.9", "1.2.3", CTImageStorage])
def test_an_unknown_transfer_syntax_makes_no_header_unreadable(syntax: str, tmp_path: Path) -> None:
    image = image_of(np.zeros((16, 24), "<u2"))
    path = tmp_path / "image.dcm"
    image.file_meta.TransferSyntaxUID = syntax
    image.save_as(path, implicit_vr=False, little_endian=True, force_encoding=True)
    header = read_header(path)
    assert header.Rows == 16
    assert not is_found(path, header)


def test_an_encoding_that_the_transfer_syntax_does_not_say_is_kept(tmp_path: Path) -> None:
    stored = np.arange(384, dtype="<u2").reshape(16, 24)
    path = tmp_path / "image.dcm"
    image_of(stored).save_as(path, implicit_vr=True, little_endian=True, force_encoding=True)
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    header = read_header(path)
    assert is_found(path, header)
    assert np.array_equal(values(path, header), stored)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_pixel_data_is_read_from_the_whole_file(syntax: str, tmp_path: Path) -> None:
    stored = np.arange(384, dtype="<u2").reshape(16, 24)
    image = image_of(stored)
    if syntax == RLELossless:
        image.compress(RLELossless, generate_instance_uid=False)
    image.file_meta.TransferSyntaxUID = syntax
    path = written(image, tmp_path / "image.dcm")
    header = read_header(path)
    assert not is_found(path, header)
    assert np.array_equal(values(path, header), stored)


def test_a_file_that_was_changed_since_is_read_as_a_whole(tmp_path: Path) -> None:
    stored = np.arange(384, dtype="<u2").reshape(16, 24)
    image = image_of(stored)
    path = written(image, tmp_path / "image.dcm")
    header = read_header(path)
    os.utime(path, ns=(0, 0))
    changed = image_of(stored + 1)
    changed.PatientComments = "x" * 1000
    written(changed, path)
    assert not is_found(path, header)
    assert np.array_equal(values(path, header), stored + 1)
    written(image_of(stored.T.copy()), path)
    with pytest.raises(InputError, match="header says"):
        values(path, header)


@pytest.mark.parametrize("cut", [1, 4, 700])
def test_a_file_that_is_cut_off_is_read_as_pydicom_reads_it(cut: int, tmp_path: Path) -> None:
    stored = np.arange(384, dtype="<u2").reshape(16, 24)
    path = written(image_of(stored, padding=100), tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes()[:-cut])
    header = read_header(path)
    if cut < 100:
        assert np.array_equal(values(path, header), stored)
    else:
        with pytest.raises(InputError, match="cannot be decoded"):
            values(path, header)
