"""Patient, study and character set leave the node exactly as the scanner wrote them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyses import ALGORITHM, OUTCOMES, analysis, halved, one, source_of, two_lesions
from dicom_files import ct_series, write
from pydicom import FileDataset, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from node import IMPLEMENTATION_CLASS_UID
from node.pipeline import Findings
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.gate.check import check
from node.results.header_repairs import repairs_of
from node.studies.source import SourceSeries

NAMES = {
    "japanese": (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B="),
    "japanese, half-width": (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
    ),
    "korean": (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7="),
    "chinese": (b"GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab="),
    "german": (b"ISO_IR 100", b"M\xfcller^J\xf6rg"),
    "utf-8": (b"ISO_IR 192", "Šćepanović^Đorđe=王^小東".encode()),
    "russian": (b"ISO_IR 144", b"\xbb\xee\xdacek\xd1yp\xd3"),
    "latin-1 without a character set": (None, b"M\xfcller^J\xf6rg"),
    "a character set that is not its own": (b"ISO_IR 192", b"M\xfcller^J\xf6rg"),
    "an unknown character set": (b"KLINGON", b"Worf^Mogh"),
    "an empty character set": (b"", b"Plain^Name"),
}


def rewrite(path: Path, charset: bytes | None, name: bytes) -> None:
    """Put these bytes into the file, whatever they are."""
    dataset = dcmread(path)
    for element in dataset:
        assert element.VR  # decoded while the character set is still the old one
    values: dict[int, tuple[str, bytes | None]] = {
        0x00080005: ("CS", charset),
        0x00100010: ("PN", name),
        0x00081030: ("LO", name[:60]),
    }
    for number, (vr, value) in values.items():
        tag = Tag(number)
        dataset.pop(tag, None)
        if value is not None:
            padded = value + b" " * (len(value) % 2)
            dataset[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)
    dataset.set_original_encoding(False, True, dataset._character_set)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())


def everything(source: SourceSeries) -> tuple[EncodedObject, ...]:
    """Derived images, SEG, SR, and the reports of the other outcomes."""
    findings = Findings(lesions=two_lesions(source).lesions, derived=halved(source).derived)
    objects = encode(analysis(findings), source)
    check(objects, source)
    for values in OUTCOMES.values():
        more = encode(analysis(**values), source)
        check(more, source)
        objects += more
    assert {made.kind for made in objects} >= {"derived", "seg", "sr"}
    return objects


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")  # pydicom warns about what the source wrote; that is the point
@pytest.mark.parametrize("which", NAMES)
def test_names_leave_byte_for_byte_as_they_came(tmp_path, which):
    charset, name = NAMES[which]
    paths = write(ct_series(4, 24), tmp_path)
    for path in paths:
        rewrite(path, charset, name)
    for encoded_object in everything(SourceSeries.read(paths)):
        raw = {e.tag: e.value for e in encoded_object.dataset.values() if isinstance(e, RawDataElement)}
        assert raw[Tag("PatientName")].rstrip() == name.rstrip()
        assert raw[Tag("StudyDescription")].rstrip() == name[:60].rstrip()
        assert (Tag("SpecificCharacterSet") in encoded_object.dataset) == (charset is not None)
        if charset is not None:
            padded = charset + b" " * (len(charset) % 2)
            assert b"\x08\x00\x05\x00CS" + len(padded).to_bytes(2, "little") + padded in encoded_object.data


def without(*keywords: str) -> Callable[[FileDataset], None]:
    def change(dataset: FileDataset) -> None:
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)

    return change


def having(**values: Any) -> Callable[[FileDataset], None]:
    def change(dataset: FileDataset) -> None:
        for keyword, value in values.items():
            if isinstance(value, bytes):
                tag = Tag(keyword)
                dataset[tag] = RawDataElement(tag, dataset[tag].VR, len(value), value, 0, False, True)
            else:
                setattr(dataset, keyword, value)

    return change


ODD_HEADERS = {
    "nothing of the patient": without("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "nothing of the study": without("StudyID", "AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"),
    "no slice thickness": without("SliceThickness"),
    "no frame of reference": without("FrameOfReferenceUID", "PositionReferenceIndicator"),
    "no series number": without("SeriesNumber"),
    "no manufacturer": without("Manufacturer"),
    "no type 2 attribute of the image": without("AcquisitionNumber", "KVP", "PositionReferenceIndicator"),
    "patient sex X": having(PatientSex=b"X "),
    "time with colons": having(StudyTime=b"10:15:00"),
    "age, size and weight": having(PatientAge="061Y", PatientSize=1.7, PatientWeight=70.0),
    "time zone": having(TimezoneOffsetFromUTC="+0530"),
    "empty type 2 attributes": having(PatientID="", AccessionNumber="", StudyTime="", PatientBirthDate=""),
}


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ODD_HEADERS)
def test_ordinary_odd_headers_make_good_results(tmp_path, which):
    datasets = ct_series(4, 24)
    for dataset in datasets:
        ODD_HEADERS[which](dataset)
        dataset["PixelData"].VR = "OW"
        dataset.set_original_encoding(False, True, dataset._character_set)
    objects = everything(SourceSeries.read(write(datasets, tmp_path)))
    assert [o.kind for o in objects] == ["derived"] * 4 + ["seg"] + ["sr"] * 6
    stated = dcmread(tmp_path / f"{datasets[0].SOPInstanceUID}.dcm")
    for encoded_object in objects:
        for keyword in ("PatientID", "PatientSex", "PatientAge", "StudyTime", "AccessionNumber", "StudyInstanceUID"):
            assert (encoded_object.dataset.get(keyword) or None) == (stated.get(keyword) or None)


@pytest.mark.thorough
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_of_the_source_make_good_results(tmp_path, syntax):
    datasets = ct_series(4, 24)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PregnancyStatus = 4
        if not syntax.is_little_endian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            dataset["PixelData"].VR = "OW"
        path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
        dcmwrite(
            path,
            dataset,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=True,
        )
    source = SourceSeries.read(tmp_path.iterdir())
    for encoded_object in everything(source):
        assert encoded_object.dataset.PatientName == "Test^Patient"
        assert encoded_object.dataset.PregnancyStatus == 4


def test_times_are_told_on_the_clock_of_the_source(tmp_path):
    source = source_of(tmp_path, ct_series(2, 16), having(TimezoneOffsetFromUTC="+0530"))
    moment = datetime(2026, 3, 4, 22, 0, 0, tzinfo=UTC)
    report = one(encode(analysis(outcome="failed", reason="x", analysed_at=moment), source), "sr")
    assert (report.ContentDate, report.ContentTime[:6]) == ("20260305", "033000")
    assert report.TimezoneOffsetFromUTC == "+0530"


@pytest.mark.thorough
def test_private_elements_and_overlays_stay_with_the_source(tmp_path):
    def spoil(dataset: FileDataset) -> None:
        dataset.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "LO", "secret")
        dataset.add_new(0x60003000, "OW", b"\0" * 32)

    source = source_of(tmp_path, ct_series(4, 24), spoil)
    for encoded_object in everything(source):
        assert not [t for t in set(encoded_object.dataset.keys()) if t.is_private or t.group == 0x6000]


@pytest.mark.thorough
def test_the_file_says_that_this_node_wrote_it_not_the_sender_of_the_images(tmp_path: Path):
    for encoded in everything(source_of(tmp_path, ct_series(4, 24))):
        meta = encoded.dataset.file_meta
        assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert "SourceApplicationEntityTitle" not in meta
        assert meta.MediaStorageSOPInstanceUID == encoded.dataset.SOPInstanceUID


def test_the_device_uid_of_the_algorithm_changes_with_its_weights(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 24))
    uids = set()
    for algorithm in (ALGORITHM, replace(ALGORITHM, weights_sha256="cd" * 32), replace(ALGORITHM, version="9")):
        report = one(encode(analysis(algorithm=algorithm, outcome="failed", reason="x"), source), "sr")
        uids.add(str(report.ContributingEquipmentSequence[-1].DeviceUID))
        again = one(encode(analysis(algorithm=algorithm, outcome="failed", reason="y"), source), "sr")
        assert str(again.ContributingEquipmentSequence[-1].DeviceUID) in uids
    assert len(uids) == 3


MENDED: dict[str, tuple[str, ...]] = {
    "nothing of the patient": ("PatientID is missing", "PatientName is missing", "PatientSex is missing"),
    "nothing of the study": ("AccessionNumber is missing", "StudyDate is missing", "StudyTime is missing"),
    "no slice thickness": ("SliceThickness is missing: the distance of the slices is taken",),
    "no frame of reference": ("FrameOfReferenceUID is missing",),
    "time with colons": ("StudyTime is no TM: kept as it is",),
    "age, size and weight": (),
    "time zone": (),
    "empty type 2 attributes": (),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", MENDED)
def test_what_is_mended_is_told_by_keyword(tmp_path: Path, which: str):
    source = source_of(tmp_path, ct_series(3, 16), ODD_HEADERS[which])
    told = repairs_of(source)
    assert all(any(line.startswith(wanted) for line in told) for wanted in MENDED[which])
    assert bool(told) == bool(MENDED[which])


CHARSETS_MENDED = {
    "latin-1 without a character set": "PatientName is not in SpecificCharacterSet: kept byte for byte",
    "a character set that is not its own": "PatientName is not in SpecificCharacterSet: kept byte for byte",
    "an unknown character set": "SpecificCharacterSet is unknown: kept, with all texts byte for byte",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", NAMES)
def test_names_in_their_character_set_need_no_mending_and_no_name_is_told(tmp_path: Path, which: str):
    charset, name = NAMES[which]
    paths = write(ct_series(3, 16), tmp_path)
    for path in paths:
        rewrite(path, charset, name)
    told = repairs_of(SourceSeries.read(paths))
    wanted = CHARSETS_MENDED.get(which)
    assert (wanted in told) if wanted else told == ()
    assert not any(part in line for line in told for part in ("rg", "Worf", "Yamada", "Hong"))
