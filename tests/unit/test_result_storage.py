"""Whatever the process that encodes returns, no object of another patient or study is stored to be sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from dicom_files import ct_series, text_report, write
from pydicom import FileDataset

from node.errors import GateError, InputError
from node.inference.encode_process import EncodeProcess
from node.inference.encode_task import EncodedFile
from node.inference.result_storage import Subject, store_result
from node.spool import Spool

UID = "1.2.3.4"


@pytest.fixture
def images(tmp_path: Path) -> list[FileDataset]:
    return ct_series(n=2, size=8)


@pytest.fixture
def subject(tmp_path: Path, images: list[FileDataset]) -> Subject:
    paths = tuple(write(images, tmp_path / "images"))
    taken = {str(images[0].SeriesInstanceUID), *(str(image.SOPInstanceUID) for image in images)}
    return Subject(study_instance_uid=str(images[0].StudyInstanceUID), images=paths, taken=taken)


def result(image: FileDataset) -> FileDataset:
    made = text_report(study=str(image.StudyInstanceUID))
    for keyword in ("PatientID", "PatientName", "PatientBirthDate"):
        setattr(made, keyword, image.get(keyword))
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = UID
    made.SeriesInstanceUID = "1.2.3.5"
    return made


def store(folder: Path, made: FileDataset | bytes, subject: Subject, **more: str) -> dict[str, object]:
    buffer = BytesIO()
    if isinstance(made, bytes):
        buffer.write(made)
    else:
        made.save_as(buffer, enforce_file_format=True)
    (folder / "00000.dcm").write_bytes(buffer.getvalue())
    encoded = EncodedFile(name="00000.dcm", kind="sr", description="AI", **more)
    return store_result(Spool(folder / "node"), "job", folder / "00000.dcm", encoded, subject)


def test_an_object_of_the_patient_and_study_is_stored(
    tmp_path: Path, images: list[FileDataset], subject: Subject
) -> None:
    row = store(tmp_path, result(images[0]), subject)
    assert (row["sop_instance_uid"], row["quarantine"]) == (UID, None)
    assert (tmp_path / "node" / str(row["path"])).read_bytes() == (tmp_path / "00000.dcm").read_bytes()


WRONG: dict[str, Callable[[FileDataset], object]] = {
    "PatientID": lambda made: setattr(made, "PatientID", "SOMEBODY"),
    "PatientName": lambda made: setattr(made, "PatientName", "Some^Body"),
    "PatientBirthDate": lambda made: setattr(made, "PatientBirthDate", "19010101"),
    "IssuerOfPatientID": lambda made: setattr(made, "IssuerOfPatientID", "ELSEWHERE"),
    "StudyInstanceUID": lambda made: setattr(made, "StudyInstanceUID", "1.2.9"),
    "is no UID": lambda made: setattr(made, "SeriesInstanceUID", "../../etc"),
}


@pytest.mark.parametrize("reason", WRONG)
def test_an_object_of_another_patient_or_study_is_refused_and_leaves_nothing(
    tmp_path: Path, images: list[FileDataset], subject: Subject, reason: str
) -> None:
    made = result(images[0])
    WRONG[reason](made)
    with pytest.raises(GateError, match=reason):
        store(tmp_path, made, subject)
    assert not list((tmp_path / "node" / "results").rglob("*.dcm"))
    assert not list((tmp_path / "node" / "temporary").rglob("[0-9]"))


def test_no_uid_is_taken_twice(tmp_path: Path, images: list[FileDataset], subject: Subject) -> None:
    made = result(images[0])
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = images[1].SOPInstanceUID
    with pytest.raises(GateError, match="used already"):
        store(tmp_path, made, subject)
    store(tmp_path, result(images[0]), subject)
    with pytest.raises(GateError, match="used already"):
        store(tmp_path, result(images[0]), subject)


def test_a_quarantined_object_is_kept_whoever_it_names(
    tmp_path: Path, images: list[FileDataset], subject: Subject
) -> None:
    made = result(images[0])
    made.PatientID = "SOMEBODY"
    assert store(tmp_path, made, subject, quarantine="1 faults")["quarantine"] == "1 faults"


@pytest.mark.parametrize(
    "content", [b"", b"no DICOM", bytes(200), bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0\xff\xff\xff\xff"]
)
def test_what_is_no_object_is_refused(tmp_path: Path, subject: Subject, content: bytes) -> None:
    with pytest.raises(InputError):
        store(tmp_path, content, subject)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_only_files_are_taken(tmp_path: Path, subject: Subject, kind: str) -> None:
    path = tmp_path / "00000.dcm"
    if kind == "link":
        path.symlink_to(subject.images[0])
    else:
        os.mkfifo(path)
    encoded = EncodedFile(name=path.name, kind="sr", description="AI")
    with pytest.raises(GateError, match=r"encoded object 00000\.dcm is"):
        store_result(Spool(tmp_path / "node"), "job", path, encoded, subject)


@pytest.mark.parametrize("name", ["../00000.dcm", "/etc/passwd", ""])
def test_only_files_of_the_folder_are_taken(tmp_path: Path, subject: Subject, name: str) -> None:
    encoder = EncodeProcess(Spool(tmp_path / "node"), 60.0)
    with pytest.raises(GateError, match="is not in its folder"):
        encoder._store("job", tmp_path, [EncodedFile(name=name, kind="sr", description="AI")], subject)
