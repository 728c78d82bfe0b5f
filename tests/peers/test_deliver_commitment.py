"""Storage Commitment: only the peer's word for every instance makes a delivery confirmed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import delivery_jobs as jobs
import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from receivers import member
from scanner import ELSEWHERE, HERE

from node.config import Config
from node.deliver.association import Timeouts
from node.errors import DeliveryError
from node.ledger.engine import begin_immediate
from node.ledger.tables import delivery_instance, notice
from node.receive.receiver import Receiver


@contextmanager
def receiver(job: jobs.FinishedJob) -> Iterator[None]:
    """Our own SCP, where the PACS calls back."""
    ours = Receiver(job.config, job.engine, job.spool, member(job.engine, job.spool))
    ours.start()
    try:
        yield
    finally:
        ours.stop()


def finished(folder: Path, peer: object, port: int = 11112, **more: object) -> jobs.FinishedJob:
    table = jobs.destination(peer, commitment=True, **more)
    return jobs.FinishedJob(folder / "node", ct_series(n=3, size=16), {"pacs": table}, port)


def transactions(job: jobs.FinishedJob) -> set[str | None]:
    with job.engine.connect() as connection:
        return set(connection.scalars(sa.select(delivery_instance.c.transaction_uid)))


def test_orthanc_commits_on_an_association_of_its_own_and_the_delivery_is_confirmed(tmp_path: Path) -> None:
    port = real_peers.free_port()
    with real_peers.orthanc(tmp_path, {"AINODE": port}) as pacs:
        job = finished(tmp_path, pacs, port)
        with receiver(job):
            job.deliver()
    status = job.status()
    assert (status.state, status.stored, status.committed) == ("CONFIRMED", 3, 3)


def test_an_instance_that_the_pacs_lost_is_sent_again_before_the_delivery_is_confirmed(tmp_path: Path) -> None:
    port = real_peers.free_port()
    with real_peers.orthanc(tmp_path, {"AINODE": port}) as pacs:
        job = finished(tmp_path, pacs, port)
        plain = jobs.config_for(job.folder, port, pacs=jobs.destination(pacs))
        asking, job.config = job.config, plain
        job.deliver()
        assert job.status().state == "STORED"
        pacs.delete(job.uids[1])
        job.config = asking
        with receiver(job):
            with pytest.raises(DeliveryError, match="Storage Commitment failed for some objects"):
                job.deliver()
            assert job.answers()[job.uids[1]] == (None, "Storage Commitment failed: 0x0112 (no such object instance)")
            assert (job.status().state, job.status().committed) == ("SCHEDULED", 2)
            job.deliver()
        assert pacs.instances() == sorted(job.uids)
    assert (job.status().state, job.status().committed) == ("CONFIRMED", 3)


def test_an_answer_that_never_comes_is_waited_for_and_then_asked_again(tmp_path: Path) -> None:
    port = real_peers.free_port()
    with real_peers.orthanc(tmp_path, {"AINODE": port}) as pacs:
        job = finished(tmp_path, pacs, port, commitment_timeout_seconds=20.0)
        with pytest.raises(DeliveryError, match="stored all objects, no Storage Commitment report yet"):
            job.deliver(timeouts=Timeouts(report_seconds=0.5))
        first = transactions(job)
        with pytest.raises(DeliveryError, match="no Storage Commitment report yet"):
            job.deliver()
        assert transactions(job) == first
        assert job.status().state == "STORED"
        with begin_immediate(job.engine) as connection:  # as if it had been asked twenty seconds earlier
            connection.execute(sa.update(delivery_instance).values(asked_at=delivery_instance.c.asked_at - 20.0))
        with receiver(job):
            job.deliver()
    assert job.status().state == "CONFIRMED"
    assert transactions(job) != first


def test_a_pacs_whose_answer_never_comes_is_asked_for_the_instances(tmp_path: Path) -> None:
    with real_peers.orthanc(tmp_path) as pacs:  # it cannot call us back
        job = finished(tmp_path, pacs, find=True, commitment_timeout_seconds=1.0)
        with pytest.raises(DeliveryError, match="stored all objects, no Storage Commitment report yet"):
            job.deliver(timeouts=Timeouts(report_seconds=0.5))
        time.sleep(1.0)
        pacs.delete(job.uids[2])
        with pytest.raises(DeliveryError, match="1 of 3 stored objects are not found there"):
            job.deliver()
        assert (job.status().state, job.status().stored, job.status().committed) == ("SCHEDULED", 2, 2)
        with pytest.raises(DeliveryError, match="no Storage Commitment report yet"):
            job.deliver(timeouts=Timeouts(report_seconds=0.5))
        time.sleep(1.0)
        job.deliver()
        assert pacs.instances() == sorted(job.uids)
    assert job.status().state == "CONFIRMED"


def test_a_peer_without_storage_commitment_is_named_and_the_objects_count_as_stored(tmp_path: Path) -> None:
    with real_peers.storescp(tmp_path, "+xa") as pacs:
        job = finished(tmp_path, pacs)
        with pytest.raises(
            DeliveryError, match=r"accepts none of the SOP Classes to send .*Storage Commitment Push Model"
        ):
            job.deliver()
    assert (job.status().state, job.status().stored) == ("STORED", 3)
    assert transactions(job) == {None}


class Committing:
    """A scripted PACS that answers on the association of the request, never, or refuses it with a status."""

    def __init__(self, status: int = 0x0000, *, answers: bool = True) -> None:
        self._answers = answers
        self.aet, self.host = "SCRIPTED", "127.0.0.1"
        self.reports: list[int] = []
        self._status = status
        entity = AE(ae_title=self.aet)
        entity.add_supported_context(CTImageStorage)
        entity.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_N_ACTION, self._commit)]
        self.server = entity.start_server((self.host, 0), block=False, evt_handlers=handlers)
        self.port = int(self.server.server_address[1])

    def _commit(self, event: evt.Event) -> tuple[int, None]:
        report = Dataset()
        report.TransactionUID = event.action_information.TransactionUID
        report.ReferencedSOPSequence = event.action_information.ReferencedSOPSequence
        if self._status == 0x0000 and self._answers:
            threading.Thread(target=self._report, args=(event.assoc, report)).start()
        return self._status, None

    def _report(self, association: object, report: Dataset) -> None:
        time.sleep(0.3)  # after the response to the request
        answer, _ = association.send_n_event_report(  # type: ignore[attr-defined]
            report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        self.reports.append(answer.Status)


def test_an_answer_on_the_association_of_the_request_confirms(tmp_path: Path) -> None:
    pacs = Committing()
    job = finished(tmp_path, pacs)
    job.deliver()
    pacs.server.shutdown()
    assert pacs.reports == [0x0000]
    assert job.status().state == "CONFIRMED"


def test_a_refused_request_is_reported_and_made_again_at_the_next_attempt(tmp_path: Path) -> None:
    pacs = Committing(0x0124)
    job = finished(tmp_path, pacs)
    for _ in range(2):
        with pytest.raises(DeliveryError, match="Storage Commitment request refused with status 0x0124"):
            job.deliver()
    pacs.server.shutdown()
    assert (job.status().state, job.status().attempt) == ("STORED", 2)
    assert transactions(job) == {None}


def test_a_report_counts_only_from_the_destination_that_was_asked(tmp_path: Path) -> None:
    pacs, port = Committing(answers=False), real_peers.free_port()
    job = finished(tmp_path, pacs, port)
    with pytest.raises(DeliveryError, match="no Storage Commitment report yet"):
        job.deliver(timeouts=Timeouts(report_seconds=0.1))
    (transaction,) = transactions(job)
    forged = {"committed": job.uids, "transaction": str(transaction), "port": port}
    with receiver(job):
        for title in ("EVIL", "SCRIPTED"):
            assert tell(**forged, title=title, address=ELSEWHERE) == 0x0112
            assert tell(**forged, title=title, address=ELSEWHERE, failed=True) == 0x0112
        assert (job.status().state, job.status().committed) == ("STORED", 0)
        assert transactions(job) == {transaction}
        assert tell(**forged, title="SCRIPTED", address=HERE) == 0x0000
    pacs.server.shutdown()
    assert (job.status().state, job.status().committed) == ("CONFIRMED", 3)
    with job.engine.connect() as connection:
        refused = connection.execute(sa.select(notice).where(notice.c.what == "refused")).all()
    assert [(row.who, row.address, row.detail) for row in refused] == [
        ("EVIL", ELSEWHERE, "Storage Commitment report in the name of pacs")
    ]


CALLERS = (
    {"title": "SCRIPTED", "address": ELSEWHERE, "group": "pacs"},
    {"title": "SCU2", "group": "pacs"},
    {"title": "CT1"},
)


@pytest.mark.parametrize(("title", "state"), [("SCRIPTED", "CONFIRMED"), ("SCU2", "CONFIRMED"), ("CT1", "STORED")])
def test_callers_name_other_addresses_and_titles_from_which_a_destination_reports(
    tmp_path: Path, title: str, state: str
) -> None:
    pacs, port = Committing(answers=False), real_peers.free_port()
    job = finished(tmp_path, pacs, port)
    ae = {"address": "127.0.0.1", "port": port, "callers": CALLERS}
    job.config = Config.model_validate({**job.config.model_dump(), "ae": ae})
    with pytest.raises(DeliveryError, match="no Storage Commitment report yet"):
        job.deliver(timeouts=Timeouts(report_seconds=0.1))
    (transaction,) = transactions(job)
    with receiver(job):
        status = tell(committed=job.uids, transaction=str(transaction), port=port, title=title, address=ELSEWHERE)
    pacs.server.shutdown()
    assert (status, job.status().state) == (0x0000 if state == "CONFIRMED" else 0x0112, state)


def tell(*, committed: list[str], transaction: str, port: int, title: str, address: str, failed: bool = False) -> int:
    """The status that a report of ``title`` at ``address`` is answered."""
    report = Dataset()
    report.TransactionUID = transaction
    items = []
    for uid in committed:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
        items.append(item)
        if failed:
            item.FailureReason = 0x0112
    setattr(report, "FailedSOPSequence" if failed else "ReferencedSOPSequence", items)
    entity = AE(ae_title=title)
    entity.add_requested_context(StorageCommitmentPushModel)
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
    peer = entity.associate("127.0.0.1", port, ae_title="AINODE", ext_neg=roles, bind_address=(address, 0))
    answer, _ = peer.send_n_event_report(
        report, 2 if failed else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    peer.release()
    return int(answer.Status)
