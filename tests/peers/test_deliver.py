"""Delivery to real peers: Orthanc and dcmtk's storescp."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import delivery_jobs as jobs
import highdicom as hd
import numpy as np
import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series, text_report
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from node.deliver import Watch, echo
from node.deliver.association import Timeouts
from node.errors import DeliveryError, NotFoundError, UnreachableError
from node.ledger.deliveries import cancel_deliveries
from node.ledger.engine import begin_immediate
from node.ledger.pending_deliveries import is_overdue
from node.ledger.tables import delivery_instance
from node.spool import dataset_offset


def segmentation(images: list[FileDataset]) -> FileDataset:
    mask = np.zeros((len(images), images[0].Rows, images[0].Columns), dtype=np.uint8)
    mask[1:3, 8:12, 8:12] = 1
    algorithm = hd.AlgorithmIdentificationSequence(name="test", family=codes.DCM.ArtificialIntelligence, version="1")
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Nodule 1",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Nodule,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="AI node tests",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )


def results() -> list[FileDataset]:
    images = ct_series(n=4)
    return [segmentation(images), text_report(study=images[0].StudyInstanceUID), *images]


def test_seg_sr_and_derived_ct_arrive_in_orthanc_as_they_were_stored(tmp_path: Path, pacs: real_peers.Orthanc) -> None:
    job = jobs.FinishedJob(tmp_path / "node", results(), {"pacs": jobs.destination(pacs)})
    job.deliver()
    assert pacs.instances() == sorted(job.uids)
    for uid in job.uids:
        assert pacs.download(uid) == dcmread(job.spool.absolute(f"results/{jobs.JOB}/{uid}.dcm"))
    assert {status for status, _ in job.answers().values()} == {0x0000}
    status = job.status()
    assert (status.state, status.attempt, status.stored, status.error) == ("STORED", 1, 6, None)


def test_storescp_gets_the_bytes_of_the_files(tmp_path: Path) -> None:
    datasets = results()
    datasets[2].compress(RLELossless)
    datasets[3].compress(JPEGLSLossless)
    with real_peers.storescp(tmp_path, "+xa", "--promiscuous", "--bit-preserving") as pacs:
        job = jobs.FinishedJob(tmp_path / "node", datasets, {"pacs": jobs.destination(pacs)})
        job.deliver()
        arrived = {str(dcmread(path).SOPInstanceUID): path for path in pacs.files()}
    assert sorted(arrived) == sorted(job.uids)
    for uid, path in arrived.items():
        stored = job.spool.absolute(f"results/{jobs.JOB}/{uid}.dcm")
        assert path.read_bytes()[dataset_offset(path) :] == stored.read_bytes()[dataset_offset(stored) :]
        assert dcmread(path).file_meta.TransferSyntaxUID == dcmread(stored).file_meta.TransferSyntaxUID


def test_an_uncompressed_object_reaches_a_peer_that_takes_implicit_vr_only(tmp_path: Path) -> None:
    with real_peers.storescp(tmp_path, "--implicit", "--promiscuous") as pacs:
        job = jobs.FinishedJob(tmp_path / "node", results(), {"pacs": jobs.destination(pacs)})
        job.deliver()
        kept = [dcmread(path) for path in pacs.files()]
    assert {k.file_meta.TransferSyntaxUID for k in kept} == {ImplicitVRLittleEndian}
    assert sorted(str(k.SOPInstanceUID) for k in kept) == sorted(job.uids)
    sent = dcmread(job.spool.absolute(f"results/{jobs.JOB}/{job.uids[0]}.dcm"))
    segmentation_there = next(k for k in kept if k.SOPInstanceUID == sent.SOPInstanceUID)
    assert segmentation_there.PixelData == sent.PixelData


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_what_a_peer_does_not_take_compressed_it_gets_decoded_without_loss(tmp_path: Path, syntax: str) -> None:
    plain = ct_series(n=2)
    compressed = [deepcopy(dataset) for dataset in plain]
    for dataset in compressed:
        dataset.compress(syntax, generate_instance_uid=False)
    with real_peers.storescp(tmp_path, "--implicit", "--promiscuous", "--bit-preserving") as pacs:
        job = jobs.FinishedJob(tmp_path / "node", compressed, {"pacs": jobs.destination(pacs)})
        job.deliver()
        kept = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in pacs.files()}
    assert sorted(kept) == sorted(job.uids)
    for dataset in plain:
        there = kept[dataset.SOPInstanceUID]
        assert there.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert np.array_equal(there.pixel_array, dataset.pixel_array)
        assert there.PatientID == dataset.PatientID
    with job.engine.connect() as connection:
        rows = connection.execute(sa.select(delivery_instance)).all()
    assert {(row.sent_syntax_uid, len(row.sent_digest)) for row in rows} == {(ImplicitVRLittleEndian, 71)}
    assert [path for path in (job.folder / "temporary").rglob("*") if path.is_file()] == []


def test_what_cannot_be_decoded_is_named_and_stays_owed(tmp_path: Path) -> None:
    broken, whole = ct_series(n=2)
    broken.compress(JPEGLSLossless, generate_instance_uid=False)
    broken.PixelData = encapsulate([b"no JPEG at all "])
    with real_peers.storescp(tmp_path, "--implicit", "--promiscuous") as pacs:
        job = jobs.FinishedJob(tmp_path / "node", [broken, whole], {"pacs": jobs.destination(pacs)})
        with pytest.raises(DeliveryError, match=r"1 of 2 objects stored; .*conversion to Implicit VR .* failed"):
            job.deliver()
        assert pacs.instances() == [whole.SOPInstanceUID]
    assert (job.status().state, job.status().stored) == ("SCHEDULED", 1)


def test_a_pacs_that_was_down_gets_everything_once_when_it_is_back(tmp_path: Path) -> None:
    with real_peers.orthanc(tmp_path) as pacs:
        table = jobs.destination(pacs, first_retry_seconds=10.0, max_retry_seconds=15.0)
        job = jobs.FinishedJob(tmp_path / "node", results(), {"pacs": table})
        pacs.stop()
        delays = []
        for _ in range(3):
            with pytest.raises(UnreachableError, match=r"pacs \(ORTHANC at 127\.0\.0\.1:\d+\): connection refused"):
                job.deliver()
            delays.append(round((job.status().next_at or 0.0) - time.time()))
        assert delays == pytest.approx([10, 15, 15], abs=4)
        assert "connection refused" in (job.status().error or "")
        with pytest.raises(UnreachableError, match=r"pacs is down since .* connection refused"):
            job.deliver()
        assert job.status().attempt == 3
        hastened: list[str] = []
        watch = Watch(job.config, job.engine, hastened.append, jobs.PATIENT)
        yesterday = time.time() - 86400.0
        watch.probe(yesterday)  # the clock was set back: a probe is due all the same, and finds nobody
        pacs.start()
        watch.probe(yesterday + 9.0)
        assert hastened == []  # the next one is due ten seconds after the first
        watch.probe(yesterday + 11.0)
        assert hastened == ["pacs"]
        assert (job.status().next_at or 0.0) <= time.time()
        job.deliver()
        job.deliver()
        assert pacs.instances() == sorted(job.uids)
        new = [c for c in pacs.get("/changes?limit=1000")["Changes"] if c["ChangeType"] == "NewInstance"]
    assert len(new) == len(job.uids)
    assert (job.status().state, job.status().error, job.status().next_at) == ("STORED", None, None)


def test_an_overdue_delivery_is_an_alarm_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = {"title": "P", "host": "127.0.0.1", "port": 1, "alarm_after_hours": 2.0}
    job = jobs.FinishedJob(tmp_path, ct_series(n=1), {"pacs": table})
    watch = Watch(job.config, job.engine, lambda _: None)
    watch.alarm(time.time() + 7000.0, steady=0.0)
    assert caplog.text.count("ALARM") == 0
    for _ in range(2):
        watch.alarm(time.time() + 7300.0, steady=300.0)
    assert caplog.text.count("ALARM: the delivery of job job-1 to pacs is pending after 2 hours") == 1
    assert is_overdue(job.status())


def test_a_clock_that_is_set_back_does_not_put_off_the_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = {"title": "P", "host": "127.0.0.1", "port": 1, "alarm_after_hours": 2.0}
    job = jobs.FinishedJob(tmp_path, ct_series(n=1), {"pacs": table})
    watch = Watch(job.config, job.engine, lambda _: None)
    yesterday = time.time() - 86400.0
    watch.alarm(time.time(), steady=1000.0)
    watch.alarm(yesterday + 7000.0, steady=8000.0)
    assert caplog.text.count("ALARM") == 0
    watch.alarm(yesterday + 7300.0, steady=8300.0)
    assert caplog.text.count("ALARM: the delivery of job job-1 to pacs is pending after 2 hours") == 1


_KILLED_AFTER_THE_ANSWER = """
import os, signal, sys
from pathlib import Path
import delivery_jobs as jobs
from node.deliver import answer_record
from node.deliver.deliverer import Deliverer
from node.ledger.engine import open_ledger
from node.spool import Spool

