"""The identity of an encoded data set: found in every encoding, refused when the bytes are none."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from bombs import deflated
from dicom_files import ct_series, text_report
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
)
from receivers import deflate, encode

from node.errors import InputError
from node.receive.dataset_identity import DatasetIdentity, read_identity
from node.receive.dataset_limits import DatasetLimits
from node.receive.element_walk import scan

DATASET = ct_series(1, 16)[0]
ENCODED = encode(DATASET)


def expected(dataset: Dataset) -> DatasetIdentity:
    return DatasetIdentity(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        study_instance_uid=dataset.StudyInstanceUID,
        series_instance_uid=dataset.SeriesInstanceUID,
        modality=dataset.Modality,
    )


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize("dataset", [DATASET, text_report()], ids=["CT", "SR"])
def test_the_head_is_read_in_every_encoding(dataset: Dataset, syntax: str) -> None:
    assert read_identity(BytesIO(encode(dataset, syntax)), syntax) == expected(dataset)


def test_encapsulated_pixels_are_explicit_little_endian() -> None:
    fragments = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\4\0\0\0\xff\xd8\xff\xd9" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + fragments
    dataset = Dataset({e.tag: e for e in DATASET if e.keyword != "PixelData"})
    assert read_identity(BytesIO(encode(dataset) + pixels), JPEGLosslessSV1) == expected(DATASET)
    with pytest.raises(InputError):
        read_identity(BytesIO(encode(dataset) + pixels[:-8]), JPEGLosslessSV1)


@pytest.mark.parametrize("cut", [1, 100, 511])
def test_a_data_set_that_ends_inside_an_element_is_refused(cut: int) -> None:
    with pytest.raises(InputError, match="ends within an element"):
        read_identity(BytesIO(ENCODED[:-cut]), ExplicitVRLittleEndian)


def test_what_the_data_set_does_not_say_is_empty() -> None:
    assert read_identity(BytesIO(b""), ExplicitVRLittleEndian) == DatasetIdentity(
        sop_class_uid="", sop_instance_uid="", study_instance_uid="", series_instance_uid="", modality=""
    )


def test_uids_inside_sequences_are_not_the_instance_s_own() -> None:
    item = Dataset()
    item.SeriesInstanceUID, item.StudyInstanceUID = "9.9.9", "9.9"
    dataset = Dataset()
    dataset.ReferencedSeriesSequence = [item]
    dataset.StudyInstanceUID = "1.1"
    dataset["ReferencedSeriesSequence"].is_undefined_length = True
    head = read_identity(BytesIO(encode(dataset)), ExplicitVRLittleEndian)
    assert (head.study_instance_uid, head.series_instance_uid) == ("1.1", "")


def test_a_modality_that_is_none_does_not_reach_the_ledger() -> None:
    raw = b"\x08\x00\x60\x00CS"
    for value in (b"A" * 18, b"C\0T\x07", b"\xff\xfe"):
        data = raw + len(value).to_bytes(2, "little") + value
        modality = read_identity(BytesIO(data), ExplicitVRLittleEndian).modality
        assert len(modality) <= 16
        assert modality.isprintable()


def test_a_deflated_data_set_that_is_damaged_or_cut_is_refused() -> None:
    data = deflate(ENCODED)
    with pytest.raises(InputError, match="is incomplete"):
        read_identity(BytesIO(data[: len(data) // 2]), DeflatedExplicitVRLittleEndian)
    with pytest.raises(InputError, match="damaged"):
        read_identity(BytesIO(b"\xff" * 100), DeflatedExplicitVRLittleEndian)


@pytest.mark.thorough
def test_a_deflate_bomb_is_refused_without_filling_memory() -> None:
    import tracemalloc

    bomb = deflated(ENCODED, 64 << 20)
    assert len(bomb) < 1 << 17
    tracemalloc.start()
    with pytest.raises(InputError, match=r"header larger than 2 MiB \(max_header_mib\)"):
        read_identity(BytesIO(bomb), DeflatedExplicitVRLittleEndian, DatasetLimits(header_bytes=1 << 21))
    with pytest.raises(InputError, match=r"inflates to more than 2 MiB \(max_inflated_mib\)"):
        read_identity(BytesIO(bomb), DeflatedExplicitVRLittleEndian, DatasetLimits(inflated_bytes=1 << 21))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def readable_or_refused(data: bytes, syntax: str) -> bool:
    """Whether an identity with a usable modality was read, or the data set refused with a remedy."""
    try:
        modality = read_identity(BytesIO(data), syntax).modality
    except InputError as error:
        return str(error).endswith(("; correct it at the sender", "; send it again"))
    return len(modality) <= 16 and (modality.isprintable() or not modality)


@given(data=st.binary(max_size=400), syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
def test_arbitrary_bytes_are_read_or_refused_but_never_break_the_receiver(data: bytes, syntax: str) -> None:
    assert readable_or_refused(data, syntax)


@pytest.mark.filterwarnings("ignore:(Unknown encoding|Incorrect value for Specific Character Set)")
@given(position=st.integers(0, len(ENCODED) - 1), value=st.integers(0, 255))
def test_a_flipped_byte_is_read_or_refused_but_never_breaks_the_receiver(position: int, value: int) -> None:
    data = bytearray(ENCODED)
    data[position] = value
    assert readable_or_refused(bytes(data), ExplicitVRLittleEndian)


# --- the quick walk -----------------------------------------------------------------------------------------------


def walked(data: bytes, syntax: str, folder: Path) -> dict[int, str] | None:
    path = folder / "data"
    path.write_bytes(b"before" + data)
    with path.open("rb") as file:
        implicit = syntax == ImplicitVRLittleEndian
        return scan(file.fileno(), 6, 6 + len(data), implicit=implicit, wanted=(0x0020000D, 0x00080060))


def nested() -> Dataset:
    """Sequences of defined and undefined length inside one another, and an element behind the pixels."""
    dataset = deepcopy(DATASET)
    inner, middle = Dataset(), Dataset()
    inner.StudyInstanceUID = "9.9.9"  # not the one at the top level
    inner.Modality = "XX"
    middle.ReferencedImageSequence = [inner, Dataset()]
    middle["ReferencedImageSequence"].is_undefined_length = True
    middle.is_undefined_length_sequence_item = True
    dataset.ReferencedStudySequence = [middle, inner]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    dataset.ReferencedPatientSequence = [middle]
    dataset.DataSetTrailingPadding = bytes(20_000)
    return dataset


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("dataset", [DATASET, text_report(), nested()], ids=["CT", "SR", "nested"])
def test_the_quick_walk_finds_what_the_slow_one_finds(dataset: Dataset, syntax: str, tmp_path: Path) -> None:
    values = walked(encode(dataset, syntax), syntax, tmp_path)
    assert values == {0x0020000D: dataset.StudyInstanceUID, 0x00080060: dataset.Modality}


def test_the_quick_walk_steps_over_compressed_frames(tmp_path: Path) -> None:
    fragments = b"\xfe\xff\x00\xe0\0\0\0\0" + (b"\xfe\xff\x00\xe0\0\x80\0\0" + bytes(32768)) * 3
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + fragments + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data = encode(Dataset({e.tag: e for e in DATASET if e.keyword != "PixelData"})) + pixels
    assert walked(data, JPEGLosslessSV1, tmp_path) is not None
    assert walked(data[:-8], JPEGLosslessSV1, tmp_path) is None
    assert walked(data + data[-8:], JPEGLosslessSV1, tmp_path) is None


@pytest.mark.filterwarnings("ignore:(Unknown encoding|Incorrect value for Specific Character Set)")
@example(
    cut=0, known=0, changes=[(8, 0)], syntax=ExplicitVRLittleEndian, dataset=DATASET
)  # of the Specific Character Set
@given(
    cut=st.integers(0, 2000),
    known=st.integers(0, 2000),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
    syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
    dataset=st.sampled_from([DATASET, nested()]),
)
def test_the_quick_walk_takes_nothing_that_the_slow_one_refuses(
    cut: int, known: int, changes: list[tuple[int, int]], syntax: str, dataset: Dataset
) -> None:
    data = bytearray(encode(dataset, syntax))
    for position, value in changes:
        data[position % len(data)] = value
    data = data[: len(data) - cut]
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        walk = partial(
            scan, file.fileno(), 0, len(data), implicit=syntax == ImplicitVRLittleEndian, wanted=(0x0020000D,)
        )
        quick = walk()
        assert walk(beginning=bytes(data[:known])) == quick
    if quick is not None:
        assert read_identity(BytesIO(bytes(data)), syntax).study_instance_uid == quick[0x0020000D]
