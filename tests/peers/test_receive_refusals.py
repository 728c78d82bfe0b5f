"""What a C-STORE may say: UIDs that are paths, other classes, half data sets, files of real devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from dicom_files import ct_series, text_report, write
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from real_peers import dcmtk
from receivers import (
    Node,
    associate,
    encode,
    nothing_kept,
    send,
    send_dataset,
    store_works,
)

from node.errors import InputError
from node.ledger.tables import instance
from node.receive.status_codes import Refusal
from node.spool import dataset_offset

pytestmark = pytest.mark.filterwarnings("ignore:.*(UI|UID|AE|Invalid value).*:UserWarning")

CT: list[tuple[str, Any]] = [(CTImageStorage, ExplicitVRLittleEndian)]


EVIL = ["../../evil", "1" * 70, "", "1.2.3/../../4", "1..2", "/etc/passwd"]


@pytest.mark.parametrize("uid", EVIL)
def test_an_unusable_uid_in_the_request_is_refused_and_the_association_lives_on(node: Node, uid: str) -> None:
    dataset = ct_series(1)[0]
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, uid or None, encode(dataset))
    assert refused.Status == 0xC001
    assert refused.ErrorComment.startswith("Affected SOP Instance UID ")
    assert len(refused.ErrorComment) <= 64
    assert nothing_kept(node)
    assert send_dataset(sender, dataset).Status == 0x0000
    sender.release()
    assert len(node.files()) == 1


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("uid", EVIL)
def test_an_unusable_uid_in_the_data_set_is_refused(node: Node, keyword: str, uid: str) -> None:
    dataset = ct_series(1)[0]
    sop_instance = dataset.SOPInstanceUID
    setattr(dataset, keyword, uid)
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, sop_instance, encode(dataset))
    sender.release()
    assert refused.Status == 0xC001
    assert refused.ErrorComment.startswith(f"{keyword} ")
    assert nothing_kept(node)


def test_a_data_set_of_another_class_is_refused_with_a900(node: Node) -> None:
    dataset = ct_series(1)[0]
    dataset.SOPClassUID = MRImageStorage
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, dataset.SOPInstanceUID, encode(dataset))
    sender.release()
    assert (refused.Status, refused.ErrorComment) == (0xA900, "SOPClassUID of the data set differs from the request")
    assert nothing_kept(node)


def test_a_data_set_of_another_instance_is_refused(node: Node) -> None:
    dataset = ct_series(1)[0]
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, "1.2.3", encode(dataset))
    sender.release()
    assert refused.Status == 0xC002
    assert nothing_kept(node)


def test_a_class_that_is_not_the_context_s_is_refused_with_0122(node: Node) -> None:
    report = text_report()
    sender = associate(node, CT)
    refused = send(sender, report.SOPClassUID, report.SOPInstanceUID, encode(report))
    sender.release()
    assert refused.Status == 0x0122
    assert nothing_kept(node)


@pytest.mark.parametrize(
    "data",
    [None, b"no data set at all", encode(ct_series(1)[0])[:-100], b"\xff" * 1000],
    ids=["none", "text", "truncated", "ff"],
)
def test_what_is_no_complete_data_set_is_refused(node: Node, data: bytes | None) -> None:
    sender = associate(node, CT)
    refused = send(sender, CTImageStorage, "1.2.3", data)
    sender.release()
    assert refused.Status in {0xC000, 0xC001}
    assert refused.ErrorComment
    assert nothing_kept(node)


def test_a_data_set_in_another_syntax_than_negotiated_is_refused(node: Node) -> None:
    dataset = ct_series(1)[0]
    for negotiated, used in ((ImplicitVRLittleEndian, ExplicitVRLittleEndian),):
        sender = associate(node, [(CTImageStorage, negotiated)])
        refused = send(sender, CTImageStorage, dataset.SOPInstanceUID, encode(dataset, used))
        sender.release()
        assert refused.Status in {0xC000, 0xC001}
    sender = associate(node, [(CTImageStorage, DeflatedExplicitVRLittleEndian)])
    refused = send(sender, CTImageStorage, dataset.SOPInstanceUID, encode(dataset))
    sender.release()
    assert refused.Status == 0xC000
    assert nothing_kept(node)


def test_the_comment_of_a_refusal_fits_its_attribute_and_quotes_nothing_dangerous() -> None:
    refusal = Refusal(0xC000, "é\\\x1b[31m\n" + "x" * 100)
    assert refusal.comment == "???[31m?" + "x" * 56


def test_a_truncated_file_from_a_real_sender_is_not_kept(node: Node, tmp_path: Path) -> None:
    (path,) = write(ct_series(1, 64), tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-1000])
    assert dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, path, check=False).returncode != 0
    assert nothing_kept(node)
    assert store_works(node)


@pytest.mark.skipif("AINODE_DATA" not in os.environ, reason="AINODE_DATA names no data folder")
def test_odd_files_of_real_devices_are_kept_byte_for_byte_or_refused_in_words(node: Node) -> None:
    data = Path(os.environ["AINODE_DATA"])
    kept, refused = {}, {}
    for path in sorted([*(data / "zoo").glob("*.dcm"), *(data / "studies" / "broken").glob("*.dcm")]):
        try:
            meta, offset = read_file_meta_info(path), dataset_offset(path)
        except (InputError, InvalidDicomError, OSError):
            continue  # no sender could send it either
        content = path.read_bytes()[offset:]
        sender = associate(node, [(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)])
        if not sender.accepted_contexts:
            continue  # the one retired JPEG process that nobody can decode
        response = send(sender, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, content)
        sender.release()
        if response.Status == 0x0000:
            kept.setdefault(str(meta.MediaStorageSOPInstanceUID), content)  # some come twice, in two encodings
        else:
            refused[path.name] = response.ErrorComment
    assert len(kept) >= 20
    assert all(refused.values())
    assert "lidc-idri-0001-1-084-truncated.dcm" in refused
    rows = {row.sop_instance_uid: node.spool.absolute(row.path) for row in node.rows(instance)}
    assert {uid: path.read_bytes()[dataset_offset(path) :] for uid, path in rows.items()} == kept
