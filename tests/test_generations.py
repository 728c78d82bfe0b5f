"""What comes after a series was complete: late images, the same images, and images of another identity."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_files import ct_series, write
from peers import dcmtk
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from receivers import Node, associate, configuration, send_dataset, until
from scanner import RULE

from node.config import parse
from node.jobs.conflicts import Conflicts
from node.jobs.engine import Jobs
from node.jobs.router import Router
from node.ledger.engine import begin_immediate, now
from node.ledger.jobs import Job, list_jobs
from node.ledger.tables import association, conflict, delivery, event, series
from node.operate.account import account
from node.operate.account import tell as tell_account
from node.operate.books import read
from node.operate.explain import explain, tell
from node.operate.status import status
from node.studies.comparison import Difference, compare


def send(node: Node, datasets: Sequence[Dataset], calling: str = "CT1", syntax: str = ExplicitVRLittleEndian) -> None:
    sender = associate(node, [(CTImageStorage, syntax)], calling=calling)
    assert [send_dataset(sender, dataset).Status for dataset in datasets] == [0x0000] * len(datasets)
    sender.release()
    until(lambda: (rows := node.rows(association)) and all(row.closed_at for row in rows))


def route(node: Node) -> list[Job]:
    """Let time pass until everything is complete; the jobs, oldest generation first."""
    config = parse(configuration(node.spool.folder, node.port) + RULE)
    Router(config, node.engine, node.spool, Jobs(node.engine)).step(now() + 3600.0)
    with node.engine.connect() as connection:
        return sorted(list_jobs(connection), key=lambda job: job.generation)


def test_a_late_image_makes_a_generation_whose_jobs_supersede_the_unfinished_ones(node: Node) -> None:
    images = ct_series(4, 16)
    send(node, images[:3])
    (first,) = route(node)
    assert first.state == "SCHEDULED"
    send(node, images[3:])
    first, second = route(node)
    assert (first.state, first.reason) == ("CANCELED", "superseded by generation 2 of its series")
    assert (second.generation, second.state) == (2, "SCHEDULED")
    (row,) = node.rows(series)
    assert (row.state, row.generation, row.instances) == ("COMPLETE", 2, 4)
    assert "superseded by generation 2" in tell(explain(node.engine, images[0].StudyInstanceUID))


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


def test_a_changed_identity_is_named_by_keyword_and_what_was_sent_under_the_old_one_is_flagged(node: Node) -> None:
    images = ct_series(3, 16)
    send(node, images)
    (job,) = route(node)
    owed = {"job_id": job.id, "destination": "pacs", "attempt": 1, "created_at": now(), "updated_at": now()}
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.insert(delivery).values(**owed, state="STORED"))
    send(node, changed(images, PatientID="MERGED-9", PatientName="Merged^Name", AccessionNumber="A2"))
    assert Conflicts(node.engine, node.spool).step() == 3
    assert {(row.kind, row.changed) for row in node.rows(conflict)} == {
        ("identity", "AccessionNumber, PatientName, PatientID")
    }
    assert route(node) == [job]
    (told,) = [row for row in node.rows(event) if row.what == "identity changed"]
    assert told.detail.startswith("3 image(s) came again with other AccessionNumber, PatientName, PatientID")
    found = status(node.engine, node.spool.folder)
    assert (found["conflicts"], found["identity_changed"], found["outdated_results"]) == (3, 3, 1)
    books = account(read(node.engine), lambda _destination, _outcome: True)
    assert [(o.job_id, o.destination) for o in books.outdated] == [(job.id, "pacs")]
    words = tell_account(books) + tell(explain(node.engine, images[0].StudyInstanceUID))
    assert words.count("IDENTITY CHANGED") == 2
    assert "MERGED" not in words + str(node.rows(event)).upper()


def test_a_sop_instance_uid_used_again_in_another_study_is_a_conflict_that_both_studies_explain(
    node: Node, tmp_path: Path
) -> None:
    images = ct_series(2, 16)
    other = generate_uid()
    for folder, these in (("one", images), ("two", changed(images, StudyInstanceUID=other))):
        write(these, tmp_path / folder)
        done = dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, tmp_path / folder)
        assert done.returncode == 0, done.stdout
    assert len(node.rows(conflict)) == 2
    Conflicts(node.engine, node.spool).step()
    assert {(row.kind, row.changed) for row in node.rows(conflict)} == {("identity", "StudyInstanceUID")}
    for study in (images[0].StudyInstanceUID, other):
        assert "StudyInstanceUID" in tell(explain(node.engine, study))


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
