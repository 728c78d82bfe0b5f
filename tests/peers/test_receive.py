"""Real senders: dcmtk and pynetdicom store into the node; the bytes on disk are the bytes that were sent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import pydicom
import pytest
from blake3 import blake3
from dicom_files import ct_series, mr_series, secondary_capture, text_report, write
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    MPEG4HP41,
    AllTransferSyntaxes,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)
from raw_peer import refused
from real_peers import dcmtk
from receivers import Node, associate, encode, receiving, send, send_dataset, until
from timeline import timeline

from node.ledger.tables import association, conflict, event, instance, series
from node.spool import dataset_offset


def stored(node: Node) -> dict[str, bytes]:
    """SOP Instance UID -> data set on disk as its row says; digest and size of the row are checked."""
    datasets = {}
    for row in node.rows(instance):
        content = node.spool.absolute(row.path).read_bytes()
        assert row.digest == f"blake3:{blake3(content).hexdigest()}"
        assert len(content) == row.size
        datasets[row.sop_instance_uid] = content[dataset_offset(node.spool.absolute(row.path)) :]
    assert sorted(node.files()) == sorted(row.path for row in [*node.rows(instance), *node.rows(conflict)])
    return datasets


def datasets(paths: Sequence[Path]) -> dict[str, bytes]:
    return {p.stem: p.read_bytes()[dataset_offset(p) :] for p in paths}


def storescu(node: Node, *arguments: object) -> str:
    return dcmtk("storescu", "-v", "-aet", "SENDER", "-aec", "AINODE", *arguments).stdout


def test_echoscu_is_answered(node: Node) -> None:
    dcmtk("echoscu", "-v", "-aec", "AINODE", "127.0.0.1", node.port)
    assert node.rows(association) == []


def test_storescu_stores_a_ct_and_an_mr_series_byte_for_byte(node: Node, tmp_path: Path) -> None:
    paths = write([*ct_series(5), *mr_series(4)], tmp_path / "out")
    storescu(node, "+sd", "127.0.0.1", node.port, tmp_path / "out")
    assert stored(node) == datasets(paths)
    assert sorted((r.modality, r.instances, r.state) for r in node.rows(series)) == [
        ("CT", 5, "RECEIVING"),
        ("MR", 4, "RECEIVING"),
    ]
    until(lambda: all(r.closed_at for r in node.rows(association)))
    (row,) = node.rows(association)
    assert (row.calling_ae, row.called_ae, row.peer_address) == ("SENDER", "AINODE", "127.0.0.1")


@pytest.mark.parametrize(
    ("convert", "option", "syntax"),
    [
        ("+ti", "-xi", ImplicitVRLittleEndian),
        ("+te", "-xe", ExplicitVRLittleEndian),
        ("+tb", "-xb", ExplicitVRBigEndian),
        ("+td", "-xd", DeflatedExplicitVRLittleEndian),
    ],
)
def test_storescu_stores_in_every_uncompressed_syntax(
    node: Node, tmp_path: Path, convert: str, option: str, syntax: str
) -> None:
    (plain,) = write(ct_series(1), tmp_path / "out")
    path = tmp_path / plain.name
    dcmtk("dcmconv", convert, plain, path)
    storescu(node, option, "127.0.0.1", node.port, path)
    (row,) = node.rows(instance)
    assert row.transfer_syntax_uid == syntax
    read = pydicom.dcmread(node.spool.absolute(row.path))
    assert (read.pixel_array == pydicom.dcmread(plain).pixel_array).all()
    assert read.SOPInstanceUID == row.sop_instance_uid == path.stem


@pytest.mark.parametrize(
    ("program", "option", "syntax"),
    [("dcmcjpeg", "-xs", JPEGLosslessSV1), ("dcmcrle", "-xr", RLELossless)],
)
def test_storescu_stores_compressed_images_as_they_are(
    node: Node, tmp_path: Path, program: str, option: str, syntax: str
) -> None:
    paths = write(ct_series(3), tmp_path / "plain")
    (tmp_path / "out").mkdir()
    for path in paths:
        dcmtk(program, path, tmp_path / "out" / path.name)
    storescu(node, option, "+sd", "127.0.0.1", node.port, tmp_path / "out")
    assert stored(node) == datasets(sorted((tmp_path / "out").iterdir()))
    assert {r.transfer_syntax_uid for r in node.rows(instance)} == {syntax}
    for path in paths:
        kept = node.spool.absolute(next(r.path for r in node.rows(instance) if r.sop_instance_uid == path.stem))
        assert (pydicom.dcmread(kept).pixel_array == pydicom.dcmread(path).pixel_array).all()


def test_dcmsend_stores_a_mixed_folder_in_one_run(node: Node, tmp_path: Path) -> None:
    paths = write([*ct_series(2), *mr_series(2), secondary_capture(), text_report()], tmp_path / "out")
    dcmtk("dcmsend", "-v", "-aec", "AINODE", "127.0.0.1", node.port, "+sd", tmp_path / "out")
    assert stored(node) == datasets(paths)


@pytest.mark.parametrize(
    "syntax",
    [uid for uid in AllTransferSyntaxes if not uid.keyword.startswith(("JPIP", "SMPTE"))],
    ids=lambda u: u.keyword,
)
def test_every_transfer_syntax_is_negotiated_when_it_is_the_only_one(node: Node, syntax: str) -> None:
    dataset = ct_series(1, 8)[0]
    sender = associate(node, [(CTImageStorage, syntax)])
    assert sender.is_established
    response = send_dataset(sender, dataset)
    sender.release()
    assert response.Status == 0x0000
    assert [r.transfer_syntax_uid for r in node.rows(instance)] == [syntax]


def test_of_several_proposed_syntaxes_a_lossless_one_is_taken_in_the_sender_s_order(node: Node) -> None:
    sender = associate(
        node,
        [
            (CTImageStorage, [JPEGBaseline8Bit, HTJ2KLossless, ExplicitVRLittleEndian]),
            ("1.2.840.10008.5.1.4.1.1.4", [HTJ2K, MPEG4HP41]),
        ],
    )
    assert [c.transfer_syntax[0] for c in sender.accepted_contexts] == [HTJ2KLossless, HTJ2K]
    sender.release()


def test_private_and_unknown_storage_classes_are_stored_and_worklist_is_not_offered(node: Node) -> None:
    classes = ["1.2.826.0.1.3680043.8.498.77.1", "1.2.840.10008.5.1.4.1.1.9999.1", "1.2.840.10008.5.1.4.31"]
    sender = associate(node, [(uid, ExplicitVRLittleEndian) for uid in classes])
    assert [str(c.abstract_syntax) for c in sender.accepted_contexts] == classes[:2]
    for context in sender.accepted_contexts:
        dataset = text_report()
        dataset.SOPClassUID = context.abstract_syntax
        answer = send(sender, dataset.SOPClassUID, dataset.SOPInstanceUID, encode(dataset), context=context.context_id)
        assert answer.Status == 0x0000
    sender.release()
    assert [r.sop_class_uid for r in node.rows(instance)] == classes[:2]


def test_the_file_names_its_sender_and_receiver(node: Node) -> None:
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)], calling="SCANNER 7")
    dataset = ct_series(1)[0]
    assert send_dataset(sender, dataset).Status == 0x0000
    sender.release()
    meta = pydicom.dcmread(node.spool.absolute(node.rows(instance)[0].path)).file_meta
    assert meta.SourceApplicationEntityTitle == meta.SendingApplicationEntityTitle == "SCANNER 7"
    assert meta.ReceivingApplicationEntityTitle == "AINODE"
    assert meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert meta.MediaStorageSOPClassUID == CTImageStorage
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert meta.FileMetaInformationVersion == b"\0\1"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg".encode("latin-1")),
        (
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
        ("ISO_IR 192", "山田^太郎".encode()),
    ],
    ids=["latin-1", "iso-2022-jp", "utf-8"],
)
def test_patient_names_keep_their_bytes(node: Node, tmp_path: Path, character_set: str, name: bytes) -> None:
    dataset = ct_series(1)[0]
    dataset.SpecificCharacterSet = character_set.split("\\")
    (path,) = write([dataset], tmp_path / "out")
    name += b" " * (len(name) % 2)
    before = path.read_bytes()
    old = b"\x10\x00\x10\x00PN\x0c\x00Test^Patient"
    assert old in before
    path.write_bytes(before.replace(old, b"\x10\x00\x10\x00PN" + len(name).to_bytes(2, "little") + name))
    storescu(node, "127.0.0.1", node.port, path)
    assert stored(node) == datasets([path])
    assert name in next(iter(stored(node).values()))


def test_the_same_series_sent_again_changes_nothing(node: Node, tmp_path: Path) -> None:
    paths = write(ct_series(3), tmp_path / "out")
    storescu(node, "+sd", "127.0.0.1", node.port, tmp_path / "out")
    before = (node.rows(instance), node.rows(series), node.rows(event))
    dcmtk("storescu", "-aet", "OTHER", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, tmp_path / "out")
    assert (node.rows(instance), node.rows(series), node.rows(event)) == before
    assert stored(node) == datasets(paths)


def test_other_content_under_the_same_uid_is_kept_as_a_conflict_and_answered_success(node: Node) -> None:
    first = ct_series(1)[0]
    other = deepcopy(first)
    other.PatientComments = "changed"
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    assert [send_dataset(sender, d).Status for d in (first, other, other, first)] == [0x0000] * 4
    sender.release()
    assert stored(node) == {first.SOPInstanceUID: encode(first)}
    (row,) = node.rows(conflict)
    kept = node.spool.absolute(row.path)
    assert kept.read_bytes()[dataset_offset(kept) :] == encode(other)
    assert [e.what for e in timeline(node.engine)] == ["receiving", "conflict"]


def test_eight_senders_of_one_instance_with_two_contents_are_all_answered_success(node: Node) -> None:
    first = ct_series(1, 128)[0]
    other = deepcopy(first)
    other.PatientComments = "changed"
    barrier = threading.Barrier(8)

    def sender(index: int) -> int:
        association_ = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        assert association_.is_established
        barrier.wait()
        status = send_dataset(association_, (first, other)[index % 2]).Status
        association_.release()
        return int(status)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sender, range(8))) == [0x0000] * 8
    (row,) = node.rows(instance)
    (beside,) = node.rows(conflict)
    kept = [row.path, beside.path]
    until(lambda: node.files() == sorted(kept))  # the drafts of who came second go when their rows are written
    contents = [node.spool.absolute(path).read_bytes()[dataset_offset(node.spool.absolute(path)) :] for path in kept]
    assert contents in ([encode(first), encode(other)], [encode(other), encode(first)])
    assert node.rows(series)[0].instances == 1


def test_parallel_storescu_runs_lose_nothing(node: Node, tmp_path: Path) -> None:
    sent: dict[str, bytes] = {}
    for index in range(4):
        sent |= datasets(write(ct_series(10), tmp_path / str(index)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: storescu(node, "+sd", "127.0.0.1", node.port, tmp_path / str(i)), range(4)))
    assert stored(node) == sent
    assert [r.instances for r in node.rows(series)] == [10] * 4


def test_an_open_association_is_known_until_it_is_released(node: Node) -> None:
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    send_dataset(sender, ct_series(1)[0])
    (row,) = node.rows(association)
    assert row.closed_at is None
    assert node.rows(instance)[0].association_id == row.id
    sender.release()
    until(lambda: node.rows(association)[0].closed_at)


@pytest.mark.parametrize(
    ("calling", "called", "words"),
    [
        ("STRANGER", "AINODE", "Calling AE Title Not Recognized"),
        ("ELSEWHERE", "AINODE", "Calling AE Title Not Recognized"),
        ("FRIEND", "OTHER", "Called AE Title Not Recognized"),
    ],
)
def test_strangers_are_rejected_with_the_standard_s_reason(
    tmp_path: Path, calling: str, called: str, words: str
) -> None:
    callers = (
        'callers = [{ title = "FRIEND", address = "127.0.0.0/8" }, { title = "ELSEWHERE", address = "10.0.0.0/8" }]'
    )
    with receiving(tmp_path / "node", ae=callers) as node:
        done = dcmtk("echoscu", "-aet", calling, "-aec", called, "127.0.0.1", node.port, check=False)
        assert done.returncode != 0
        assert words in done.stdout
        dcmtk("echoscu", "-aet", "FRIEND", "-aec", "AINODE", "127.0.0.1", node.port)


def test_one_association_too_many_is_rejected_as_transient_and_admitted_later(tmp_path: Path) -> None:
    with receiving(tmp_path / "node", ae="max_associations = 2") as node:
        contexts: list[tuple[str, str | Sequence[str]]] = [(CTImageStorage, ExplicitVRLittleEndian)]
        first, second = associate(node, contexts), associate(node, contexts)
        assert refused(node) == (2, 3, 2)
        first.release()
        until(lambda: associate(node, contexts).is_established)
        second.release()


def test_under_the_watermark_images_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    paths = write(ct_series(1), tmp_path / "out")
    with receiving(tmp_path / "node", storage="min_free_gib = 1e9") as node:
        done = dcmtk("storescu", "-v", "-aec", "AINODE", "127.0.0.1", node.port, *paths, check=False)
        assert done.returncode != 0
        assert "Refused: OutOfResources" in done.stdout
        sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        answer = send_dataset(sender, ct_series(1)[0])
        sender.release()
        assert (answer.Status, len(answer.ErrorComment) <= 64) == (0xA700, True)
        assert "limit 1e+09 GiB" in answer.ErrorComment
        assert node.files() == []
        assert node.rows(instance) == []


def test_a_report_of_storage_commitment_is_answered_and_taken_with_and_without_roles(node: Node) -> None:
    from pynetdicom import build_role
    from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

    report = Dataset()
    report.TransactionUID = generate_uid()
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, generate_uid()
    report.ReferencedSOPSequence = [item]
    for roles in ([], [build_role(StorageCommitmentPushModel, scp_role=True)]):
        pacs = associate(node, [(StorageCommitmentPushModel, ImplicitVRLittleEndian)], ext_neg=roles)
        assert pacs.accepted_contexts, roles
        if not roles:  # pynetdicom itself insists on the role; others do not
            pacs.accepted_contexts[0]._as_scp = True
        status, _ = pacs.send_n_event_report(report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        assert status.Status == 0x0000
        pacs.release()
