"""Every series whose UIDs and identity can be read gets a report of its failure, whatever else is in its headers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from dicom_files import ct_series
from drawn_examples import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from job_node import JobNode, config_of
from pydicom import DataElement, Dataset, FileDataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.config import DEFAULT_OBJECTS
from node.errors import IdentityError, InputError, not_analysed
from node.pipeline import Algorithm
from node.results.analysis import Analysis
from node.results.failure_report import encode_failure_reports, stated_identity
from node.studies.element_bytes import top_elements
from node.studies.minimal_series import MinimalSeries, minimal_header

pytestmark = pytest.mark.thorough

_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """One element, Explicit VR Little Endian, as a careless or hostile writer may write it."""
    length = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr.decode("latin-1") in _LONG:
        return head + struct.pack("<HL", 0, length) + value
    return head + struct.pack("<H", length) + value


def nested(tag: int, depth: int, *, undefined: bool) -> bytes:
    """A sequence in a sequence in a sequence."""
    if undefined:
        begin = element(tag, b"SQ", b"", length=0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        return begin * depth + end * depth
    data = b""
    for _ in range(depth):
        data = element(tag, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data)
    return data


IMAGE = ct_series(1, 16)[0]
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_KEPT = {int(Tag(keyword)) for keyword in (*UIDS, "Modality", "PatientID", "PatientName", "PixelData")}
_HIT = (
    "SpecificCharacterSet", "ImageType", "InstanceCreationDate", "StudyDate", "SeriesDate", "AcquisitionDate",
    "ContentDate", "StudyTime", "AccessionNumber", "Manufacturer", "ReferringPhysicianName", "StudyDescription",
    "ManufacturerModelName", "ReferencedStudySequence", "ReferencedImageSequence", "PatientBirthDate", "PatientSex",
    "OtherPatientIDsSequence", "PatientAge", "PatientSize", "PatientWeight", "PregnancyStatus", "BodyPartExamined",
    "SliceThickness", "KVP", "SpacingBetweenSlices", "SoftwareVersions", "SeriesNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "RescaleIntercept", "RescaleSlope", "LossyImageCompression", "RequestAttributesSequence",
    "TimezoneOffsetFromUTC", "ContributingEquipmentSequence", "ReasonForPerformedProcedureCodeSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_VALUES = (
    b"", b"abc ", b"1e308 ", b"-1e999", b"99999999999999999999", b"nan ", b"1\\2\\3\\4\\5 ", b"\\\\\\\\",
    b"\xff\xfe\0\0", b"20261341", b"00000000", b"ISO 2022 IR 87\\ISO_IR 192", b"ISO_IR 999", b"\x1b$B\x1b(B ",
    b"1.2.03", b"A" * 70000, b"9" * 400, b"\0" * 16, b"+9999 ", b"=^^^=^^^=^^^ ",
)  # fmt: skip
_VRS = [b"ZZ", b"??", b"SQ", b"FD", b"US", b"UN", b"OB", b"LO", b"DS", b"IS", b"DA", b"PN", b"UI", b"AT", b"UT"]

damage = st.one_of(
    st.tuples(st.sampled_from(_HIT), st.none(), st.sampled_from(_VALUES)),  # a value that its VR does not allow
    st.tuples(st.sampled_from(_HIT), st.sampled_from(_VRS), st.sampled_from(_VALUES)),  # another VR
    st.tuples(st.sampled_from(_HIT), st.just("nested"), st.sampled_from([b"defined", b"undefined"])),
    st.tuples(st.just("private"), st.sampled_from(_VRS), st.sampled_from(_VALUES)),
)
Damage = tuple[str, bytes | str | None, bytes]


def parts_of(image: FileDataset) -> dict[int, bytes]:
    """Its elements as bytes, Explicit VR Little Endian."""
    parts: dict[int, bytes] = {}
    for part in image:
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = False, True
        write_dataset(
            buffer, Dataset({part.tag: DataElement(part.tag, "OW" if part.tag == 0x7FE00010 else part.VR, part.value)})
        )
        parts[int(part.tag)] = buffer.getvalue()
    return parts


def preamble_of(image: FileDataset) -> bytes:
    """What comes before the data set in its file."""
    buffer = BytesIO()
    FileDataset(buffer, Dataset(), file_meta=image.file_meta, preamble=b"\0" * 128).save_as(
        buffer, enforce_file_format=True
    )
    return buffer.getvalue()


PARTS, PREAMBLE = parts_of(IMAGE), preamble_of(IMAGE)


def damaged(damages: list[Damage], image: FileDataset | None = None) -> bytes:
    """The file of an image with these elements in place of its own."""
    parts = dict(PARTS) if image is None else parts_of(image)
    for keyword, how, value in damages:
        tag = 0x00090010 if keyword == "private" else int(Tag(keyword))
        if tag in _KEPT:
            continue
        if how == "nested":
            parts[tag] = nested(tag, 60, undefined=False) if value == b"defined" else nested(tag, 1000, undefined=True)
            continue
        vr = how if isinstance(how, bytes) else dictionary_VR(keyword).split(" ")[0].encode()
        even = value + b"\0" * (len(value) % 2)
        parts[tag] = element(tag, vr, even if vr.decode("latin-1") in _LONG else even[:0xFFFE])
    before = PREAMBLE if image is None else preamble_of(image)
    return before + b"".join(parts[tag] for tag in sorted(parts))


def bare(paths: list[Path], images: list[FileDataset]) -> MinimalSeries:
    return MinimalSeries(
        paths=tuple(paths),
        datasets=tuple(
            minimal_header(
                sop_class=str(image.SOPClassUID), uid=str(image.SOPInstanceUID), study=str(image.StudyInstanceUID),
                series=str(image.SeriesInstanceUID), modality="CT",
            )
            for image in images
        ),
    )  # fmt: skip


def failed() -> Analysis:
    return Analysis(
        pipeline="nodule",
        algorithm=Algorithm(name="nodule", version=""),
        generation=1,
        outcome="failed",
        reason=not_analysed(InputError.code, "0123"),
        analysed_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(damage, max_size=6))
@example([("private", b"ZZ", b"abc ")])
@example([("ReferencedImageSequence", "nested", b"undefined"), ("OtherPatientIDsSequence", "nested", b"undefined")])
@example([("SliceThickness", None, b"abc ")])
@example([("SpecificCharacterSet", None, b"ISO_IR 999"), ("PatientBirthDate", None, b"20261341")])
@example([("TimezoneOffsetFromUTC", None, b"+9999 ")])
def test_every_series_with_uids_and_identity_gets_a_report_that_passes_the_gate(
    tmp_path: Path, damages: list[Damage]
) -> None:
    file = tmp_path / "image.dcm"
    file.write_bytes(damaged(damages))
    (report,) = encode_failure_reports(failed(), bare([file], [IMAGE]), DEFAULT_OBJECTS, stated_identity([file]))
    read = dcmread(BytesIO(report.data))
    assert read.get_item("PatientID").value.rstrip(b" \0") == str(IMAGE.PatientID).encode()
    assert read.StudyInstanceUID == IMAGE.StudyInstanceUID
    assert b"NOT ANALYSED: one image cannot be read." in report.data
    assert b"secret" not in report.data
    assert b"Traceback" not in report.data


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_walk_finds_what_pydicom_finds(tmp_path: Path, syntax: UID) -> None:
    image = ct_series(1, 16)[0]
    image.RequestAttributesSequence = [Dataset()]
    image.RequestAttributesSequence[0].ScheduledProcedureStepID = "1"
    if syntax == ExplicitVRBigEndian:
        image.PixelData = b"\0" * (2 * image.Rows * image.Columns)
    image.file_meta.TransferSyntaxUID = syntax
    file = tmp_path / "image.dcm"
    dcmwrite(
        file, image, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, enforce_file_format=True
    )
    tags = [int(Tag(keyword)) for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate")]
    read = dcmread(file)
    elements = {tag: value.decode().strip(" \0") for tag, value in top_elements(file, tags).items()}
    assert elements == {tag: str(read[tag].value) for tag in sorted(tags) if tag in read}


def test_a_mixture_of_patients_gets_no_report_and_a_file_without_identity_is_named(tmp_path: Path) -> None:
    paths = []
    for number, image in enumerate(ct_series(2, 16)):
        image.PatientID = f"ID{number}"
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(damaged([("ReferencedImageSequence", "nested", b"undefined")], image))
    with pytest.raises(IdentityError, match="PatientID"):
        stated_identity(paths)
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(paths[0].read_bytes()[:400])
    with pytest.raises(InputError, match=r"broken\.dcm"):
        stated_identity([broken])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[JobNode]:
    with JobNode(config_of(tmp_path, does="findings")).working() as made:
        yield made


def _spoil(node: JobNode, change: Callable[[FileDataset], bytes]) -> tuple[str, str]:
    """Receive a series whose files hold what ``change`` makes of each image."""
    images = ct_series(4, 16)
    study, series = node.receive(images)
    for path in (node.folder / "incoming" / study / series).iterdir():
        path.write_bytes(change(dcmread(path)))
    return study, series


@pytest.mark.parametrize(
    "damages",
    [
        [("private", b"ZZ", b"abc ")],
        [("ReferencedImageSequence", "nested", b"undefined")],
        [("SliceThickness", None, b"abc ")],
        [("SpecificCharacterSet", None, b"ISO_IR 999"), ("RequestAttributesSequence", b"ZZ", b"abc ")],
        [("Rows", b"LO", b"abc "), ("Columns", b"SQ", b"abc ")],
    ],
)
def test_a_hostile_series_is_reported_through_a_whole_node(node: JobNode, damages: list[Damage]) -> None:
    study, series = _spoil(node, lambda image: damaged(damages, image))
    job_id = node.enqueue_for(study, series, destinations=("pacs",), pipeline="scripted")
    job = node.wait(job_id)
    assert job.state == "COMPLETED", node.events(job_id)
    assert node.delivered(), "nothing reached the destination"
    for row in node.results(job_id):
        assert row.quarantine is None
        report = node.spool.absolute(row.path).read_bytes()
        for word in (b"Error", b"Traceback", b"NoneType", b".py"):
            assert word not in report


@pytest.mark.parametrize(
    "damages",
    [
        [("SliceThickness", None, b"abc "), ("SpacingBetweenSlices", None, b"1e999 ")],
        [("private", b"ZZ", b"abc "), ("SoftwareVersions", b"ZZ", b"abc ")],
        [("SeriesNumber", None, b"abc "), ("LossyImageCompression", b"ZZ", b"abc ")],
    ],
)
def test_an_analysis_is_not_lost_for_a_header_that_its_result_can_do_without(
    node: JobNode, damages: list[Damage]
) -> None:
    study, series = _spoil(node, lambda image: damaged(damages, image))
    job_id = node.enqueue_for(study, series, destinations=("pacs",), pipeline="scripted")
    assert node.wait(job_id).outcome == "findings", node.events(job_id)
    assert len(node.results(job_id)) > 1
    assert all(row.quarantine is None for row in node.results(job_id))


def test_a_pipeline_that_cannot_be_loaded_is_reported_about_a_hostile_series(tmp_path: Path) -> None:
    with JobNode(config_of(tmp_path, does="no such thing")).working() as made:
        hostile: list[Damage] = [("ReferencedImageSequence", "nested", b"undefined")]
        study, series = _spoil(made, lambda image: damaged(hostile, image))
        job_id = made.enqueue_for(study, series, destinations=("pacs",), pipeline="scripted")
        assert made.wait(job_id).outcome == "failed"
        assert made.delivered()
