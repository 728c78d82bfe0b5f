"""Infer and encode on a real engine: every outcome becomes what it should, and what may not leave stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_files import ct_series, mr_series
from job_node import JobNode, config_of, encode_here
from notes import shared_notes
from pydicom import FileDataset, dcmread

from node.errors import ConfigError, EncodeError, GateError, InputError, PipelineError, not_analysed
from node.inference import encode_and_check
from node.inference.encode_stage import Encode
from node.inference.infer_stage import Infer
from node.jobs.stage import Stage
from node.ledger.job_outcome import record_outcome
from node.ledger.tables import instance
from node.reasons import reason_text
from node.results import encode as encoding


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobNode]:
    """One node that serves pipelines named after what they do."""
    with shared_notes() as notes:
        hang = {"does": "hang", "seconds": 600, "log": str(notes / "log"), "once": str(notes / "once")}
        pipelines = {does: {"does": does} for does in ("findings", "none", "raise", "jump", "outside")} | {"hang": hang}
        serving = JobNode(config_of(tmp_path_factory.mktemp("node"), pipelines=pipelines))
        serving.jobs.serve("all", serving.stages())
        yield serving
        serving.jobs.stop()
        serving.engine.dispose()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[JobNode]:
    """A node that serves nothing."""
    made = JobNode(config_of(tmp_path))
    yield made
    made.engine.dispose()


def sent(node: JobNode, job_id: str) -> set[str]:
    """``DESTINATION SOP`` of what was delivered of a job, each once."""
    own = {row.sop_instance_uid for row in node.results(job_id)}
    counted = {line: count for line, count in node.delivered().items() if line.split()[1] in own}
    assert set(counted.values()) <= {1}
    return set(counted)


def classes(node: JobNode, job_id: str) -> list[str]:
    return sorted(dcmread(node.spool.absolute(row.path)).Modality for row in node.results(job_id))


@pytest.mark.thorough
def test_every_outcome_in_turn_becomes_its_objects_and_reaches_who_wants_it(node: JobNode) -> None:
    both = ("pacs", "findings")
    job_id = node.enqueue(destinations=both, pipeline="findings")
    magnetic = node.enqueue(mr_series(n=3, size=16), destinations=both, pipeline="findings")
    assert node.wait(job_id).outcome == "findings"
    assert classes(node, job_id) == ["SEG", "SR"]
    unsuited = node.wait(magnetic)
    assert (unsuited.state, unsuited.outcome) == ("COMPLETED", "not applicable")
    assert reason_text(unsuited.reason) == "Modality is MR, needed is CT"
    assert classes(node, magnetic) == ["SR"]
    assert sent(node, job_id) == {f"{name} {row.sop_instance_uid}" for name in both for row in node.results(job_id)}
    assert sent(node, magnetic) == {f"pacs {row.sop_instance_uid}" for row in node.results(magnetic)}
    [timings] = [detail for what, detail in node.events(job_id) if what == "infer timings"]
    assert all(part in timings for part in ("load ", "read ", "run ", " on cpu; peak memory ", " MiB host"))


@pytest.mark.thorough
def test_each_destination_gets_the_objects_it_wants_and_a_report_that_refers_to_nothing_else(node: JobNode) -> None:
    every = ("pacs", "reports", "masks")
    job_id = node.enqueue(destinations=every, pipeline="findings")
    empty = node.enqueue(destinations=every, pipeline="none")
    assert (node.wait(job_id).state, node.wait(empty).state) == ("COMPLETED", "COMPLETED")
    uids = {row.kind: row.sop_instance_uid for row in node.results(job_id)}
    assert set(uids) == {"seg", "sr", "sr alone"}
    wanted = {"pacs": ("seg", "sr"), "reports": ("sr alone",), "masks": ("seg",)}
    assert sent(node, job_id) == {f"{name} {uids[kind]}" for name, kinds in wanted.items() for kind in kinds}
    alone = next(row for row in node.results(job_id) if row.kind == "sr alone")
    assert uids["seg"].encode() not in node.spool.absolute(alone.path).read_bytes()
    assert {line.split()[0] for line in sent(node, empty)} == {"pacs", "reports"}, "no mask, no delivery"


@pytest.mark.thorough
def test_pipeline_that_keeps_breaking_ends_as_a_failure_the_radiologist_can_read(node: JobNode) -> None:
    job_id = node.enqueue(pipeline="raise")
    job = node.wait(job_id)
    assert (job.state, job.outcome) == ("COMPLETED", "failed")
    assert reason_text(job.reason) == not_analysed(PipelineError.code, job_id)
    told = [detail for what, detail in node.events(job_id) if what == "infer failed"]
    assert len(told) == 2
    assert all("RuntimeError: the network diverged" in detail for detail in told), "who runs the node reads all of it"
    assert classes(node, job_id) == ["SR"]
    [report] = node.results(job_id)
    said = node.spool.absolute(report.path).read_bytes()
    assert b"NOT ANALYSED: the program that analyses the images stopped with an error" in said
    assert b"diverged" not in said, "a message of Python is no part of a report"
    assert b"RuntimeError" not in said


@pytest.mark.thorough
def test_wrong_options_fail_at_once(node: JobNode) -> None:
    job_id = node.enqueue(pipeline="jump")
    job = node.wait(job_id)
    assert job.outcome == "failed"
    assert reason_text(job.reason) == not_analysed(ConfigError.code, job_id)
    [told] = [detail for what, detail in node.events(job_id) if what == "infer failed"]
    assert "options.does = 'jump' is unknown" in told


@pytest.mark.thorough
def test_findings_that_cannot_be_encoded_become_a_failure(node: JobNode) -> None:
    job_id = node.enqueue(pipeline="outside")
    job = node.wait(job_id)
    assert (job.state, job.outcome) == ("COMPLETED", "failed")
    assert reason_text(job.reason) == not_analysed(EncodeError.code, job_id)
    [told] = [detail for what, detail in node.events(job_id) if what == "encode failed"]
    assert "outside the source images" in told
    assert classes(node, job_id) == ["SR"]


@pytest.mark.thorough
def test_object_the_gate_refuses_is_kept_in_quarantine_and_a_failure_is_sent(
    node: JobNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(objects: Any, source: Any, *_earlier: object) -> None:
        check(objects, source, None)
        if any(instance.kind == "seg" for instance in objects):
            raise GateError("1 faults, not sent: SEG is mirrored")

    check = encode_and_check.check
    encode_here(monkeypatch)
    monkeypatch.setattr(encode_and_check, "check", strict)
    job_id = node.enqueue(pipeline="findings")
    job = node.wait(job_id)
    assert (job.state, job.outcome, reason_text(job.reason)) == (
        "COMPLETED",
        "failed",
        not_analysed(GateError.code, job_id),
    )
    assert ("encode failed", "1 faults, not sent: SEG is mirrored") in node.events(job_id)
    rows = node.results(job_id)
    assert sorted(bool(row.quarantine) for row in rows) == [False, True, True]
    [report] = [row for row in rows if not row.quarantine]
    assert sent(node, job_id) == {f"pacs {report.sop_instance_uid}"}
    assert all(node.spool.absolute(row.path).exists() for row in rows)


@pytest.mark.thorough
def test_one_bad_picture_is_kept_in_quarantine_and_the_rest_leaves_with_a_report_that_says_so(
    node: JobNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*arguments: Any, **named: Any) -> Any:
        for image in encode_key_images(*arguments, **named):
            image.BurnedInAnnotation = "NO"
            yield image

    encode_key_images = encoding.encode_key_images
    encode_here(monkeypatch)
    monkeypatch.setattr(encoding, "encode_key_images", spoiled)
    job_id = node.enqueue(pipeline="findings", destinations=("pictures",))
    job = node.wait(job_id)
    assert (job.state, job.outcome) == ("COMPLETED", "findings")
    rows = {row.kind: row for row in node.results(job_id)}
    assert set(rows) == {"seg", "sr", "pdf", "key images"}
    held = rows.pop("key images")
    assert "key images" in held.quarantine
    assert sent(node, job_id) == {f"pictures {row.sop_instance_uid}" for row in rows.values()}
    said = node.spool.absolute(rows["sr"].path).read_bytes()
    assert b"Not sent: key images, which could not be made." in said
    assert b"Outcome: findings" in said
    assert [what for what, _ in node.events(job_id)].count("objects withheld") == 1


@pytest.mark.thorough
def test_a_picture_that_cannot_be_drawn_is_left_out_and_the_rest_leaves(
    node: JobNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("no window")

    encode_here(monkeypatch)
    monkeypatch.setattr(encoding, "draw_key_image", broken)
    job_id = node.enqueue(pipeline="findings", destinations=("pictures",))
    job = node.wait(job_id)
    assert (job.state, job.outcome) == ("COMPLETED", "findings")
    rows = {row.kind: row for row in node.results(job_id)}
    assert set(rows) == {"seg", "sr"}
    said = node.spool.absolute(rows["sr"].path).read_bytes()
    assert b"Not sent: key images, pdf, which could not be made." in said
    assert b"ValueError" not in said, "a message of Python is no part of a report"
    assert ("objects withheld", "Not sent: key images, pdf (ValueError: no window)") in node.events(job_id)


def inferred(idle: JobNode, job_id: str) -> Stage:
    """The stage encode of a job that was inferred."""
    infer, encode, _ = idle.stages()
    done = infer.handler(job_id, "")
    infer.interrupt()
    assert done is not None
    with idle.engine.begin() as connection:
        done.write(connection)
    return encode


@pytest.mark.thorough
def test_one_line_says_which_headers_were_mended_and_nothing_of_the_patient(
    idle: JobNode, caplog: pytest.LogCaptureFixture
) -> None:
    images = ct_series(n=3, size=16)
    for image in images:
        del image.FrameOfReferenceUID, image.PatientSex
        image.PatientName = "Unlogged^Name"
    job_id = idle.enqueue(images)
    encode = inferred(idle, job_id)
    with caplog.at_level("INFO", "node.inference.encode_stage"):
        encode.handler(job_id, "")
    [line] = [text for record in caplog.records if ": headers of series " in (text := record.getMessage())]
    assert line.startswith(f"job {job_id}: headers of series {images[0].SeriesInstanceUID}: PatientSex is missing")
    assert "FrameOfReferenceUID is missing" in line
    assert "Unlogged" not in caplog.text


@pytest.mark.thorough
def test_repeated_encoding_makes_the_same_files(idle: JobNode) -> None:
    job_id = idle.enqueue()
    encode = inferred(idle, job_id)
    made = []
    for _ in range(2):
        encode.handler(job_id, "")
        made.append({path.name: path.read_bytes() for path in (idle.folder / "results" / job_id).iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 2


@pytest.mark.thorough
def test_a_new_version_of_the_model_follows_the_earlier_report_and_keeps_tracking_uids(tmp_path: Path) -> None:
    made = []
    for version in ("1", "2"):
        node = JobNode(config_of(tmp_path, version=version))
        if version == "1":
            job_id = node.enqueue()
        else:
            node.jobs.cancel(job_id)
            node.jobs.retry(job_id, "infer")
        done = inferred(node, job_id).handler(job_id, "")
        assert done is not None
        with node.engine.begin() as connection:
            done.write(connection)
        made.append({row.kind: dcmread(node.spool.absolute(row.path)) for row in done_rows(node, job_id, made)})
        node.engine.dispose()
    first, second = made
    assert second["sr"].SOPInstanceUID != first["sr"].SOPInstanceUID
    [study] = second["sr"].PredecessorDocumentsSequence
    [followed] = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert followed.ReferencedSOPInstanceUID == first["sr"].SOPInstanceUID
    [then], [now] = (results["seg"].SegmentSequence for results in made)
    assert now.TrackingUID == then.TrackingUID
    versions = [results["sr"].ContributingEquipmentSequence[-1].SoftwareVersions[0] for results in made]
    assert versions == ["1", "2"]


@pytest.mark.thorough
def test_a_result_that_is_made_again_keeps_its_version_and_one_that_comes_back_is_a_new_one(tmp_path: Path) -> None:
    made: list[dict[str, FileDataset]] = []
    job_id = ""
    for version in ("1", "1", "2", "2", "1"):
        node = JobNode(config_of(tmp_path, version=version))
        if made:
            node.jobs.cancel(job_id)
            node.jobs.retry(job_id, "infer")
        else:
            job_id = node.enqueue()
        done = inferred(node, job_id).handler(job_id, "")
        assert done is not None
        with node.engine.begin() as connection:
            done.write(connection)
        made.append({row.kind: dcmread(node.spool.absolute(row.path)) for row in node.results(job_id)})
        node.engine.dispose()
    uids = [results["sr"].SOPInstanceUID for results in made]
    assert uids[0] == uids[1] != uids[2] == uids[3] != uids[4] != uids[0]
    named = [results["sr"].get("PredecessorDocumentsSequence") for results in made]
    followed = [
        items and items[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for items in named
    ]
    assert followed == [None, None, uids[0], uids[0], uids[2]]
    firsts = [str(results["sr"].SeriesDescription).partition(" - ")[0] for results in made]
    assert firsts == ["FINDINGS", "FINDINGS", "FINDINGS v2", "FINDINGS v2", "FINDINGS v3"]


def done_rows(node: JobNode, job_id: str, before: list[dict[str, FileDataset]]) -> list[Any]:
    """Results of a job without those that were there ``before``."""
    known = {str(dataset.SOPInstanceUID) for results in before for dataset in results.values()}
    return [row for row in node.results(job_id) if row.sop_instance_uid not in known]


@pytest.mark.thorough
def test_running_job_that_is_cancelled_ends_its_pipeline_and_frees_the_device(node: JobNode) -> None:
    job_id = node.enqueue(pipeline="hang")
    deadline = time.monotonic() + 240
    while not Path(node.config.pipelines["hang"].options["log"]).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    node.jobs.cancel(job_id)
    next_id = node.enqueue(pipeline="findings")
    assert node.wait(next_id).state == "COMPLETED"
    job = node.job(job_id)
    assert (job.state, reason_text(job.reason)) == ("CANCELED", "cancelled by the operator")
    assert node.results(job_id) == []
    node.jobs.retry(job_id)
    assert node.wait(job_id).outcome == "findings"


@pytest.mark.thorough
def test_series_with_an_unreadable_file_is_reported_as_failed(node: JobNode) -> None:
    datasets = ct_series(n=3, size=16)
    study, series = node.receive(datasets)
    with node.engine.connect() as connection:
        path = connection.scalars(sa.select(instance.c.path).where(instance.c.series_instance_uid == series)).first()
    assert path is not None
    node.spool.absolute(path).write_bytes(b"no DICOM")
    job_id = node.enqueue_for(study, series, destinations=("pacs",), pipeline="findings")
    job = node.wait(job_id)
    assert (job.state, job.outcome) == ("COMPLETED", "failed")
    assert reason_text(job.reason).startswith("NOT ANALYSED: one image cannot be read.")
    [told] = [detail for what, detail in node.events(job_id) if what == "infer failed"]
    assert "cannot be read as DICOM" in told
    assert classes(node, job_id) == ["SR"]


@pytest.mark.thorough
def test_pipelines_are_loaded_before_the_first_job(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    births = notes / "births"
    caplog.set_level("INFO", "node.inference")
    pipelines = {"jump": {"does": "jump"}, "findings": {"births": str(births)}}
    node = JobNode(config_of(tmp_path, pipelines=pipelines))
    infer = Infer(node.config, node.engine, node.spool)
    job_id = node.enqueue(pipeline="findings")
    infer.stage().begin()
    deadline = time.monotonic() + 240
    while "pipeline findings loaded on cpu" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "pipeline jump cannot be loaded on cpu: [pipelines.jump]" in caplog.text
    before = births.read_text()
    infer.infer(job_id, "")
    infer.close()
    node.engine.dispose()
    assert births.read_text() == before
    assert len(before.splitlines()) == 1


def test_handovers_of_finished_jobs_are_swept_and_those_in_work_are_kept(idle: JobNode) -> None:
    waiting = idle.enqueue()
    for name in (waiting, "0123456789abcdef"):
        idle.spool.work(name).mkdir(parents=True)
    Encode(idle.config, idle.engine, idle.spool).sweep()
    assert [path.name for path in (idle.folder / "work").iterdir()] == [waiting]


@pytest.mark.thorough
def test_lost_handover_is_a_failure_that_names_the_remedy(idle: JobNode) -> None:
    job_id = idle.enqueue()
    with idle.engine.begin() as connection:
        record_outcome(connection, job_id, "findings", None)
    with pytest.raises(InputError, match="retry the job from infer"):
        Encode(idle.config, idle.engine, idle.spool).encode(job_id, "")
