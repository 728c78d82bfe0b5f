"""The files of an upload: what counts as an instance, as a DICOMDIR, as another file, and what is damaged."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from dicom_files import ct_series, write
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from node.errors import InputError
from node.upload import FileKind, FileResult, UploadSummary, medium
from node.upload.directory_file import instances_of
from node.upload.medium import MediumFile, opened_medium
from node.upload.part10_meta import LARGEST_META, Part10Meta, part10_meta
from node.upload.sending import _first_batch, _Instance


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


def contents(files: Sequence[MediumFile]) -> dict[str, bytes]:
    content = {}
    for file in files:
        with file.on_disk() as path:
            content[file.name] = path.read_bytes()
            assert file.beginning(4) == content[file.name][:4]
    return content


def test_a_folder_and_its_archive_have_the_same_files(tmp_path: Path):
    members = {"IMAGES/IM1": b"one" * 1_000_000, "README.TXT": b"two", "empty": b""}
    folder, unpacked = tmp_path / "cd", tmp_path / "unpacked"
    unpacked.mkdir()
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "link").symlink_to(tmp_path)
    for path in (folder, archive(tmp_path / "cd.zip", members)):
        with opened_medium(path, unpacked) as files:
            assert contents(files) == members
    assert list(unpacked.iterdir()) == []


def test_a_member_is_never_written_where_its_name_says(tmp_path: Path):
    path, unpacked = archive(tmp_path / "cd.zip", {"../outside": b"x", "/etc/outside": b"x"}), tmp_path / "unpacked"
    unpacked.mkdir()
    with opened_medium(path, unpacked) as files, files[0].on_disk() as first, files[1].on_disk() as second:
        assert {first.parent, second.parent} == {unpacked}


def test_an_archive_that_is_cut_off_or_damaged_says_so(tmp_path: Path):
    whole = archive(tmp_path / "cd.zip", {"IM1": bytes(range(256)) * 100, "IM2": b"fine"}, zipfile.ZIP_STORED)
    content = whole.read_bytes()
    whole.write_bytes(content[:5000])
    with pytest.raises(InputError, match="not complete"), opened_medium(whole, tmp_path):
        pass
    whole.write_bytes(content[:1000] + b"\0\0\0\0" + content[1004:])
    with opened_medium(whole, tmp_path) as files:
        with pytest.raises(InputError, match="damaged"), files[0].on_disk():
            pass
        with files[1].on_disk() as path:
            assert path.read_bytes() == b"fine"


def test_an_encrypted_member_is_named_as_such(tmp_path: Path):
    path = archive(tmp_path / "cd.zip", {"IM1": b"secret"})
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    with opened_medium(path, tmp_path) as files, pytest.raises(InputError, match="encrypted"):
        files[0].beginning(10)


def test_an_archive_with_too_long_a_list_is_refused_before_the_list_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = archive(tmp_path / "cd.zip", {f"IM{number}": b"" for number in range(100)})
    monkeypatch.setattr(medium, "_LARGEST_DIRECTORY", 1000)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(InputError, match="too many files"), opened_medium(path, tmp_path):
        pass


def test_a_member_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(medium, "LARGEST_OBJECT", 1 << 21)
    bomb = archive(tmp_path / "bomb.zip", {"IM1": bytes(10 << 20)})
    with (
        opened_medium(bomb, tmp_path) as files,
        pytest.raises(InputError, match="more than 2097152 bytes"),
        files[0].on_disk(),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_the_file_meta_information_says_what_is_sent(tmp_path: Path):
    dataset = ct_series(1)[0]
    beginning = write([dataset], tmp_path)[0].read_bytes()[:LARGEST_META]
    meta = part10_meta(beginning)
    assert meta is not None
    assert (meta.sop_class_uid, meta.sop_instance_uid) == (dataset.SOPClassUID, dataset.SOPInstanceUID)
    assert meta.transfer_syntax_uid == dataset.file_meta.TransferSyntaxUID


@pytest.mark.parametrize("content", [b"", b"text", bytes(200), bytes(128) + b"DIC"])
def test_a_file_without_the_prefix_is_no_dicom(content: bytes):
    assert part10_meta(content) is None


def test_file_meta_information_that_would_mislead_is_refused(tmp_path: Path):
    content = write(ct_series(1), tmp_path)[0].read_bytes()[:LARGEST_META]
    end = 144 + int.from_bytes(content[140:144], "little")
    uid = content.index(b"1.2.840.10008.5.1.4.1.1.2")
    for damaged in (
        content[:140],
        content[:end],
        content[:140] + b"\xff\xff\xff\x7f" + content[144:],
        content[:132] + b"\x02\x00\x01\x00" + content[136:],
        content[:uid] + b"1.2.840.1000A.5.1.4.1.1.2" + content[uid + 25 :],
        content[:end] + b"\x02\x00" + content[end + 2 :],  # whoever reads on would take the data set for meta
    ):
        with pytest.raises(InputError, match="File Meta Information"):
            part10_meta(damaged)


def directory(path: Path, instances: Sequence[str]) -> Path:
    """A DICOMDIR with a record for a patient and one for each instance."""
    meta, dataset = FileMetaDataset(), Dataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta, dataset.FileSetID = meta, "CD"
    patient = Dataset()
    patient.DirectoryRecordType, patient.PatientName = "PATIENT", "Doe^John"
    dataset.DirectoryRecordSequence = [patient]
    for uid in instances:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedSOPInstanceUIDInFile = "IMAGE", uid
        dataset.DirectoryRecordSequence.append(record)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.thorough
def test_a_directory_names_its_instances(tmp_path: Path):
    path = directory(tmp_path / "DICOMDIR", ["1.2.3", "1.2.4"])
    with opened_medium(path, tmp_path) as files:
        assert instances_of(files[0]) == ["1.2.3", "1.2.4"]
        content = path.read_bytes()
        for damaged in (content[:-5], content.replace(b"1.2.3", b"Doe^J"), content.replace(b"1.2.3", b"\xff.2.3")):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match="DICOMDIR is damaged") as caught:
                instances_of(files[0])
            assert "Doe" not in str(caught.value)


def test_an_association_has_at_most_128_presentation_contexts():
    waiting = [_Instance(None, Part10Meta(f"1.2.{number // 2}", "1", "1.2")) for number in range(300)]  # type: ignore[arg-type]
    first = _first_batch(waiting)
    assert len(first) == 256
    assert len(_first_batch(waiting[256:])) == 44


def test_what_a_directory_names_and_no_file_has_is_missing():
    directory = FileResult(name="DICOMDIR", kind=FileKind.DIRECTORY, named=("1.1", "1.2", "1.3"))
    stored = FileResult(name="A", kind=FileKind.STORED, sop_instance_uid="1.1")
    refused = [
        FileResult(name=name, kind=FileKind.REFUSED, sop_instance_uid=uid, reason="no")
        for name, uid in (("B", "1.2"), ("C", ""))
    ]
    summary = UploadSummary.of([directory, stored, *refused])
    assert (summary.stored, summary.missing, summary.reasons) == (1, ("1.3",), [("no", 2, "B")])
