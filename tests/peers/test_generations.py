"""What comes after a series was complete: late images, the same images, and images of another identity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_files import ct_series, write
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from real_peers import dcmtk
from receivers import Node, receiving, until
from scanner import route, send
from timeline import timeline

from node.config import FORWARD
from node.jobs.engine import Jobs
from node.ledger.corrections import outdated_deliveries
from node.ledger.engine import begin_immediate, now
from node.ledger.jobs import Job, source_paths
from node.ledger.pending_deliveries import instances_to_store
from node.ledger.tables import conflict, delivery, delivery_instance, event, instance, series
from node.operate.account.description import describe as describe_account
from node.operate.account.report import account
from node.operate.account.rows import read
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.status import status
from node.operate.verify import verify
from node.reasons import reason_text
from node.routing.conflicts import Conflicts
from node.routing.instance_comparison import Difference, compare


def test_a_late_image_makes_a_generation_whose_jobs_supersede_the_unfinished_ones(node: Node) -> None:
    images = ct_series(4, 16)
    send(node, images[:3])
    (first,) = route(node)
    assert first.state == "SCHEDULED"
    send(node, images[3:])
    first, second = route(node)
    assert status(node.engine, node.spool.folder)["outcomes"] == {}  # of jobs that have one
    assert (first.state, reason_text(first.reason)) == ("CANCELED", "superseded by generation 2 of its series")
    assert (second.generation, second.state) == (2, "SCHEDULED")
    (row,) = node.rows(series)
    assert (row.state, row.generation, row.instances) == ("COMPLETE", 2, 4)
    assert "superseded by generation 2" in describe(explain(node.engine, images[0].StudyInstanceUID))


def test_the_same_images_again_from_anyone_start_nothing(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images)
    before = (route(node), node.rows(series), node.rows(event))
    send(node, images)
    send(node, images, calling="PACS")
    assert (route(node), node.rows(series), node.rows(event)) == before


def changed(images: Sequence[Dataset], **values: str) -> list[Dataset]:
    copies = [deepcopy(image) for image in images]
    for copy in copies:
        for keyword, value in values.items():
            setattr(copy, keyword, value)
    return copies


def delivered(node: Node, job: Job) -> None:
    """A destination holds a result of the job."""
    owed = {"job_id": job.id, "destination": "pacs"}
    with begin_immediate(node.engine) as connection:
        row = {**owed, "attempt": 1, "created_at": now(), "updated_at": now(), "state": "STORED"}
        connection.execute(sa.insert(delivery).values(**row))
        connection.execute(sa.insert(delivery_instance).values(**owed, sop_instance_uid="1.2", status=0))


IDENTITY = {"PatientID": "MERGED-9", "PatientName": "Merged^Name", "AccessionNumber": "A2"}


def test_a_changed_identity_is_named_by_keyword_and_what_was_sent_under_the_old_one_is_flagged(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images)
    (job,) = route(node)
    delivered(node, job)
    send(node, changed(images, **IDENTITY))
    assert Conflicts(node.engine, node.spool).step() == 3
    assert {(row.kind, row.changed) for row in node.rows(conflict)} == {
        ("identity", "AccessionNumber, PatientName, PatientID")
    }
    (told,) = [row for row in timeline(node.engine) if row.what == "identity changed"]
    assert told.detail.startswith("3 image(s) received again with different AccessionNumber, PatientName, PatientID")
    counts = status(node.engine, node.spool.folder)
    assert (counts["conflicts"], counts["identity_changed"], counts["outdated_results"]) == (3, 3, 1)
    rows = account(read(node.engine), lambda _destination, _outcome, _made: True)
    assert [(o.job_id, o.destination) for o in rows.outdated] == [(job.id, "pacs")]
    words = describe_account(rows) + describe(explain(node.engine, images[0].StudyInstanceUID))
    assert words.count("IDENTITY CHANGED") == 2
    assert "MERGED" not in words + str(timeline(node.engine)).upper()


def test_nothing_more_is_made_under_an_identity_that_is_being_corrected(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images)
    route(node)
    send(node, changed(images[:1], **IDENTITY))
    Conflicts(node.engine, node.spool).step()
    (job,) = route(node)
    assert job.state == "CANCELED"
    assert reason_text(job.reason) == (
        "its images were received again with different AccessionNumber, PatientName, PatientID; "
        "when all of them have, the new identity counts"
    )
    delivered(node, job)
    with node.engine.connect() as connection:
        assert len(outdated_deliveries(connection)) == 1


def half_corrected(node: Node) -> list[str]:
    """What the account, explain, and their status say of series of which only some images were corrected."""
    totals = account(read(node.engine), lambda _destination, _outcome, _made: True)
    with node.engine.connect() as connection:
        (study,) = set(connection.scalars(sa.select(series.c.study_instance_uid)))
    words = describe_account(totals) + "\n" + describe(explain(node.engine, study))
    lines = [line.strip() for line in words.splitlines() if "NEEDS AN OPERATOR" in line]
    assert len(lines) == 2 * len(set(lines))
    assert status(node.engine, node.spool.folder)["half_corrected"] == len(totals.half_corrected)
    return sorted(set(lines))


def test_a_series_of_which_only_some_images_were_corrected_waits_for_people_and_says_so_until_they_decide(
    node: Node,
) -> None:
    images = ct_series(3, 16)
    send(node, images)
    (job,) = route(node)
    send(node, changed(images[:2], **IDENTITY))
    Conflicts(node.engine, node.spool).step()
    (line,) = half_corrected(node)
    assert "2 of 3 images of series" in line
    assert f"ainode retry {job.id}" in line
    Jobs(node.engine).retry(job.id)  # the first identity is the right one
    assert half_corrected(node) == []
    send(node, changed(images[2:], **IDENTITY))  # no, the second is
    Conflicts(node.engine, node.spool).step()
    assert half_corrected(node) == []


def test_a_correction_that_began_before_the_series_was_complete_holds_it_as_well(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images)
    send(node, changed(images[:2], **IDENTITY))
    Conflicts(node.engine, node.spool).step()
    (job,) = route(node)
    Conflicts(node.engine, node.spool).step()
    assert len(half_corrected(node)) == 1
    Jobs(node.engine).retry(job.id)
    Conflicts(node.engine, node.spool).step()
    (job,) = route(node)
    assert job.state == "SCHEDULED"


def counting(node: Node) -> tuple[set[str], set[str]]:
    """Patient IDs of the images that count and of those that are kept beside them."""
    return tuple(  # type: ignore[return-value]
        {str(dcmread(node.spool.absolute(row.path)).PatientID) for row in node.rows(table)}
        for table in (instance, conflict)
    )


def test_a_series_that_came_again_as_a_whole_is_analysed_and_sent_on_under_its_new_identity(tmp_path: Path) -> None:
    forward = '\n[[rules]]\nname = "archive"\nsend = ["pacs"]\n'
    images = ct_series(3, 16)
    with receiving(tmp_path) as node:
        send(node, images)
        before = route(node, forward)
        delivered(node, before[1])
        for image in changed(images, **IDENTITY):  # one by one, as archives do
            send(node, [image])
            Conflicts(node.engine, node.spool).step()
        assert counting(node) == ({"MERGED-9"}, {str(images[0].PatientID)})
        jobs = route(node, forward)
        assert [(job.generation, job.pipeline) for job in jobs] == [(g, p) for g in (1, 2) for p in (FORWARD, "bright")]
        with node.engine.connect() as connection:
            for job in jobs[2:]:
                paths = source_paths(connection, job)
                assert {str(dcmread(node.spool.absolute(path)).PatientID) for path in paths} == {"MERGED-9"}
            assert len(instances_to_store(connection, jobs[2].id, "pacs")) == 3
            assert [delivery.job_id for delivery in outdated_deliveries(connection)] == [jobs[1].id]
        rows = (node.rows(instance), node.rows(conflict), node.rows(series))
        for again in (images, changed(images, **IDENTITY)):
            send(node, again)
        Conflicts(node.engine, node.spool).step()
        assert (node.rows(instance), node.rows(conflict), node.rows(series)) == rows
        assert verify(node.engine, node.spool, now() + 3600.0).faults == 0
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    with receiving(tmp_path) as node:
        until(lambda: len(node.rows(instance)) == len(node.rows(conflict)) == 3)
        Conflicts(node.engine, node.spool).step()
        assert counting(node) == ({"MERGED-9"}, {str(images[0].PatientID)})


def test_a_rebuilt_ledger_has_the_images_that_a_killed_analysis_was_reading(tmp_path: Path) -> None:
    with receiving(tmp_path) as node:
        send(node, ct_series(3, 16))
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    (tmp_path / "tray").mkdir()
    for path in (tmp_path / "incoming").rglob("*.dcm"):
        os.link(path, tmp_path / "tray" / path.name)
    with receiving(tmp_path) as node:
        until(lambda: len(node.rows(instance)) == 3)


def test_a_sop_instance_uid_used_again_in_another_study_is_a_conflict_that_both_studies_explain(
    node: Node, tmp_path: Path
) -> None:
    images = ct_series(2, 16)
    other = generate_uid()
    for folder, these in (("one", images), ("two", changed(images, StudyInstanceUID=other))):
        write(these, tmp_path / folder)
        dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, tmp_path / folder)
    assert len(node.rows(conflict)) == 2
    Conflicts(node.engine, node.spool).step()
    assert {(row.kind, row.changed) for row in node.rows(conflict)} == {("identity", "StudyInstanceUID")}
    for study in (images[0].StudyInstanceUID, other):
        assert "StudyInstanceUID" in describe(explain(node.engine, study))
    (job,) = route(node)
    delivered(node, job)
    totals = account(read(node.engine), lambda _destination, _outcome, _made: True)
    assert totals.outdated == ()  # nothing that was sent is wrong
    assert f"conflict: 2 images that came as series {images[0].SeriesInstanceUID} of study {other}" in describe_account(
        totals
    )


def test_an_image_in_another_transfer_syntax_is_another_encoding(node: Node) -> None:
    images = ct_series(1, 16)
    send(node, images)
    send(node, images, syntax=ImplicitVRLittleEndian)
    Conflicts(node.engine, node.spool).step()
    assert [(row.kind, row.changed) for row in node.rows(conflict)] == [("encoding", "TransferSyntaxUID")]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"PatientID": "2"}, Difference(kind="identity", keywords=("PatientID",))),
        ({"WindowCenter": "5"}, Difference(kind="content", keywords=("WindowCenter",))),
        ({"WindowCenter": "5", "AccessionNumber": "2"}, Difference(kind="identity", keywords=("AccessionNumber",))),
        ({"PixelData": b"\1\0" * 256}, Difference(kind="content", keywords=("PixelData",))),
    ],
)
def test_what_differs_is_told_by_keyword(tmp_path: Path, change: dict[str, Any], difference: Difference) -> None:
    (image,) = ct_series(1, 16)
    (first,) = write([image], tmp_path / "first")
    for keyword, value in change.items():
        setattr(image, keyword, value)
    (second,) = write([image], tmp_path / "second")
    assert compare(*(dcmread(path, stop_before_pixels=True) for path in (first, second))) == difference
