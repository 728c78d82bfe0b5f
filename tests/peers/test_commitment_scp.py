"""Storage Commitment that others ask of this node: told on the same association or on a new one, never forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import postgres
import pytest
import real_peers
from dicom_files import ct_series, write
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from receivers import Node, ReceiverProcess, associate, drop, receiving, send_dataset, until
from scanner import ask, names

from node.config import Config
from node.deliver.association import Timeouts
from node.deliver.reports import GIVE_UP_SECONDS, Reports
from node.ledger.commitments import Named, record_transaction
from node.ledger.engine import begin_immediate, ledger_url, now, open_ledger
from node.ledger.tables import commitment, commitment_instance, instance
from node.operate.purge import Retention

CONTEXTS = [(CTImageStorage, ExplicitVRLittleEndian), (StorageCommitmentPushModel, ExplicitVRLittleEndian)]
QUICK = Timeouts(connect_seconds=2.0, answer_seconds=5.0)


class Told:
    """What a requester was told."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.status = 0x0000

    def __call__(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.request.EventTypeID, event.event_information))
        return self.status, None

    @property
    def answers(self) -> dict[str, int]:
        """SOP Instance UID -> 0 or Failure Reason."""
        (report,) = (information for _, information in self.reports)
        return {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", 0))
            for keyword in ("ReferencedSOPSequence", "FailedSOPSequence")
            for item in report.get(keyword) or ()
        }


def test_a_peer_that_stays_is_told_on_its_association_what_is_held_and_what_is_not(node: Node) -> None:
    images, told = ct_series(4, 16), Told()
    peer = associate(node, CONTEXTS, evt_handlers=[(evt.EVT_N_EVENT_REPORT, told)])
    for image in images[:3]:
        assert send_dataset(peer, image).Status == 0x0000
    [row] = [row for row in node.rows(instance) if row.sop_instance_uid == images[2].SOPInstanceUID]
    with node.spool.absolute(row.path).open("ab") as file:
        file.write(b"damage")
    named = [(CTImageStorage, images[0].SOPInstanceUID), (MRImageStorage, images[1].SOPInstanceUID)]
    assert ask(peer, [*named, *names(images[2:])]) == 0x0000
    until(lambda: node.rows(commitment)[0].state == "COMPLETED")
    peer.release()
    assert told.reports[0][0] == 2
    assert [told.answers[image.SOPInstanceUID] for image in images] == [0x0000, 0x0119, 0x0110, 0x0112]


def test_what_is_no_request_is_refused_with_the_standard_s_status(node: Node) -> None:
    peer = associate(node, CONTEXTS)
    named = [(CTImageStorage, "1.2.3")]
    assert ask(peer, named, sop_instance="1.2.3") == 0x0112
    assert ask(peer, named, action=2) == 0x0123
    assert ask(peer, []) == 0x0115
    change = Dataset()
    change.TransactionUID = "1.2"
    response, _ = peer.send_n_set(change, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    assert response.Status == 0x0211
    peer.release()
    assert node.rows(commitment) == []


def test_orthanc_that_asks_and_leaves_is_told_on_an_association_that_the_node_opens(tmp_path: Path) -> None:
    images = ct_series(3, 16)
    with real_peers.orthanc(tmp_path, {"AINODE": (port := real_peers.free_port())}) as pacs:
        callers = f'callers = [{{ title = "ORTHANC", host = "127.0.0.1", port = {pacs.dicom_port} }}]'
        with receiving(tmp_path / "node", ae=callers, port=port) as node:
            paths = write(images, tmp_path / "images")
            for path in paths:
                pacs._open("/instances", path.read_bytes())
            uids = [str(image.SOPInstanceUID) for image in images]
            pacs.post("/modalities/AINODE/store", {"Resources": [pacs._identifier(uid) for uid in uids[:2]]})

            def outcome(named: Sequence[tuple[str, str]]) -> Any:
                body = {"DicomInstances": [{"SOPClassUID": c, "SOPInstanceUID": u} for c, u in named]}
                asked = pacs.post("/modalities/AINODE/storage-commitment", body)
                assert Reports(node.config, node.engine, QUICK).step(now() + 10.0) == 1
                return pacs.get(f"/storage-commitment/{asked['ID']}")

            assert outcome(names(images[:2]))["Status"] == "Success"
            failed = outcome(names(images))
            assert (failed["Status"], [f["SOPInstanceUID"] for f in failed["Failures"]]) == ("Failure", [uids[2]])
            assert {row.state for row in node.rows(commitment)} == {"COMPLETED"}


@contextmanager
def listening(told: Told) -> Iterator[int]:
    """A requester that takes reports; the port."""
    entity = AE(ae_title="CT1")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    port = real_peers.free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, told)])
    try:
        yield port
    finally:
        server.shutdown()


