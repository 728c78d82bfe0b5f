"""Modality Performed Procedure Steps: kept before they are answered, with the statuses of the standard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dicom_files import ct_series
from receivers import Node, ReceiverProcess
from scanner import begin, say
from timeline import timeline

from node.ledger.tables import procedure_step, procedure_step_instance
from node.spool import is_uid


def test_a_step_is_kept_from_its_beginning_to_its_completion_with_what_it_made(node: Node) -> None:
    images = ct_series(3, 16)
    response, uid = begin(node, images[0].StudyInstanceUID)
    assert response.Status == 0x0000
    (row,) = node.rows(procedure_step)
    assert (row.sop_instance_uid, row.study_instance_uid) == (uid, images[0].StudyInstanceUID)
    assert (row.modality, row.calling_ae, row.state) == ("CT", "CT1", "IN PROGRESS")
    assert say(node, uid, "IN PROGRESS", images[:1]).Status == 0x0000
    assert say(node, uid, "COMPLETED", images).Status == 0x0000
    assert node.rows(procedure_step)[0].state == "COMPLETED"
    made = {(r.series_instance_uid, r.sop_instance_uid) for r in node.rows(procedure_step_instance)}
    series = images[0].SeriesInstanceUID
    assert made == {(series, ""), *((series, image.SOPInstanceUID) for image in images)}
    assert timeline(node.engine) == [
        ("procedure step in progress", "CT at CT1"),
        ("procedure step completed", "CT at CT1: 3 images in 1 series"),
    ]


def test_a_final_step_may_no_longer_be_updated(node: Node) -> None:
    _, uid = begin(node, "1.2.3")
    assert say(node, uid, "DISCONTINUED").Status == 0x0000
    refused = say(node, uid, "COMPLETED")
    assert (refused.Status, refused.ErrorID) == (0x0110, 0xA710)
    assert node.rows(procedure_step)[0].state == "DISCONTINUED"


@pytest.mark.parametrize(
    ("study", "changes", "status"),
    [
        ("", {}, 0x0120),
        ("1.2.3", {"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106),
        ("1.2.3", {"PerformedProcedureStepStatus": ""}, 0x0106),
    ],
)
def test_a_step_that_lacks_what_it_needs_is_refused(
    node: Node, study: str, changes: dict[str, str], status: int
) -> None:
    response, _ = begin(node, study, **changes)
    assert response.Status == status
    assert node.rows(procedure_step) == []


def test_duplicate_and_unknown_steps_are_refused(node: Node) -> None:
    _, uid = begin(node, "1.2.3")
    assert begin(node, "1.2.3", uid)[0].Status == 0x0111
    assert say(node, "1.2.99", "COMPLETED").Status == 0x0112
    assert say(node, uid, "PAUSED").Status == 0x0106


def test_a_step_that_comes_without_a_uid_gets_one(node: Node) -> None:
    response, _ = begin(node, "1.2.3", None)
    assert response.Status == 0x0000
    assert is_uid(node.rows(procedure_step)[0].sop_instance_uid)


@pytest.mark.thorough
def test_an_answered_step_outlives_the_death_of_the_receiver(
    receiver_process: Callable[..., ReceiverProcess],
) -> None:
    process = receiver_process()
    process.start()
    images = ct_series(2, 16)
    _, uid = begin(process, images[0].StudyInstanceUID)
    assert say(process, uid, "COMPLETED", images).Status == 0x0000
    process.kill()
    node = process.node()
    assert [row.state for row in node.rows(procedure_step)] == ["COMPLETED"]
    assert len(node.rows(procedure_step_instance)) == 3
