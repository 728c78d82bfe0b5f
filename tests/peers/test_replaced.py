"""A destination that holds what a newer result replaces gets a note on it, after the new result and once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import real_peers
import sqlalchemy as sa
from delivery_jobs import PATIENT
from dicom_files import ct_series
from job_node import RETRIES, JobNode
from pydicom import Dataset, FileDataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage, SegmentationStorage
from pynetdicom import AE, evt

from node.config import Config
from node.deliver.deliverer import Deliverer
from node.errors import NodeError
from node.inference.replacement_notes import ReplacementNotes
from node.inference.retraction import retract
from node.jobs.stage import Stage
from node.ledger import JobStage
from node.ledger.engine import begin_immediate
from node.ledger.jobs import NewJob, get_job
from node.ledger.pending_deliveries import deliveries_of, stored_since
from node.ledger.tables import decision, result, series
from node.operate.account.report import account
from node.operate.account.rows import read
from node.reasons import ReasonCode, reason

pytestmark = pytest.mark.usefixtures("standing_models")
KOS = str(KeyObjectSelectionDocumentStorage)


class AppContext:
    """A node that delivers to one real peer, and the two generations of a series."""

    def __init__(self, folder: Path, destination: dict[str, Any], version: str = "1", **options: str) -> None:
        self.folder = folder
        self.config = Config.model_validate(
            {
                "storage": {"folder": folder},
                "devices": {"use": ("cpu",), "cpu_threads": 1},
                "pipelines": {
                    "scripted": {"factory": "job_pipelines:create", "options": {"version": version, **options}}
                },
                "destinations": {"pacs": {"first_retry_seconds": 0.2, "max_retry_seconds": 0.5, **destination}},
            }
        )
        self.node = JobNode(self.config)
        self.notes = ReplacementNotes(engine=self.node.engine, spool=self.node.spool)

    @contextmanager
    def working(self) -> Iterator[None]:
        sender = Deliverer(self.config, self.node.engine, self.node.spool, PATIENT, notes=self.notes)
        deliver = Stage(name=JobStage.DELIVER, handler=sender.deliver, retries=RETRIES, seconds=60.0, slots=4)
        self.node.jobs.serve("all", [*self.node.stages()[:2], deliver])
        try:
            yield
        finally:
            self.node.jobs.stop()

    def enqueue(self, images: Sequence[FileDataset], generation: int) -> str:
        study, series = self.node.receive(images)
        new = NewJob(
            study_instance_uid=study,
            series_instance_uid=series,
            generation=generation,
            pipeline="scripted",
            rule="all",
            destinations=("pacs",),
            priority=2,
        )
        with begin_immediate(self.node.engine) as connection:
            assert self.node.jobs.enqueue(connection, new)
        return new.id

    def two_generations(self) -> tuple[str, str]:
        images = ct_series(n=5, size=16)
        jobs = []
        for generation, part in ((1, images[:4]), (2, images[4:])):
            jobs.append(self.enqueue(part, generation))
            assert self.node.wait(jobs[-1]).state == "COMPLETED"
        return jobs[0], jobs[1]

    def made(self, job_id: str) -> dict[str, str]:
        """SOP Instance UID by kind."""
        return {row.kind: row.sop_instance_uid for row in self.node.results(job_id)}

    def differences(self) -> list[str]:
        """Of jobs and deliveries; that no receiver has counted the images is the way of this node."""
        differences = account(read(self.node.engine), self.config.is_recipient).differences
        return [difference for difference in differences if "no row" not in difference]


def named(note: Dataset) -> set[str]:
    """SOP Instance UIDs that a note withdraws."""
    items = [item for item in note.ContentSequence if "ReferencedSOPSequence" in item]
    return {str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in items}


def test_orthanc_gets_the_new_result_and_then_a_note_on_the_old_one(tmp_path: Path, pacs: real_peers.Orthanc):
    site = AppContext(tmp_path / "node", {"title": pacs.aet, "host": pacs.host, "port": pacs.dicom_port})
    with site.working():
        old, new = site.two_generations()
    before, after = site.made(old), site.made(new)
    assert set(before) == {"seg", "sr"}
    assert set(after) == {"seg", "sr", "rejection pacs"}
    assert pacs.instances() == sorted([*before.values(), *after.values()])
    note = pacs.download(after["rejection pacs"])
    assert note.SOPClassUID == KOS
    assert named(note) == set(before.values())
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert note.SeriesDescription == "AI results replaced"
    report = pacs.download(after["sr"])
    assert report.SeriesDescription == "FINDINGS v2 - AI scripted report, 5 images"
    assert report.PredecessorDocumentsSequence
    with site.node.engine.connect() as connection:
        (delivery,) = deliveries_of(connection, new)
        assert (delivery.instances, delivery.stored) == (3, 3)
        kept = {instance.sop_instance_uid for instance in stored_since(connection, "pacs", 0.0)}
    assert kept == set(after.values()), "an archive may hide what is withdrawn: it is not looked for again"
    assert ("replaced results withdrawn", "pacs: a note on 2 objects") in site.node.events(new)
    assert site.differences() == []


@contextmanager
def scp(answers: dict[str, list[int]]) -> Iterator[tuple[int, list[str]]]:
    """A Storage SCP for the classes of ``answers``, each with its next statuses and then success; what came."""
    came: list[str] = []
    lock = threading.Lock()

    def store(event: evt.Event) -> int:
        with lock:
            name = str(event.request.AffectedSOPClassUID)
            came.append(name)
            return answers[name].pop(0) if answers[name] else 0x0000

    entity = AE(ae_title="PACS")
    for name in answers:
        entity.add_supported_context(name)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.socket.getsockname()[1], came
    finally:
        server.shutdown()


def results_only() -> dict[str, list[int]]:
    return {str(SegmentationStorage): [], str(Comprehensive3DSRStorage): []}


def peer(port: int, **more: Any) -> dict[str, Any]:
    return {"title": "PACS", "host": "127.0.0.1", "port": port, **more}


def test_a_destination_without_key_object_selection_keeps_its_results_and_nothing_is_tried_again(tmp_path: Path):
    with scp(results_only()) as (port, came):
        site = AppContext(tmp_path, peer(port))
        with site.working():
            _, new = site.two_generations()
        assert len(came) == 4
        told = [detail for what, detail in site.node.events(new) if what == "replaced results not withdrawn"]
        assert len(told) == 1
        assert told[0].startswith("pacs: it does not accept rejection notes")
        assert set(site.made(new)) == {"seg", "sr"}
        Deliverer(site.config, site.node.engine, site.node.spool, PATIENT, notes=site.notes).deliver(new, "pacs")
        assert len([what for what, _ in site.node.events(new) if what == "replaced results not withdrawn"]) == 1
        assert site.differences() == []


def test_a_note_that_is_refused_for_good_is_given_up(tmp_path: Path):
    with scp({**results_only(), KOS: [0x0122]}) as (port, came):
        site = AppContext(tmp_path, peer(port))
        with site.working():
            _, new = site.two_generations()
        assert came.count(KOS) == 1
        assert "replaced results not withdrawn" in dict(site.node.events(new))
        assert site.differences() == []


def test_a_note_that_meets_a_full_archive_is_sent_again_and_is_the_same(tmp_path: Path):
    with scp({**results_only(), KOS: [0xA700, 0xA700]}) as (port, came):
        site = AppContext(tmp_path, peer(port))
        with site.working():
            _, new = site.two_generations()
        assert came.count(KOS) == 3
        assert came.count(str(Comprehensive3DSRStorage)) == 2, "the results are not sent again for the note's sake"
        assert [kind for kind in site.made(new) if kind.startswith("rejection")] == ["rejection pacs"]
        assert site.differences() == []


def test_the_note_waits_until_every_new_object_is_stored(tmp_path: Path):
    answers = {**results_only(), KOS: []}
    with scp(answers) as (port, came):
        site = AppContext(tmp_path / "refused", peer(port))
        with site.working():
            images = ct_series(n=5, size=16)
            assert site.node.wait(site.enqueue(images[:4], 1)).state == "COMPLETED"
            answers[str(SegmentationStorage)] += [0xA700]
            assert site.node.wait(site.enqueue(images[4:], 2)).state == "COMPLETED"
        assert came[-1] == KOS
        assert came.count(KOS) == 1


def test_the_note_can_be_switched_off(tmp_path: Path):
    with scp({**results_only(), KOS: []}) as (port, came):
        site = AppContext(tmp_path, peer(port, withdraw_replaced=False))
        with site.working():
            site.two_generations()
        assert KOS not in came


@pytest.mark.parametrize(("wanted", "notes"), [(True, 1), ("auto", 0)])
def test_a_folder_hides_nothing_and_gets_a_note_only_when_asked_for(tmp_path: Path, *, wanted: object, notes: int):
    out = tmp_path / "out"
    out.mkdir()
    site = AppContext(tmp_path / "node", {"folder": str(out), "withdraw_replaced": wanted})
    with site.working():
        site.two_generations()
    assert len([*out.rglob("*.dcm")]) == 4 + notes


def test_a_new_model_withdraws_what_the_same_job_sent_before(tmp_path: Path):
    with scp({**results_only(), KOS: []}) as (port, _):
        first = AppContext(tmp_path, peer(port))
        with first.working():
            job_id = first.enqueue(ct_series(n=4, size=16), 1)
            assert first.node.wait(job_id).state == "COMPLETED"
        before = first.made(job_id)
        again = AppContext(tmp_path, peer(port), version="2")
        with again.working():
            for _ in range(2):  # the second time nothing is new
                again.node.jobs.retry(job_id)
                assert again.node.wait(job_id).state == "COMPLETED"
        after = again.made(job_id)
        assert after["sr"] != before["sr"]
        (path,) = [row.path for row in again.node.results(job_id) if row.kind == "rejection pacs"]
        note = dcmread(again.node.spool.absolute(path))
        assert named(note) == set(before.values())
        assert again.differences() == []


def test_what_was_withdrawn_once_is_not_named_by_the_next_generation(tmp_path: Path):
    with scp({**results_only(), KOS: []}) as (port, _):
        site = AppContext(tmp_path, peer(port))
        images = ct_series(n=6, size=16)
        made = []
        with site.working():
            for generation, part in ((1, images[:4]), (2, images[4:5]), (3, images[5:])):
                job_id = site.enqueue(part, generation)
                assert site.node.wait(job_id).state == "COMPLETED"
                made.append(site.made(job_id))
        (path,) = [row.path for row in site.node.results(job_id) if row.kind == "rejection pacs"]
        note = dcmread(site.node.spool.absolute(path))
        assert named(note) == {made[1]["seg"], made[1]["sr"]}


def test_a_retraction_names_the_results_and_not_the_note_that_came_with_them(tmp_path: Path):
    with scp({**results_only(), KOS: []}) as (port, came):
        site = AppContext(tmp_path, peer(port))
        with site.working():
            _, new = site.two_generations()
            made = site.made(new)
            retract(site.node.jobs, site.node.engine, site.node.spool, new, "safety")
            assert site.node.wait(new, lambda job: job.state == "COMPLETED" and came.count(KOS) == 2)
        with site.node.engine.connect() as connection:
            path = connection.scalar(sa.select(result.c.path).where(result.c.kind == "rejection"))
        note = dcmread(site.node.spool.absolute(str(path)))
        assert named(note) == {made["seg"], made["sr"]}


def test_a_retry_after_a_retraction_makes_other_instances_and_no_second_note(tmp_path: Path):
    with scp({**results_only(), KOS: []}) as (port, came):
        site = AppContext(tmp_path, peer(port))
        with site.working():
            job_id = site.enqueue(ct_series(n=4, size=16), 1)
            assert site.node.wait(job_id).state == "COMPLETED"
            before = site.made(job_id)
            retract(site.node.jobs, site.node.engine, site.node.spool, job_id, "quality")
            assert site.node.wait(job_id, lambda job: job.state == "COMPLETED" and came.count(KOS) == 1)
            with pytest.raises(NodeError, match=r"is retracted.*retry it from infer"):
                site.node.jobs.retry(job_id, "deliver")
            made = []
            for _ in range(2):  # the second time nothing is new
                site.node.jobs.retry(job_id)
                assert site.node.wait(job_id).state == "COMPLETED"
                made.append(site.made(job_id))
        first, second = made
        assert set(first) == {"seg", "sr"}
        assert not set(first.values()) & set(before.values()), "the archive hides what the note rejects"
        assert second == first
        assert came.count(KOS) == 1, "the retraction has withdrawn the first ones"
        (path,) = [row.path for row in site.node.results(job_id) if row.kind == "sr"]
        report = dcmread(site.node.spool.absolute(path))
        assert report.SeriesDescription.startswith("FINDINGS v2")
        assert site.differences() == []


def test_a_retry_before_the_note_of_a_retraction_arrived_withdraws_all_the_same(tmp_path: Path):
    with scp(results_only()) as (port, _):
        first = AppContext(tmp_path, peer(port))
        with first.working():
            job_id = first.enqueue(ct_series(n=4, size=16), 1)
            assert first.node.wait(job_id).state == "COMPLETED"
            before = first.made(job_id)
    retract(first.node.jobs, first.node.engine, first.node.spool, job_id, "quality")
    first.node.jobs.cancel(job_id, "otto")
    with scp({**results_only(), KOS: []}) as (port, came):
        again = AppContext(tmp_path, peer(port))
        with again.working():
            again.node.jobs.retry(job_id, "infer")
            assert again.node.wait(job_id).state == "COMPLETED"
        assert came.count(KOS) == 1
        (path,) = [row.path for row in again.node.results(job_id) if row.kind == "rejection pacs"]
        assert named(dcmread(again.node.spool.absolute(path))) == set(before.values())


@pytest.mark.parametrize("stage", [None, "infer", "deliver"])
def test_nothing_of_a_held_series_is_analysed_or_sent_by_a_retry(tmp_path: Path, stage: str | None):
    with scp({**results_only(), KOS: []}) as (port, came):
        site = AppContext(tmp_path, peer(port))
        with site.working():
            job_id = site.enqueue(ct_series(n=4, size=16), 1)
            assert site.node.wait(job_id).state == "COMPLETED"
            sent = list(came)
            with begin_immediate(site.node.engine) as connection:
                job = get_job(connection, job_id)
                key = {
                    "study_instance_uid": job.study_instance_uid,
                    "series_instance_uid": job.series_instance_uid,
                    "generation": 2,
                }
                of_series = {"modality": "CT", "instances": 5, "first_at": 1.0, "last_at": 1.0, "state": "COMPLETE"}
                connection.execute(sa.insert(series).values(**key, **of_series))
                connection.execute(
                    sa.insert(decision).values(
                        **key,
                        outcome="held",
                        trace=[],
                        reason=reason(ReasonCode.CONTRADICTION, keywords=["PatientID"]),
                        decided_at=1.0,
                    )
                )
            with pytest.raises(NodeError, match=r"is held: .* PatientID"):
                site.node.jobs.retry(job_id, stage)
        assert came == sent


def test_a_destination_that_holds_a_result_gets_what_replaces_it_whatever_outcomes_it_takes(
    tmp_path: Path, notes: Path
):
    (tmp_path / "out").mkdir()
    only_negative = {"folder": str(tmp_path / "out"), "outcomes": ("no findings",)}
    site = AppContext(tmp_path / "node", only_negative, does="none", once=str(notes / "first"))
    with site.working():
        old, new = site.two_generations()
    outcomes = {dcmread(file).SeriesDescription.split(" - ")[0] for file in (tmp_path / "out").rglob("*.dcm")}
    assert outcomes == {"NO FINDINGS", "FINDINGS v2"}
    assert {*site.made(old).values(), *site.made(new).values()} == {f.stem for f in (tmp_path / "out").rglob("*.dcm")}
    assert site.differences() == []