folder, title, host, port, at = sys.argv[1:]
record, count = answer_record.record_statuses, [0]
answer_record._AT_ONCE = 2

def killed(*arguments, **more):
    count[0] += 1
    if count[0] == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return record(*arguments, **more)

answer_record.record_statuses = killed
config = jobs.config_for(Path(folder), pacs={"title": title, "host": host, "port": int(port)})
engine = open_ledger(f"sqlite:///{folder}/ledger.sqlite")
Deliverer(config, engine, Spool(Path(folder))).deliver(jobs.JOB, "pacs")
"""


@pytest.mark.parametrize("at", [1, 3])
def test_a_sender_killed_between_two_answers_and_their_rows_leaves_each_instance_once(
    tmp_path: Path, pacs: real_peers.Orthanc, at: int
) -> None:
    job = jobs.FinishedJob(tmp_path / "node", results(), {"pacs": jobs.destination(pacs)})
    command = [sys.executable, "-c", _KILLED_AFTER_THE_ANSWER, job.folder, pacs.aet, pacs.host, pacs.dicom_port, at]
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])])
    killed = subprocess.run([str(c) for c in command], env={**os.environ, "PYTHONPATH": path}, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(pacs.instances()) == 2 * at
    assert len(job.answers()) == 2 * (at - 1)
    job.deliver()
    assert pacs.instances() == sorted(job.uids)
    for uid in job.uids:
        assert pacs.download(uid) == dcmread(job.spool.absolute(f"results/{jobs.JOB}/{uid}.dcm"))
    assert job.status().state == "STORED"


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_a_pacs_that_aborts_in_the_middle_is_reported_and_owed(tmp_path: Path, option: str) -> None:
    with real_peers.storescp(tmp_path, "+xa", "--promiscuous", option) as pacs:
        job = jobs.FinishedJob(tmp_path / "node", results(), {"pacs": jobs.destination(pacs)})
        with pytest.raises(DeliveryError, match="0 of 6 objects stored; no response to C-STORE"):
            job.deliver()
    assert (job.status().state, job.status().stored) == ("SCHEDULED", 0)


def test_a_slow_pacs_is_noticed_as_hanging(tmp_path: Path) -> None:
    with real_peers.storescp(tmp_path, "+xa", "--promiscuous", "--sleep-after", "60") as pacs:
        job = jobs.FinishedJob(tmp_path / "node", results(), {"pacs": jobs.destination(pacs)})
        started = time.monotonic()
        with pytest.raises(DeliveryError, match="no response to C-STORE"):
            job.deliver(timeouts=Timeouts(answer_seconds=2.0, store_seconds=2.0))
        assert time.monotonic() - started < 45.0  # it sleeps for 60 s


def test_a_cancelled_delivery_sends_nothing(tmp_path: Path) -> None:
    with real_peers.storescp(tmp_path, "+xa", "--promiscuous") as pacs:
        job = jobs.FinishedJob(tmp_path / "node", results(), {"pacs": jobs.destination(pacs)})
        with begin_immediate(job.engine) as connection:
            cancel_deliveries(connection, jobs.JOB)
        job.deliver()
        assert pacs.files() == []


def test_a_destination_that_is_not_configured_is_named(tmp_path: Path) -> None:
    job = jobs.FinishedJob(tmp_path, [], {})
    with pytest.raises(NotFoundError, match=r"add \[destinations.gone\]"):
        job.deliver("gone")


def test_echo_answers_from_a_real_pacs(tmp_path: Path, pacs: real_peers.Orthanc) -> None:
    config = jobs.config_for(tmp_path, pacs=jobs.destination(pacs))
    answer = echo("pacs", config.destinations["pacs"], "AINODE", jobs.PATIENT)
    assert (answer.ok, answer.reason) == (True, "")
    assert 0.0 < answer.seconds < 60.0


def _wrong_title(table: dict[str, object]) -> None:
    table["title"] = "SOMEONE"


def _wrong_port(table: dict[str, object]) -> None:
    table["port"] = real_peers.free_port()


def _wrong_host(table: dict[str, object]) -> None:
    table["host"] = "no-such-host.invalid"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_wrong_title, "association rejected: called AE title 'SOMEONE' is not recognised"),
        (_wrong_port, "connection refused; check that it is running, and its port"),
        (_wrong_host, "the host name cannot be resolved"),
    ],
)
def test_echo_says_in_words_what_is_wrong(
    tmp_path: Path, pacs: real_peers.Orthanc, fault: Callable[[dict[str, object]], None], words: str
) -> None:
    table = jobs.destination(pacs)
    fault(table)
    config = jobs.config_for(tmp_path, pacs=table)
    answer = echo("pacs", config.destinations["pacs"], "AINODE", jobs.PATIENT)
    assert not answer.ok
    assert words in answer.reason