def test_a_request_outlives_the_death_of_the_receiver_and_a_requester_that_is_away(
    receiver_process: Callable[..., ReceiverProcess],
) -> None:
    told, images = Told(), ct_series(2, 16)
    with listening(told) as port:
        callers = f'callers = [{{ title = "CT1", host = "127.0.0.1", port = {port} }}]'
        process = receiver_process(ae=callers)
        process.start()
        peer = associate(process, CONTEXTS, calling="CT1")
        for image in images:
            assert send_dataset(peer, image).Status == 0x0000
        assert ask(peer, names(images)) == 0x0000
        process.kill()
        drop(peer)
        node = process.node()
        reports = Reports(node.config, node.engine, QUICK)
        assert reports.step(now()) == 0
        told.status = 0x0110
        assert reports.step(now() + 10.0) == 0
        told.reports.clear()
        told.status = 0x0000
        assert "status 0x0110" in node.rows(commitment)[0].error
        assert reports.step(now() + 12.0) == 0
        assert reports.step(now() + 20.0) == 1
    assert list(told.answers.values()) == [0, 0]
    assert reports.step(now() + 86400.0) == 0


def test_a_requester_without_address_is_told_of_in_the_ledger_and_given_up_after_days(node: Node) -> None:
    peer = associate(node, CONTEXTS, calling="CT9")
    assert ask(peer, [(CTImageStorage, "1.2.3")]) == 0x0000
    peer.release()
    reports = Reports(node.config, node.engine, QUICK)
    assert reports.step(now() + 10.0) == 0
    (row,) = node.rows(commitment)
    assert row.state == "SCHEDULED"
    assert 'add host and port to { title = "CT9" } in [ae] callers' in row.error
    assert reports.step(now() + GIVE_UP_SECONDS + 1.0) == 0
    assert node.rows(commitment)[0].state == "CANCELED"
    Retention(node.config, node.engine, node.spool).step(now() + 30 * 86400.0)
    assert node.rows(commitment) == node.rows(commitment_instance) == []


@pytest.mark.parametrize("count", [1, 3000])
def test_a_request_of_any_size_is_answered(node: Node, count: int) -> None:
    told = Told()
    peer = associate(node, CONTEXTS, evt_handlers=[(evt.EVT_N_EVENT_REPORT, told)])
    assert ask(peer, [(CTImageStorage, f"1.2.{n}") for n in range(count)]) == 0x0000
    until(lambda: node.rows(commitment)[0].state == "COMPLETED")  # the peer has answered and may leave
    peer.release()
    assert list(told.answers.values()) == [0x0112] * count


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_two_senders_one_sends_the_report(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = ledger_url("", tmp_path)
    if database == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_server"), "reports")
    engines, told = [open_ledger(url) for _ in range(2)], Told()
    asks = {"association_id": "a", "equipment": "e", "next_at": 0.0}
    named = Named(sop_instance_uid="1.2.3", sop_class_uid=CTImageStorage, failure=None)
    with listening(told) as port:
        callers = ({"title": "CT1", "host": "127.0.0.1", "port": port},)
        config = Config.model_validate({"ae": {"callers": callers}, "storage": {"folder": tmp_path}})
        senders = [Reports(config, engine, QUICK) for engine in engines]
        for number in range(8):
            with begin_immediate(engines[0]) as connection:
                record_transaction(connection, calling_ae="CT1", transaction_uid=f"1.{number}", named=[named], **asks)
            both = threading.Barrier(2)

            def step(sender: Reports, both: threading.Barrier = both) -> int:
                both.wait()
                return sender.step(now())

            with ThreadPoolExecutor(2) as pool:
                assert sum(pool.map(step, senders)) == 1
    assert len(told.reports) == 8
    for engine in engines:
        engine.dispose()
