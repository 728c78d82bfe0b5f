"""Answers of a destination are written several at a time, and none is lost when an attempt ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from delivery_jobs import JOB, FinishedJob
from dicom_files import ct_series

from node.deliver import answer_record
from node.deliver.answer_record import AnswerRecord
from node.deliver.object_result import Answer
from node.ledger.deliveries import Claim, begin_delivery
from node.ledger.engine import begin_immediate
from node.ledger.pending_deliveries import PendingObject, instances_to_store
from node.ledger.transitions import cancel_job
from node.reasons import ReasonCode, reason

TAKEN = Answer(status=0x0000, comment="")


class Scene:
    """A delivery of forty images that has begun."""

    def __init__(self, folder: Path) -> None:
        self.job = FinishedJob(folder / "node", ct_series(n=40, size=8), {"pacs": {"folder": str(folder / "disk")}})
        self.commits = 0
        sa.event.listen(self.job.engine, "commit", self._count)

    def _count(self, _connection: sa.Connection) -> None:
        self.commits += 1

    def begin(self) -> tuple[Claim, list[PendingObject]]:
        with begin_immediate(self.job.engine) as connection:
            claim = begin_delivery(connection, JOB, "pacs")
            assert claim is not None
            return claim, instances_to_store(connection, JOB, "pacs")

    def record(self, claim: Claim, *, one_by_one: bool = False) -> AnswerRecord:
        self.commits = 0
        return AnswerRecord(self.job.engine, claim, one_by_one=one_by_one)


def test_sixteen_answers_are_one_transaction_and_the_last_ones_another(tmp_path: Path):
    scene = Scene(tmp_path)
    claim, images = scene.begin()
    with scene.record(claim) as record:
        for image in images:
            record.add(image, TAKEN)
        assert (scene.commits, len(scene.job.answers())) == (2, 32)
    assert (scene.commits, len(scene.job.answers())) == (3, 40)


def test_an_answer_does_not_wait_for_slow_ones_and_a_report_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene = Scene(tmp_path)
    claim, images = scene.begin()
    with scene.record(claim, one_by_one=True) as record:
        for image in images[:3]:
            record.add(image, TAKEN)
        assert (scene.commits, len(scene.job.answers())) == (3, 3)
    monkeypatch.setattr(answer_record, "_LONGEST_SECONDS", 0.0)
    with scene.record(claim) as record:
        record.add(images[3], TAKEN)
        assert (scene.commits, len(scene.job.answers())) == (1, 4)


def test_what_was_answered_is_written_though_the_attempt_fails(tmp_path: Path):
    scene = Scene(tmp_path)
    claim, images = scene.begin()
    first, second = images[:2]

    def attempt() -> None:
        with scene.record(claim) as record:
            record.add(first, TAKEN)
            record.add(second, Answer(status=0xA700, comment="full"))
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        attempt()
    answers = scene.job.answers()
    assert (answers[first.sop_instance_uid], answers[second.sop_instance_uid]) == ((0, ""), (0xA700, "full"))
    claim, images = scene.begin()
    assert len(images) == 39
    with scene.record(claim) as record:
        record.add(second, TAKEN)
    assert set(scene.job.answers().values()) == {(0, "")}, "the second answer takes the place of the first"


def test_a_cancellation_shows_when_answers_are_written(tmp_path: Path):
    scene = Scene(tmp_path)
    claim, images = scene.begin()
    with scene.record(claim) as record:
        record.add(images[0], TAKEN)
        with begin_immediate(scene.job.engine) as connection:
            cancel_job(connection, JOB, reason(ReasonCode.CANCELLED, operator=""))
        assert record.is_wanted
    assert not record.is_wanted
    assert len(scene.job.answers()) == 1
